"""Images, played in the order of their names: those of a folder, those that a pattern finds, or a single one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeseg.core.errors import DataError, LimitError, SourceError
from edgeseg.core.images import SUFFIXES, list_images, read_image
from edgeseg.core.limits import IMAGE_BYTES, check_regular
from edgeseg.core.names import show_name
from edgeseg.runtime.sources.base import Source


class ImagesSource(Source):
    """Reads one image after the other."""

    def __init__(self, text: str, colour: bool = False) -> None:
        """List the images.

        Args:
            text: A folder, an image, or a pattern such as `frames/*.png`; a data folder's images/ is found by itself.
            colour: Whether the model wants colour.
        """
        self._colour = colour
        self._images = iter(_find_images(text))
        self._shown = 0
        self._failure: DataError | LimitError | None = None

    def read(self) -> NDArray[Any] | None:
        """Read the next image; damaged ones are left out and counted.

        Raises:
            EdgesegError: Not one image can be read.
        """
        for path in self._images:
            image = self._read_or_count(path)
            if image is not None:
                self._shown += 1
                self.name = show_name(path.name)
                return image
        if self._failure is not None and not self._shown:
            raise self._failure
        return None

    def _read_or_count(self, path: Path) -> NDArray[Any] | None:
        try:
            check_regular(path, IMAGE_BYTES)
            return read_image(path, self._colour)
        except (DataError, LimitError) as error:
            self._failure = error
            self.health = dataclasses.replace(self.health, corrupt=self.health.corrupt + 1)
            return None


def is_pattern(text: str) -> bool:
    """Say whether a text is a pattern for file names."""
    return any(sign in text for sign in "*?[")


def is_image(path: Path) -> bool:
    """Say whether a path names a single image."""
    return path.suffix.lower() in SUFFIXES


def _find_images(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        images = _list_folder(path)
    elif path.exists():
        images = [path]
    else:
        images = _match_images(path) if is_pattern(text) else []
    if not images:
        raise SourceError(f"Expected images in {text}, got none.", "Name a folder or a pattern for PNG or JPEG images.")
    return images


def _match_images(pattern: Path) -> list[Path]:
    """Match a pattern from the last folder that is there by its exact name: brackets in that are no pattern."""
    root = next(folder for folder in pattern.parents if folder.is_dir() or folder == folder.parent)
    try:
        return sorted(path for path in root.glob(str(pattern.relative_to(root))) if is_image(path))
    except (ValueError, NotImplementedError) as error:
        raise SourceError(
            f"Expected a pattern for images, got {pattern}: {error}.", "Write for example 'frames/*.png'."
        ) from error


def _list_folder(path: Path) -> list[Path]:
    inner = path / "images"
    return list_images(path) or (list_images(inner) if inner.is_dir() else [])
