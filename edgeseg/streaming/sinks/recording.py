"""A recording: masks and an index, of which every line names what is whole on the disk."""

from __future__ import annotations

import json
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedWriter
from itertools import chain, count
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from edgeseg.core.errors import LimitError, OutputError
from edgeseg.core.files import append_whole, explained_writes, write_json
from edgeseg.core.limits import TABLE_BYTES, read_regular
from edgeseg.core.schema import to_plain
from edgeseg.core.spec import ClassSpec
from edgeseg.frame.images import encode_png
from edgeseg.inference.masks import measure_areas
from edgeseg.streaming.sinks.base import Result, StreamInfo, Writer
from edgeseg.streaming.sources.base import Frame

_HEAD, _SEGMENT, _INFO, _TRACKS, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675
_TRACK = 1
_WHOLE_FRAME = 0x80
_NANOSECONDS = 1_000_000
"""In a unit of the file's time: it counts milliseconds."""
STEM_BYTES = 200
"""Of a file's name, which may have 255 bytes, some are kept for what makes it different from others."""
INDEX, HEADER, MASKS, FRAMES = "index.jsonl", "recording.json", "masks", "images"
SESSION = "session-"
"""What the folder of a later session is called, before its number; the first session is the recording's own folder."""

_OPEN_END = bytes([0x01]) + 7 * b"\xff"
"""The size of a segment that grows."""


class PngVideo:
    """A video of PNG pictures of one size, each shown at its own time."""

    def __init__(self, path: Path, width: int, height: int) -> None:
        """Begin a new file.

        Raises:
            OSError: It cannot be written, or is there.
        """
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        self.count = 0
        append_whole(self._handle, _write_start(width, height))

    def append(self, png: bytes, seconds: float) -> None:
        """Add a picture whole or not at all.

        Raises:
            OSError: There is no room.
        """
        block = bytes([0x80 | _TRACK]) + struct.pack(">hB", 0, _WHOLE_FRAME) + png
        append_whole(self._handle, _element(_CLUSTER, _number(0xE7, round(1e3 * seconds)) + _element(0xA3, block)))
        self.count += 1

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def _write_start(width: int, height: int) -> bytes:
    kind = _number(0x4286, 1) + _number(0x42F7, 1) + _number(0x42F2, 4) + _number(0x42F3, 8)
    kind += _element(0x4282, b"matroska") + _number(0x4287, 4) + _number(0x4285, 2)
    info = _number(0x2AD7B1, _NANOSECONDS) + _element(0x4D80, b"edgeseg") + _element(0x5741, b"edgeseg")
    size = _number(0xB0, width) + _number(0xBA, height)
    codec = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MPNG", 0, 0, 0, 0, 0)
    track = _number(0xD7, _TRACK) + _number(0x73C5, _TRACK) + _number(0x83, 1) + _number(0x9C, 0)
    track += _element(0x86, b"V_MS/VFW/FOURCC") + _element(0x63A2, codec) + _element(0xE0, size)
    inside = _element(_INFO, info) + _element(_TRACKS, _element(0xAE, track))
    return _element(_HEAD, kind) + _name(_SEGMENT) + _OPEN_END + inside


def _element(name: int, data: bytes) -> bytes:
    return _name(name) + struct.pack(">Q", 1 << 56 | len(data)) + data


def _number(name: int, value: int) -> bytes:
    return _element(name, struct.pack(">Q", value))


def _name(name: int) -> bytes:
    return name.to_bytes((name.bit_length() + 7) // 8, "big")


@dataclass(frozen=True)
class StoredImage:
    """Where a picture is: a file in the recording, and its number in there if it is a video."""

    file: str
    position: int | None = None


class FrameStore(ABC):
    """Keeps pictures of one kind, under a name in a recording's folder."""

    @abstractmethod
    def __init__(self, folder: Path, name: str) -> None:
        """Make room.

        Raises:
            OSError: The folder cannot be written.
        """

    @abstractmethod
    def put(self, image: NDArray[Any], frame: Frame, seconds: float) -> StoredImage:
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


class PngStore(FrameStore):
    """Keeps every picture in a file of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder / name, name
        self._folder.mkdir()

    def put(self, image: NDArray[Any], frame: Frame, seconds: float) -> StoredImage:  # noqa: ARG002 - a file has no time
        """Write a file."""
        data = encode_png(image)
        with self._open_new(frame) as file:
            file.write(data)
            return StoredImage(f"{self._name}/{Path(file.name).name}")

    def _open_new(self, frame: Frame) -> BufferedWriter:
        """Open a file under a name that is free: a.png may stand beside a.jpg, and come again with --loop."""
        number = f"{frame.number:08d}"
        stem = os.fsdecode(os.fsencode(Path(frame.name).stem)[:STEM_BYTES]) if frame.name else number
        names = chain((stem, f"{stem}-{number}"), (f"{stem}-{number}-{again}" for again in count(2)))
        while True:
            with suppress(FileExistsError):
                return (self._folder / f"{next(names)}.png").open("xb")


class VideoStore(FrameStore):
    """Keeps all pictures in one video; where their size changes, another begins."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._size = (0, 0)
        self._videos = 0
        self._video: PngVideo | None = None

    def put(self, image: NDArray[Any], frame: Frame, seconds: float) -> StoredImage:  # noqa: ARG002 - the index has it
        """Append to the video."""
        height, width = image.shape[:2]
        if self._video is None or self._size != (height, width):
            self._video = self._begin(height, width)
        self._video.append(encode_png(image), seconds)
        return StoredImage(self._file, self._video.count - 1)

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


FRAME_STORES: dict[str, type[FrameStore]] = {"png": PngStore, "video": VideoStore}


class Recording(Writer):
    """Writes the mask of a result, on request its frame, and then its line in the index.

    A process that is killed leaves at most one picture without a line; whatever has a line can be read. Pixels of
    frames are patients' data: they are stored only when that is asked for.
    """

    name: ClassVar[str] = "the recording"

    def __init__(
        self, folder: Path, info: StreamInfo, classes: Sequence[ClassSpec], frames: bool = False, form: str = "png"
    ) -> None:
        """Begin a recording.

        Args:
            folder: Where to write: new, empty, or a recording already, in which this one becomes a new session.
            info: What is recorded, for the header.
            classes: Names and colours, in the order of the labels.
            frames: Whether the frames are stored as well.
            form: One of SHELVES: a file per picture, or one video.

        Raises:
            OutputError: The folder holds something else or cannot be written.
        """
        self._classes = tuple(classes)
        self._mm_per_px = info.mm_per_px
        self._began: float | None = None
        with explained_writes(folder):
            self._folder = folder = _make_folder(folder)
            header = {"model": info.model, "classes": to_plain(self._classes), "mm_per_px": info.mm_per_px}
            write_json(folder / HEADER, header)
            self._masks = FRAME_STORES[form](folder, MASKS)
            self._frames = FRAME_STORES[form](folder, FRAMES) if frames else None
            self._index = os.open(folder / INDEX, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)

    @property
    def folder(self) -> Path:
        """Give the folder of this session."""
        return self._folder

    def write(self, result: Result) -> bool:
        """Write one result; its line in the index comes last."""
        frame, labels = result.frame, result.segmentation.labels
        self._began = frame.captured_at if self._began is None else self._began
        seconds = frame.captured_at - self._began
        with explained_writes(self._folder):
            mask = self._masks.put(labels, frame, seconds)
            image = self._frames.put(frame.image, frame, seconds) if self._frames is not None else None
            line = {
                "number": frame.number,
                "name": frame.name,
                "captured_s": round(seconds, 4),
                "age_ms": round(result.age_ms, 3),
                "mask": mask.file,
                "frame": image.file if image is not None else None,
                "position": mask.position,
                "areas": to_plain(measure_areas(labels, self._classes, self._mm_per_px)),
            }
            append_whole(self._index, (json.dumps(line) + "\n").encode("utf-8"))
        return True

    def close(self) -> None:
        """Close index and videos."""
        os.close(self._index)
        self._masks.close()
        if self._frames is not None:
            self._frames.close()


def _make_folder(folder: Path) -> Path:
    """Make the folder to write into: a service that is started again goes on beside what it has recorded."""
    if not folder.exists() or _is_empty(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    if not _is_recording(folder):
        raise OutputError(
            f"Expected a new or an empty folder for the recording, or a recording to go on with, got {folder}.",
            "Name another --record DIR.",
        )
    for number in count(2):  # mkdir decides which of two streams gets a number
        with suppress(FileExistsError):
            (folder / f"{SESSION}{number}").mkdir()
            break
    return folder / f"{SESSION}{number}"


def _is_empty(folder: Path) -> bool:
    """Say whether a folder holds nothing, or what a header leaves that was never finished."""
    return folder.is_dir() and all(path.name.startswith(f".{HEADER}.") for path in folder.iterdir())


def _is_recording(folder: Path) -> bool:
    """Say whether a folder holds the header of a recording."""
    try:
        header = json.loads(read_regular(folder / HEADER, TABLE_BYTES))
    except (OSError, LimitError, ValueError, RecursionError):
        return False
    return isinstance(header, dict) and {"model", "classes", "mm_per_px"} <= header.keys()
