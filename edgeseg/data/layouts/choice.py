"""What a person says of a data folder, as one text: its layout, its folders of images and masks, names of its classes.

The text travels as the layout: a run keeps it, and so everything that opens the data again opens them alike.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote_plus, urlencode

from edgeseg.core.errors import DataError
from edgeseg.core.limits import CLASSES, NAME_LETTERS
from edgeseg.core.redact import is_printable

AUTO, FOLDERS = "auto", "folders"
# Brightness from which a mask of 8 or 16 bits may be divided.
_BRIGHTEST = 65535
_SIGN = "?"
_FIELDS = ("images", "masks", "class", "threshold")


@dataclass(frozen=True)
class LayoutChoice:
    """The layout of a data folder as it was given; None and empty is found out."""

    name: str | None = None
    images: str | None = None
    """The folder of images, in the data folder or absolute."""
    masks: str | None = None
    class_names: tuple[str, ...] = ()
    threshold: int | None = None
    """Masks are marked where they are brighter."""

    def __post_init__(self) -> None:
        if (self.images is not None or self.masks is not None) and self.name not in (None, FOLDERS):
            raise ValueError(f"expected no other layout beside --images and --masks, got {self.name}")
        names = [name.casefold() for name in self.class_names]
        for name in self.class_names:
            if not 0 < len(name.strip()) <= NAME_LETTERS or not is_printable(name) or "/" in name:
                raise ValueError(
                    f"expected the name of a class, of 1 to {NAME_LETTERS} letters without a slash, got {name[:80]!r}"
                )
        if len(set(names)) < len(names) or len(names) > CLASSES:
            raise ValueError(f"expected each class's name once, got {', '.join(self.class_names)[:200]}")
        if self.threshold is not None and not 0 <= self.threshold < _BRIGHTEST:
            raise ValueError(f"expected a threshold from 0 to {_BRIGHTEST - 1}, got {self.threshold}")

    @property
    def text(self) -> str | None:
        """Write the choice as one text, which `parse_layout` reads; None where nothing was given."""
        values = [("images", self.images), ("masks", self.masks), *(("class", name) for name in self.class_names)]
        given = [(key, value) for key, value in [*values, ("threshold", self.threshold)] if value is not None]
        if not given:
            return self.name
        name = self.name or (FOLDERS if self.images or self.masks else AUTO)
        return f"{name}{_SIGN}{urlencode(given, quote_via=quote_plus, safe='/', errors='surrogateescape')}"


def parse_layout(text: str | None) -> LayoutChoice:
    """Read a layout as it is given on the command line and kept in a run: NAME or NAME?masks=DIR&class=NAME.

    Raises:
        DataError: The text is none.
    """
    name, sign, rest = (text or "").partition(_SIGN)
    try:
        pairs = parse_qsl(rest, keep_blank_values=True, strict_parsing=True, errors="surrogateescape") if rest else []
        single = dict(pairs)
        _check_fields(single, bool(sign))
        return LayoutChoice(
            name if name not in ("", AUTO) else None,
            single.get("images"),
            single.get("masks"),
            tuple(value for key, value in pairs if key == "class"),
            int(single["threshold"]) if "threshold" in single else None,
        )
    except ValueError as error:
        raise DataError(
            f"Expected a layout as NAME or NAME?masks=DIR&class=NAME, got {(text or '')[:200]!r}: {error}.",
            "Leave --layout out, and give --images, --masks and --class-name.",
        ) from error


def _check_fields(given: Mapping[str, str], expected: bool) -> None:
    if not set(given) <= set(_FIELDS) or expected != bool(given):
        raise ValueError(f"expected {', '.join(_FIELDS)} behind the question mark")


def write_layout(
    data: Path,
    layout: str | None,
    images: Path | None = None,
    masks: Path | None = None,
    class_names: Sequence[str] = (),
    threshold: int | None = None,
) -> str | None:
    """Write the options of a command as one text.

    Args:
        data: The data folder.
        layout: A layout's name, or such a text.
        images: The folder of images: in the data folder, or else from here.
        masks: The folder of masks, likewise.
        class_names: Names of the classes, in their order.
        threshold: Masks are marked where they are brighter.

    Raises:
        ValueError: The options contradict one another.
    """
    given = parse_layout(layout)
    return LayoutChoice(
        given.name,
        given.images if images is None else _locate(data, images),
        given.masks if masks is None else _locate(data, masks),
        tuple(class_names) or given.class_names,
        given.threshold if threshold is None else threshold,
    ).text


def strip_layout(text: str | None) -> str | None:
    """Keep the name of a layout alone, without folders and classes: a model's card holds no path."""
    name = (text or "").partition(_SIGN)[0]
    return name if name not in ("", AUTO) else None


def _locate(data: Path, folder: Path) -> str:
    """Name a folder as below the data folder where it lies there, else absolutely."""
    place = data / folder
    if not place.is_dir() and folder.is_dir():
        place = folder
    # as written, without following links: a data folder may be made of links
    inside, outside = Path(os.path.normpath(Path.cwd() / data)), Path(os.path.normpath(Path.cwd() / place))
    return str(outside.relative_to(inside) if outside.is_relative_to(inside) else outside)
