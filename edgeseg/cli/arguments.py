"""What stands where a model, a run or images are expected, judged by its name before any of it is opened."""

from __future__ import annotations

import re
import sys
from itertools import islice
from pathlib import Path
from typing import TypeVar

import typer

from edgeseg.core.errors import ModelFileError
from edgeseg.core.findmodel import ENDINGS, find_model

Given = TypeVar("Given", str, Path)
_SCHEME = re.compile(r"[a-z+]+:(/|$)")
"""Of a source such as phantom://; a path keeps one of the two slashes, or none at its end."""
_LOOKED_AT = 2000
"""Entries of a folder that are looked at for an image; a folder on a slow network must not hold a command."""


def take_model(path: Path, usage: str) -> Path:
    """Give the model file that is meant by MODEL, or refuse what is plainly something else.

    Args:
        path: A model file, or a folder that train, compress or search wrote.
        usage: What to type, for whoever typed something else.

    Raises:
        typer.BadParameter: It is an image, a recording, a source or a folder of images.
        ModelFileError: The folder holds no model file, or several.
    """
    kind = _name_other(path)
    if kind is None:
        return find_model(path)
    raise typer.BadParameter(f"expected a model file or a run as MODEL, got {kind}: {path}. Type: {usage}")


def take_run(path: Path, usage: str) -> Path:
    """Refuse as RUN what has nothing left to start from: a model file, images, a source."""
    kind = f"a {path.suffix} file" if path.suffix in ENDINGS else _name_other(path)
    if kind is None:
        return path
    raise typer.BadParameter(f"expected a finished run as RUN, got {kind}: {path}. Type: {usage}")


def put_model_first(first: Given, second: Given) -> tuple[Given, Given]:
    """Exchange two arguments where only the second can be the model, and say so on stderr."""
    place = Path(first)
    if is_model(place) or not is_model(Path(second)) or not (place.is_dir() or _name_other(place)):
        return first, second
    print(f"edgeseg: MODEL comes first: {second} was taken as the model, and not {first}.", file=sys.stderr)
    return second, first


def is_model(path: Path) -> bool:
    """Say whether a path means a model file, by itself or as a folder of edgeseg's."""
    if path.is_file():
        return path.suffix in ENDINGS
    try:
        return path.is_dir() and find_model(path) != path
    except ModelFileError:
        return False


def _name_other(path: Path) -> str | None:
    """Name what a path is if it is no model for sure."""
    from edgeseg.core.images import SUFFIXES
    from edgeseg.runtime.sources import dicom, video

    suffix = path.suffix.lower()
    if _SCHEME.match(str(path)) or (str(path).isdecimal() and not path.exists()):
        return "a source of frames"
    if suffix in SUFFIXES:
        return "an image"
    if suffix in (*video.SUFFIXES, *dicom.SUFFIXES):
        return "a recording"
    if path.is_dir() and not is_model(path) and _holds_images(path):
        return "a folder of images"
    return None


def _holds_images(folder: Path) -> bool:
    """Say whether there are images in a folder, or in a folder in it."""
    from edgeseg.core.images import SUFFIXES
    from edgeseg.runtime.sources import dicom

    entries = (entry for pattern in ("*", "*/*") for entry in folder.glob(pattern))
    known = {*SUFFIXES, *dicom.SUFFIXES}
    return any(entry.suffix.lower() in known for entry in islice(entries, _LOOKED_AT))
