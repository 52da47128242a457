"""The files of a frame: its label map, its overlay, the overlay video of a clip, and the names that they get."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import OutputError
from edgeseg.core.process import quiet_native_output
from edgeseg.prediction.inputs import Item

Labels = NDArray[np.uint8]
OVERLAYS = "overlays"
PART = ".part"
# JPEG of this quality shows thin outlines without halos, in a tenth of the time of PNG.
_QUALITY = 95
# Label maps are large areas of one value: run lengths without a filter need less time and half the room.
_PNG = (
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE),
)
# File systems allow 255 bytes for a name; the rest is for endings and the names of parts.
_NAME_BYTES = 200
# FFmpeg's codecs by OpenCV's names: VP8 plays in browsers, VLC and Windows; where it is missing, MPEG-4 remains.
_CODECS = (("VP80", ".webm"), ("mp4v", ".mp4"))


@dataclass(frozen=True)
class MaskFormat:
    """How label maps are stored."""

    folder: str
    ending: str
    write: Callable[[str, Labels, float | None], None]
    """Writes labels with their pixel size into a new file."""


def _write_bytes(path: str, data: bytes) -> None:
    # few calls of the system: on some machines each takes as long as a small label map
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        handle = os.open(path, flags, 0o666)
    except FileNotFoundError:
        _make_parent(path)
        handle = os.open(path, flags, 0o666)
    try:
        if os.write(handle, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(handle)


def _make_parent(path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)


def _write_png(path: str, labels: Labels, mm_per_px: float | None) -> None:  # noqa: ARG001 - PNG has no millimetres
    _write_bytes(path, bytes(cv2.imencode(".png", labels, _PNG)[1]))


def _write_npy(path: str, labels: Labels, mm_per_px: float | None) -> None:  # noqa: ARG001 - neither has NumPy
    data = io.BytesIO()
    np.save(data, labels)
    _write_bytes(path, data.getvalue())


def _write_nifti(path: str, labels: Labels, mm_per_px: float | None) -> None:
    import SimpleITK

    _make_parent(path)
    image = SimpleITK.GetImageFromArray(labels)
    if mm_per_px is not None:
        image.SetSpacing((mm_per_px, mm_per_px))
    try:
        SimpleITK.WriteImage(image, path, True)
    except RuntimeError as error:
        raise OutputError(
            f"Writing a NIfTI file into {Path(path).parent} failed.",
            "Check that the disk has room and that you may write there.",
        ) from error


MASKS = {
    "png": MaskFormat("masks", ".png", _write_png),
    "npy": MaskFormat("npy", ".npy", _write_npy),
    "nifti": MaskFormat("nifti", ".nii.gz", _write_nifti),
}


class OutputNames:
    """Names of an item's files without ending: of `x.png` and `x.jpg` neither becomes `x`."""

    def __init__(self, items: Iterable[Item], taken: Iterable[str] = ()) -> None:
        """Count which names would meet.

        Args:
            items: All items.
            taken: Names that were given before an interruption.
        """
        # file systems of macOS and Windows would merge names that differ in case alone
        self._counts = Counter(item.stem.casefold() for item in items if item.kind != "video")
        self._taken = {name.casefold() for name in taken}

    def choose(self, item: Item, is_clip: bool) -> str:
        """Choose a name; frames of a clip lie in a folder of the clip's full name, which no other folder can have."""
        alone = not is_clip and self._counts[item.stem.casefold()] == 1
        name = _shorten(item.stem if alone else item.name)
        tried, number = name, 1
        while tried.casefold() in self._taken:
            number += 1
            tried = f"{name}-{number}"
        self._taken.add(tried.casefold())
        return tried


def _shorten(name: str) -> str:
    """Shorten a file's name that has no room for further endings."""
    path = PurePosixPath(name)
    data = os.fsencode(path.name)
    if len(data) <= _NAME_BYTES:
        return name
    start = data[: _NAME_BYTES - 9].decode("utf-8", "ignore") if path.name.isprintable() else "long"
    return str(path.with_name(f"{start}-{hashlib.sha256(data).hexdigest()[:8]}"))


def name_frame(stem: str, number: int) -> str:
    """Name a clip's frame: its number in the clip, from 0."""
    return f"{stem}/{number:06d}"


def put_file(path: str, write: Callable[[str], object]) -> None:
    """Write a file whole or not at all; unlike `core.files.write_bytes` it does not wait for the disk.

    An interrupted run writes a frame again until its row is there, so the loss of a machine's power costs single files.

    Args:
        path: The file.
        write: Writes it under the name that it is given.
    """
    # strings: with pathlib the names of a small image would take as long as its label map
    part = name_part(path)
    write(part)
    os.replace(part, path)  # noqa: PTH105


def name_part(path: str) -> str:
    """Name the unfinished file of a file: always the same, so that the next try replaces it."""
    folder, name = path.rsplit("/", 1)
    ending = ".nii.gz" if name.endswith(".nii.gz") else name[name.rindex(".") :]
    return f"{folder}/.{name.removesuffix(ending)}{PART}{ending}"


def remove_parts(folder: Path) -> None:
    """Remove the unfinished files that an interruption left."""
    for place, _, names in os.walk(folder):
        for name in names:
            if name.startswith(".") and f"{PART}." in name:
                Path(place, name).unlink(missing_ok=True)


def write_masks(
    folder: Path, name: str, labels: Labels, formats: Sequence[str], mm_per_px: float | None
) -> tuple[str, ...]:
    """Write a label map in the formats that have a file for each frame.

    Returns:
        The files, relative to the folder.
    """
    written = []
    for form in (MASKS[name] for name in formats if name in MASKS):
        file = f"{form.folder}/{name}{form.ending}"
        put_file(f"{folder}/{file}", lambda path, write=form.write: write(path, labels, mm_per_px))  # type: ignore[misc]
        written.append(file)
    return tuple(written)


def write_overlay(folder: Path, name: str, picture: Labels) -> str:
    """Write an overlay as JPEG; gives the file, relative to the folder."""
    file = f"{OVERLAYS}/{name}.jpg"
    data = bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])
    put_file(f"{folder}/{file}", lambda path: _write_bytes(path, data))
    return file


class OverlayVideo:
    """A video that browsers and ordinary players open, with every frame that it is given; it appears when it is whole.

    WebM with VP8, where OpenCV's FFmpeg has it. Sides of odd length get a black line, since both codecs halve colours.
    """

    def __init__(self, folder: Path, name: str, fps: float) -> None:
        self._folder, self._name, self._fps = folder / OVERLAYS, name, fps
        self._size = (0, 0)
        self._count = 0
        self._writer: cv2.VideoWriter | None = None
        self._path = self._part = folder

    def write(self, picture: Labels) -> None:
        """Append a frame; one of another size than the first is scaled to it: OpenCV would drop it without a word."""
        if self._writer is None:
            self._size = picture.shape[1], picture.shape[0]
            self._writer = self._open()
        if (picture.shape[1], picture.shape[0]) != self._size:
            picture = np.asarray(cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        self._writer.write(np.pad(picture, ((0, self._size[1] % 2), (0, self._size[0] % 2), (0, 0))))
        self._count += 1

    def close(self) -> str | None:
        """Finish the video; gives its name in the folder, None where there was no frame.

        Raises:
            OutputError: The disk is full, of which OpenCV says nothing.
        """
        if self._writer is None:
            return None
        self._writer.release()
        self._writer = None
        if not self._is_whole():
            self.discard()
            raise OutputError(
                f"Writing {self._path.name} into {self._folder} failed.",
                "Check that the disk has room and that you may write there.",
            )
        self._part.replace(self._path)
        return f"{OVERLAYS}/{self._path.relative_to(self._folder).as_posix()}"

    def discard(self) -> None:
        """Give the video up."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        if self._part != self._path:
            with suppress(OSError):
                self._part.unlink(missing_ok=True)

    def _open(self) -> cv2.VideoWriter:
        size = self._size[0] + self._size[0] % 2, self._size[1] + self._size[1] % 2
        for codec, ending in _CODECS:
            self._path = self._folder / f"{self._name}{ending}"
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # at the top: OpenCV crashes on names that are no UTF-8, which subfolders may have
            part = hashlib.sha256(os.fsencode(self._name)).hexdigest()[:16]
            self._part = self._folder.parent.absolute() / f".{part}{PART}{ending}"
            _refuse_odd(self._part)
            fourcc = cv2.VideoWriter.fourcc(*codec)
            with quiet_native_output():  # OpenCV prints that WebM calls VP8 otherwise
                writer = cv2.VideoWriter(str(self._part), cv2.CAP_FFMPEG, fourcc, self._fps, size)
            if writer.isOpened():
                return writer
            self.discard()
        raise OutputError(
            f"Expected an OpenCV that writes WebM or MP4 videos into {self._folder}, got one that does not.",
            "Leave out --overlay, or install opencv-python-headless.",
        )

    def _is_whole(self) -> bool:
        """Say whether the file's end was written, which knows how long the video is."""
        if not self._part.is_file():
            return False
        capture = cv2.VideoCapture(str(self._part), cv2.CAP_FFMPEG)
        counted = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        capture.release()
        return abs(counted - self._count) <= max(1.0, 0.01 * self._count)


def _refuse_odd(path: Path) -> None:
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise OutputError(
            f"Expected a folder for videos whose name is UTF-8, got {path.parent}.", "Name another --out."
        ) from error
