"""Where a recording puts its pictures: a file for each, or one video that holds them all without loss."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedWriter
from itertools import chain, count
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeseg.core.images import encode_png
from edgeseg.runtime.sinks.matroska import PngVideo
from edgeseg.runtime.sources.base import Frame

STEM_BYTES = 200
"""Of a file's name, which may have 255 bytes, some are kept for what makes it different from others."""


@dataclass(frozen=True)
class Place:
    """Where a picture is: a file in the recording, and its number in there if it is a video."""

    file: str
    position: int | None = None


class Shelf(ABC):
    """Keeps pictures of one kind, under a name in a recording's folder."""

    @abstractmethod
    def __init__(self, folder: Path, name: str) -> None:
        """Make room.

        Raises:
            OSError: The folder cannot be written.
        """

    @abstractmethod
    def put(self, image: NDArray[Any], frame: Frame, seconds: float) -> Place:
        """Keep a picture; it is whole on the disk when this returns.

        Args:
            image: Grey or BGR.
            frame: What the picture is of; a file of its own is named after it.
            seconds: Since the recording's first frame.

        Raises:
            OSError: There is no room.
        """

    def close(self) -> None:  # noqa: B027 - single files are closed already
        """Finish what was begun."""


class PngShelf(Shelf):
    """Keeps every picture in a file of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder / name, name
        self._folder.mkdir()

    def put(self, image: NDArray[Any], frame: Frame, seconds: float) -> Place:  # noqa: ARG002 - a file has no time
        """Write a file."""
        data = encode_png(image)
        with self._open_new(frame) as file:
            file.write(data)
            return Place(f"{self._name}/{Path(file.name).name}")

    def _open_new(self, frame: Frame) -> BufferedWriter:
        """Open a file under a name that is free: a.png may stand beside a.jpg, and come again with --loop."""
        number = f"{frame.number:08d}"
        stem = os.fsdecode(os.fsencode(Path(frame.name).stem)[:STEM_BYTES]) if frame.name else number
        names = chain((stem, f"{stem}-{number}"), (f"{stem}-{number}-{again}" for again in count(2)))
        while True:
            with suppress(FileExistsError):
                return (self._folder / f"{next(names)}.png").open("xb")


class VideoShelf(Shelf):
    """Keeps all pictures in one video; where their size changes, another begins."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._size = (0, 0)
        self._videos = 0
        self._video: PngVideo | None = None

    def put(self, image: NDArray[Any], frame: Frame, seconds: float) -> Place:  # noqa: ARG002 - the index has it
        """Append to the video."""
        height, width = image.shape[:2]
        if self._video is None or self._size != (height, width):
            self._video = self._begin(height, width)
        self._video.append(encode_png(image), seconds)
        return Place(self._file, self._video.count - 1)

    def close(self) -> None:
        """Close the video."""
        if self._video is not None:
            self._video.close()
            self._video = None

    @property
    def _file(self) -> str:
        return f"{self._name}.mkv" if self._videos == 1 else f"{self._name}-{self._videos}.mkv"

    def _begin(self, height: int, width: int) -> PngVideo:
        self.close()
        self._videos, self._size = self._videos + 1, (height, width)
        return PngVideo(self._folder / self._file, width, height)


SHELVES: dict[str, type[Shelf]] = {"png": PngShelf, "video": VideoShelf}
