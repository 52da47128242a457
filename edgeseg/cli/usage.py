"""Checks of the command line: arguments in the wrong place, numbers out of range, no secrets in messages."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from edgeseg.core.errors import ModelFileError
from edgeseg.core.redact import redact

Given = TypeVar("Given", str, Path)
_LOG = logging.getLogger(__name__)
EVERYWHERE = ("verbose", "quiet")
"""Options of the program that every command takes as well."""
_LOOKED_AT = 2000
"""Entries of a folder that are looked at for an image; a folder on a slow network must not hold a command."""
LARGEST_WHOLE = 2**31 - 1
"""Frames, seeds and sizes end up in libraries that count with 32 bits."""
SHORTEST_MS = 1e-6
"""A nanosecond: a budget below it can only be a mistake."""


class SecretlessGroup(TyperGroup):
    """Hides secrets in usage errors: these may quote an argument, which may be an address with a password."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read what stands before the command."""
        with _without_secrets():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Read the command's own arguments, and run it."""
        with _without_secrets():
            return super().invoke(ctx)


@contextmanager
def _without_secrets() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # typer has brought its own copy of click's classes of late: what they share is that they can be shown
        if hasattr(error, "format_message") and isinstance(vars(error).get("message"), str):
            vars(error)["message"] = redact(vars(error)["message"])
        raise


_SCHEME = re.compile(r"[a-z+]+:(/|$)")
"""Of a source such as phantom://; a path keeps one of the two slashes, or none at its end."""


def take_model(path: Path, usage: str) -> Path:
    """Find the model file that MODEL means, or refuse an argument that is clearly something else.

    Args:
        path: A model file, or a folder that train, compress or search wrote.
        usage: The correct command, for the error message.

    Raises:
        typer.BadParameter: It is an image, a recording, a source or a folder of images.
        ModelFileError: The folder holds no model file, or several.
    """
    from edgeseg.core.modelfile import find_model

    kind = _name_other(path)
    if kind is None:
        return find_model(path)
    raise typer.BadParameter(f"expected a model file or a run as MODEL, got {kind}: {path}. Type: {usage}")


def take_run(path: Path, usage: str) -> Path:
    """Refuse as RUN what cannot be trained further: a model file, images, a source."""
    from edgeseg.core.modelfile import ENDINGS

    kind = f"a {path.suffix} file" if path.suffix in ENDINGS else _name_other(path)
    if kind is None:
        return path
    raise typer.BadParameter(f"expected a finished run as RUN, got {kind}: {path}. Type: {usage}")


def put_model_first(first: Given, second: Given) -> tuple[Given, Given]:
    """Swap two arguments when only the second can be the model, and warn."""
    place = Path(first)
    if is_model(place) or not is_model(Path(second)) or not (place.is_dir() or _name_other(place)):
        return first, second
    _LOG.warning("MODEL comes first: %s was taken as the model, and not %s.", second, first)
    return second, first


def is_model(path: Path) -> bool:
    """Say whether a path is a model file, or a folder of edgeseg's that holds one."""
    from edgeseg.core.modelfile import ENDINGS, find_model

    if path.is_file():
        return path.suffix in ENDINGS
    try:
        return path.is_dir() and find_model(path) != path
    except ModelFileError:
        return False


def _name_other(path: Path) -> str | None:
    """Name what a path is when it is certainly no model."""
    from edgeseg.frame.images import SUFFIXES
    from edgeseg.streaming.sources import dicom, files

    suffix = path.suffix.lower()
    if _SCHEME.match(str(path)) or (str(path).isdecimal() and not path.exists()):
        return "a source of frames"
    if suffix in SUFFIXES:
        return "an image"
    if suffix in (*files.VIDEO_SUFFIXES, *dicom.SUFFIXES):
        return "a recording"
    if path.is_dir() and not is_model(path) and _holds_images(path):
        return "a folder of images"
    return None


def _holds_images(folder: Path) -> bool:
    """Say whether a folder or one of its subfolders holds images."""
    from edgeseg.frame.images import SUFFIXES
    from edgeseg.streaming.sources import dicom

    entries = (entry for pattern in ("*", "*/*") for entry in folder.glob(pattern))
    known = {*SUFFIXES, *dicom.SUFFIXES}
    return any(entry.suffix.lower() in known for entry in islice(entries, _LOOKED_AT))


class NumberCommand(TyperCommand):
    """Refuses nan, infinity and overflow for every option; the range of an option is its own `min` and `max`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """List the command's own options, and those of the program that may stand behind the command, too."""
        return [*super().get_params(ctx), *(one for one in ctx.find_root().command.params if one.name in EVERYWHERE)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments and check every number."""
        rest = super().parse_args(ctx, args)
        for option in self.params:
            for value in _list_values(ctx.params.get(str(option.name))):
                check_number(value, option.opts[-1])
        return rest


def watch_numbers(app: typer.Typer) -> None:
    """Make every command of an app and of its groups a `NumberCommand`."""
    for command in app.registered_commands:
        command.cls = NumberCommand
    for group in app.registered_groups:
        if group.typer_instance is not None:
            watch_numbers(group.typer_instance)


def check_number(value: object, name: str) -> None:
    """Refuse nan, which compares with no limit, infinity, and numbers of more than 32 bits."""
    if isinstance(value, float) and not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, got {value}", param_hint=f"'{name}'")
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise typer.BadParameter(f"expected a number up to {LARGEST_WHOLE}, got {value}", param_hint=f"'{name}'")


def _list_values(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
