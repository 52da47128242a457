"""Recorded files: images of a folder or pattern in the order of their names, videos, and DICOM cines."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, EdgesegError, LimitError, SourceError
from edgeseg.core.limits import DICOM_BYTES, IMAGE_BYTES, VIDEO_BYTES, check_regular
from edgeseg.core.redact import show_name
from edgeseg.data.dicom import (
    CINE_TAGS,
    find_frame_rate,
    find_pixel_size,
    find_tissue_region,
    read_dicom_image,
    read_pixels_header,
    silent_dicom,
)
from edgeseg.data.reading import to_channels
from edgeseg.frame.images import SUFFIXES, list_images, read_image
from edgeseg.streaming.sources.base import Source, check_announced, retrieve_frame

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".mpeg", ".mpg", ".webm", ".m4v")
_PLAUSIBLE_FPS = (1.0, 240.0)
# OpenCV reports a corrupt frame and the end of a file alike; after so many the file has ended.
_MAX_CORRUPT_IN_A_ROW = 10
# Share by which a header may announce too many frames; containers often estimate their number.
_COUNT_TOLERANCE = 0.02
DICOM_SUFFIXES = (".dcm", ".dicom")
# DICOM PS3.10, 7.1: 128 bytes, then the prefix.
_PREAMBLE, _MAGIC = 128, b"DICM"


class ImagesSource(Source):
    """Reads one image after the other."""

    def __init__(self, text: str, colour: bool = False) -> None:
        """List the images.

        Args:
            text: A folder, an image, or a pattern such as `frames/*.png`; a data folder's images/ is found by itself.
            colour: Whether the model's input is colour.
        """
        self._colour = colour
        self._images = iter(_find_images(text))
        self._shown = 0
        self._failure: DataError | LimitError | None = None

    def read(self) -> NDArray[Any] | None:
        """Read the next image; corrupt ones are skipped and counted.

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
    """Tell whether a text is a glob pattern."""
    return any(sign in text for sign in "*?[")


def is_image(path: Path) -> bool:
    """Tell whether a path names an image."""
    return path.suffix.lower() in SUFFIXES


def _find_images(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        images = _list_folder(path)
    elif path.exists():
        images = [path]
    else:
        images = [match for match in match_pattern(path)[1] if is_image(match)] if is_pattern(text) else []
    if not images:
        raise SourceError(f"Expected images in {text}, got none.", "Name a folder or a pattern for PNG or JPEG images.")
    return images


def match_pattern(pattern: Path) -> tuple[Path, list[Path]]:
    """Match a pattern below the last folder that exists as written: brackets in its name are no pattern.

    Returns:
        This folder, and what matches.
    """
    root = next(folder for folder in pattern.parents if folder.is_dir() or folder == folder.parent)
    try:
        return root, sorted(root.glob(str(pattern.relative_to(root))))
    except (ValueError, NotImplementedError) as error:
        raise SourceError(
            f"Expected a pattern for images, got {pattern}: {error}.", "Write for example 'frames/*.png'."
        ) from error


def _list_folder(path: Path) -> list[Path]:
    inner = path / "images"
    return list_images(path) or (list_images(inner) if inner.is_dir() else [])


class VideoSource(Source):
    """Reads a video file with OpenCV."""

    def __init__(self, path: Path) -> None:
        """Open a video and decode its first frame, since OpenCV opens files that it cannot decode."""
        if not path.exists():
            raise SourceError(f"Expected a video at {path}, got no such file.", "Check the path.")
        check_regular(path, VIDEO_BYTES)
        self._file_name = show_name(path.name)
        self._capture = _open_capture(path)
        self.announced: int = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._seen = 0
        try:
            check_announced(self._capture, self._file_name)
            self._first = self._next()
            if self._first is None:
                raise SourceError(
                    f"Expected a video with frames at {path}, got one that cannot be decoded.",
                    "Check that the file is whole and plays elsewhere.",
                )
        except EdgesegError:
            self._capture.release()
            raise
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        # some files announce 0 or 90000 frames per second
        self.fps = fps if _PLAUSIBLE_FPS[0] <= fps <= _PLAUSIBLE_FPS[1] else Source.fps

    def read(self) -> NDArray[Any] | None:
        """Decode the next frame; corrupt ones are skipped and counted."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return self._next()

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def _next(self) -> NDArray[Any] | None:
        for failed in range(_MAX_CORRUPT_IN_A_ROW):
            image = retrieve_frame(self._capture, self._file_name) if self._capture.grab() else None
            if image is not None:
                self._seen += 1
                self.health = dataclasses.replace(self.health, corrupt=self.health.corrupt + failed)
                return image
        self._count_missing()
        return None

    def _count_missing(self) -> None:
        """Count the frames that the header announces and the file does not hold."""
        left = self.announced - self._seen - self.health.corrupt
        if left > max(2, _COUNT_TOLERANCE * self.announced):
            self.health = dataclasses.replace(self.health, missing=left)


def _open_capture(path: Path) -> cv2.VideoCapture:
    """Open a file with FFmpeg where OpenCV has it: its other readers take frame1.avi for a sequence of images."""
    known = cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends()
    reader = cv2.CAP_FFMPEG if known else cv2.CAP_ANY
    # FFmpeg takes a relative name such as concat:x.avi for a URL
    whole = path.absolute()
    try:
        os.fsencode(whole).decode("utf-8")
    except UnicodeDecodeError:  # OpenCV crashes on a name that is no UTF-8
        # a name of the descriptor; FFmpeg opens the file again through it
        with path.open("rb") as file:
            return cv2.VideoCapture(f"/proc/self/fd/{file.fileno()}", reader)
    return cv2.VideoCapture(str(whole), reader)


def is_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM, by its suffix or, since scanners often write none, by its prefix."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    # reading files of /proc and /sys may block
    if not path.is_file() or path.stat().st_size <= _PREAMBLE:
        return False
    with path.open("rb") as file:
        return file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC


class DicomSource(Source):
    """Plays the frames of a DICOM file; corrupt ones are skipped and counted."""

    def __init__(self, path: Path, colour: bool = False) -> None:
        """Read the header.

        Args:
            path: A file with one frame or many.
            colour: Whether the model's input is colour; grey frames stay grey, and such a model refuses them.
        """
        if not path.exists():
            raise SourceError(f"Expected a DICOM file at {path}, got no such file.", "Check the path.")
        check_regular(path, DICOM_BYTES)
        self.name = show_name(path.name)
        self._path, self._colour, self._next, self._decoded = path, colour, 0, 0
        self.announced: int
        self._header, self.announced = read_pixels_header(path, CINE_TAGS)
        with silent_dicom(path):
            self.fps = find_frame_rate(self._header) or Source.fps
            self.mm_per_px = find_pixel_size(self._header)
            self.region = find_tissue_region(self._header)

    def read(self) -> NDArray[Any] | None:
        """Decode the next frame.

        Raises:
            DataError: Not one frame could be decoded.
        """
        while self._next < self.announced:
            self._next += 1
            try:
                image = read_dicom_image(self._header, self._path, self._next - 1)
            except DataError:
                # one corrupt frame is skipped; a file of which none can be decoded is an error
                if self._next == self.announced and self._decoded == 0:
                    raise
                self.health = dataclasses.replace(self.health, corrupt=self.health.corrupt + 1)
            else:
                self._decoded += 1
                return to_channels(image, self._colour and image.ndim == 3)
        return None
