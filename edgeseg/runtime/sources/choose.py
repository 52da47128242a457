"""Choose a source from what the user wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeseg.core.errors import SourceError, UnknownNameError
from edgeseg.runtime.sources.base import Source
from edgeseg.runtime.sources.camera import CameraSource
from edgeseg.runtime.sources.folder import FolderSource
from edgeseg.runtime.sources.phantom import PhantomSource
from edgeseg.runtime.sources.video import SUFFIXES, VideoSource

KINDS = ("phantom://", "0 (a camera's index)", "/dev/video0", "FILE.mp4", "FOLDER of images")


def open_source(text: str, colour: bool = False) -> Source:
    """Open a source.

    Args:
        text: What the user wrote, one of `KINDS`.
        colour: Whether the model wants colour.
    """
    return _find_opener(text, colour)()


def _find_opener(text: str, colour: bool) -> Callable[[], Source]:
    path = Path(text)
    if text.startswith("phantom://"):
        return lambda: PhantomSource(text, colour)
    if text.isdigit():
        return lambda: CameraSource(int(text))
    if text.startswith("/dev/"):
        return lambda: CameraSource(text)
    if path.is_dir():
        return lambda: FolderSource(path, colour)
    if path.suffix.lower() in SUFFIXES and not path.is_file():
        raise SourceError(f"Expected a video at {path}, got no such file.", "Check the path.")
    if path.suffix.lower() in SUFFIXES:
        return lambda: VideoSource(path)
    raise UnknownNameError("source", text, KINDS)
