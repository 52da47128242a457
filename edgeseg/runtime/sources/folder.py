"""A folder of images, played in the order of their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.core.images import list_images, read_image
from edgeseg.runtime.sources.base import Source


class FolderSource(Source):
    """Reads the images of a folder; a data folder's images/ is found by itself."""

    def __init__(self, path: Path, colour: bool = False) -> None:
        """List the images of a folder."""
        self._colour = colour
        self._images = iter(_find_images(path))

    def read(self) -> NDArray[Any] | None:
        """Read the next image."""
        path = next(self._images, None)
        return None if path is None else read_image(path, self._colour)


def _find_images(path: Path) -> list[Path]:
    inner = path / "images"
    images = list_images(path) or (list_images(inner) if inner.is_dir() else [])
    if not images:
        raise SourceError(f"Expected images in the folder {path}, got none.", "Name a folder with PNG or JPEG images.")
    return images
