"""A recording on disk: masks, optionally frames, and an index whose every line names complete files.

Pictures are stored as PNG files, or as PNG frames in one Matroska video, which this module writes itself: OpenCV's
writer buffers hundreds of frames, so a killed process would lose them (EBML: RFC 8794, Matroska: RFC 9559).
"""

from __future__ import annotations

import json
import os
import struct
from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedWriter
from itertools import chain, count
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, LimitError, OutputError
from edgeseg.core.files import append_whole, explained_writes, write_json
from edgeseg.core.limits import IMAGE_BYTES, RECORDED_FRAMES, TABLE_BYTES, VIDEO_BYTES, check_regular, read_regular
from edgeseg.core.schema import to_plain
from edgeseg.core.spec import ClassSpec
from edgeseg.frame.images import as_data_error, encode_png
from edgeseg.inference.masks import measure_areas
from edgeseg.streaming.options import RECORDING
from edgeseg.streaming.sinks.base import Result, StreamInfo, Writer
from edgeseg.streaming.sources.base import Frame
from edgeseg.streaming.states import describe_instances, describe_states

INDEX, HEADER, MASKS, FRAMES = "index.jsonl", RECORDING, "masks", "images"
# Prefix of the folder of a later session; the first session is the recording's own folder.
SESSION = "session-"
# File systems allow 255 bytes for a name; the rest is for a number and the suffix.
STEM_BYTES = 200

_EBML, _SEGMENT, _INFO, _TRACKS, _TRACK_ENTRY = 0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0xAE
# Element ids of EBML (RFC 8794, 11.2) and Matroska (RFC 9559, 5.1).
_CLUSTER, _TIMESTAMP, _SIMPLE_BLOCK = 0x1F43B675, 0xE7, 0xA3
_TRACK = 1
_KEYFRAME = 0x80
# Of an element's id and size, and of the timestamp and the block's own head in front of a frame.
_HEAD_BYTES, _BLOCK_BYTES = 4 + 8, (1 + 8 + 8) + (1 + 8 + 4)
# So that timestamps are milliseconds.
_TIMESTAMP_SCALE_NS = 1_000_000
# All bits set: the size of an element that grows until the end of the file (RFC 8794, 6.2).
_UNKNOWN_SIZE = bytes([0x01]) + 7 * b"\xff"


class Recording(Writer):
    """Writes the mask of every result, optionally its frame, and then a line in the index.

    The index line comes last, so whatever has a line can be read, and a killed process loses one picture at most.
    Frames are patients' data, so they are stored only on request.
    """

    name: ClassVar[str] = "the recording"

    def __init__(
        self, folder: Path, info: StreamInfo, classes: Sequence[ClassSpec], frames: bool = False, form: str = "png"
    ) -> None:
        """Create a recording.

        Args:
            folder: New, empty, or already a recording, in which this one becomes a new session.
            info: The stream, for the header.
            classes: Names and colours, in the order of the labels.
            frames: Whether to store the frames too.
            form: One of `FRAME_STORES`: a file per picture, or one video.

        Raises:
            OutputError: The folder holds something else or cannot be written.
        """
        self._classes = tuple(classes)
        self._info = info
        self._began: float | None = None
        with explained_writes(folder):
            self._folder = folder = _make_folder(folder)
            header = {"model": info.model, "classes": to_plain(self._classes), "mm_per_px": info.mm_per_px}
            write_json(folder / HEADER, header)
            self._masks = FRAME_STORES[form](folder, MASKS)
            self._frames = FRAME_STORES[form](folder, FRAMES) if frames else None
            # O_EXCL: two streams never share an index
            self._index = os.open(folder / INDEX, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)

    @property
    def folder(self) -> Path:
        """The folder of this session."""
        return self._folder

    def _choose_picture(self, frame: Frame) -> NDArray[Any]:
        """Choose what is kept of a frame: of several modalities the first, which is shown."""
        return np.ascontiguousarray(frame.image[:, :, 0]) if self._info.modalities else frame.image

    def write(self, result: Result) -> bool:
        """Write mask, frame and index line of one result."""
        frame, labels = result.frame, result.segmentation.labels
        # times start at 0: the monotonic clock means nothing to another machine
        self._began = frame.captured_at if self._began is None else self._began
        seconds, mm_per_px = frame.captured_at - self._began, self._info.find_pixel_size(frame)
        with explained_writes(self._folder):
            mask = self._masks.put(labels, frame, seconds)
            image = self._frames.put(self._choose_picture(frame), frame, seconds) if self._frames else None
            line = {
                "number": frame.number,
                "name": frame.name,
                "source": frame.source,
                "captured_s": round(seconds, 4),
                "age_ms": round(result.age_ms, 3),
                "mask": mask.file,
                "frame": image.file if image is not None else None,
                "position": mask.position,
                "mm_per_px": mm_per_px,
                "areas": to_plain(measure_areas(labels, self._classes, mm_per_px)),
                **describe_states(result.segmentation),
                **describe_instances(result.segmentation, mm_per_px),
            }
            append_whole(self._index, (json.dumps(line) + "\n").encode("utf-8"))
        return True

    def close(self) -> None:
        """Close the index and the videos."""
        os.close(self._index)
        self._masks.close()
        if self._frames is not None:
            self._frames.close()


def _make_folder(folder: Path) -> Path:
    """Make the folder of this session; a service that restarts adds a session to its recording."""
    if not folder.exists() or _is_empty(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    if not is_recording(folder):
        raise OutputError(
            f"Expected a new or an empty folder for the recording, or a recording to go on with, got {folder}.",
            "Name another --record DIR.",
        )
    # mkdir is atomic: of two streams, one gets the number
    for number in count(2):
        with suppress(FileExistsError):
            (folder / f"{SESSION}{number}").mkdir()
            break
    return folder / f"{SESSION}{number}"


def check_parent(folder: Path) -> None:
    """Refuse a folder for the recordings of several sources that holds anything but such recordings.

    Raises:
        OutputError: It does, or cannot be read.
    """
    with explained_writes(folder):
        if not folder.exists() or _is_empty(folder):
            return
        if folder.is_dir() and all(is_recording(path) or _is_empty(path) for path in folder.iterdir()):
            return
    raise OutputError(
        f"Expected a new or an empty folder for several recordings, or one that holds some, got {folder}.",
        "Name another --record DIR.",
    )


def _is_empty(folder: Path) -> bool:
    """Tell whether a folder is empty, apart from temporary files of a header that was never finished."""
    return folder.is_dir() and all(path.name.startswith(f".{HEADER}.") for path in folder.iterdir())


def is_recording(folder: Path) -> bool:
    """Tell whether a folder holds the header of a recording."""
    try:
        header = json.loads(read_regular(folder / HEADER, TABLE_BYTES))
    except (OSError, LimitError, ValueError, RecursionError):
        return False
    return isinstance(header, dict) and {"model", "classes", "mm_per_px"} <= header.keys()


@dataclass(frozen=True)
class StoredImage:
    """Where an image is stored: a file in the recording, and its position if that is a video."""

    file: str
    position: int | None = None


class FrameStore(ABC):
    """Stores the images of one kind, masks or frames, in a recording's folder."""

    @abstractmethod
    def __init__(self, folder: Path, name: str) -> None:
        """Create the store.

        Raises:
            OSError: The folder cannot be written.
        """

    @abstractmethod
    def put(self, image: NDArray[Any], frame: Frame, seconds: float) -> StoredImage:
        """Store an image; it is complete in the file when this returns.

        Args:
            image: Grey or BGR.
            frame: The frame that it belongs to; a PNG file is named after it.
            seconds: Since the recording's first frame.

        Raises:
            OSError: The disk is full.
        """

    def close(self) -> None:  # noqa: B027 - optional
        """Close open files."""


class PngStore(FrameStore):
    """Stores every image in a PNG file."""

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
        """Open a file with a free name: the sources a.png and a.jpg share a stem, and --loop repeats them all."""
        number = f"{frame.number:08d}"
        stem = os.fsdecode(os.fsencode(Path(frame.name).stem)[:STEM_BYTES]) if frame.name else number
        names = chain((stem, f"{stem}-{number}"), (f"{stem}-{number}-{again}" for again in count(2)))
        while True:
            with suppress(FileExistsError):
                return (self._folder / f"{next(names)}.png").open("xb")


class VideoStore(FrameStore):
    """Stores all images in one video; where their size changes, a new one begins."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._size = (0, 0)
        self._videos = 0
        self._video: PngVideo | None = None

    def put(self, image: NDArray[Any], frame: Frame, seconds: float) -> StoredImage:  # noqa: ARG002 - the index has it
        """Append the image to the video."""
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


class PngVideo:
    """A Matroska file of PNG frames of one size, each with its own timestamp."""

    def __init__(self, path: Path, width: int, height: int) -> None:
        """Create the file.

        Raises:
            OSError: It exists or cannot be written.
        """
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        self.count = 0
        append_whole(self._handle, _write_start(width, height))

    def append(self, png: bytes, seconds: float) -> None:
        """Append a frame as a cluster of its own: the file is cut back when the disk has no room for all of it.

        Raises:
            OSError: The disk is full.
        """
        # track number as a one-byte variable-size integer, time relative to the cluster, flags (RFC 9559, 10.2)
        block = bytes([0x80 | _TRACK]) + struct.pack(">hB", 0, _KEYFRAME) + png
        cluster = _number(_TIMESTAMP, round(1e3 * seconds)) + _element(_SIMPLE_BLOCK, block)
        append_whole(self._handle, _element(_CLUSTER, cluster))
        self.count += 1

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


class PngVideoReader:
    """Reads single frames of a video that `PngVideo` wrote, also of one whose writer was killed."""

    def __init__(self, path: Path) -> None:
        """Find where the frames lie.

        Raises:
            DataError: It is no such video.
        """
        as_data_error(check_regular, path, VIDEO_BYTES)
        self._path = path
        self._file = as_data_error(path.open, "rb")
        self._places, self._sizes = array("q"), array("q")
        try:
            self._find_frames(os.fstat(self._file.fileno()).st_size)
        except DataError:
            self._file.close()
            raise

    def read(self, position: int) -> bytes:
        """Read the PNG at a position.

        Raises:
            DataError: The video has no such frame.
        """
        if not 0 <= position < len(self._places):
            raise DataError(f"Expected a frame {position} in {self._path.name}, got {len(self._places)} frames.")
        if self._sizes[position] > IMAGE_BYTES:
            raise DataError(f"Expected a frame of at most {IMAGE_BYTES} bytes in {self._path.name}, got a larger one.")
        return os.pread(self._file.fileno(), self._sizes[position], self._places[position])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _find_frames(self, end: int) -> None:
        """Walk over the elements, each with an id of four bytes and a size of eight, as they were written."""
        if self._read_head(0)[0] != _EBML:
            raise DataError(
                f"Expected a video of a recording at {self._path.name}, got another file.",
                "Play it with a video player.",
            )
        place = 0
        while place + _HEAD_BYTES <= end and len(self._places) < RECORDED_FRAMES:
            identity, size = self._read_head(place)
            if identity == _SEGMENT:
                place += _HEAD_BYTES
                continue
            if identity == _CLUSTER and place + _HEAD_BYTES + size <= end and size > _BLOCK_BYTES:
                self._places.append(place + _HEAD_BYTES + _BLOCK_BYTES)
                self._sizes.append(size - _BLOCK_BYTES)
            place += _HEAD_BYTES + size

    def _read_head(self, place: int) -> tuple[int, int]:
        head = os.pread(self._file.fileno(), _HEAD_BYTES, place)
        if len(head) < _HEAD_BYTES or head[4] != 1:
            raise DataError(f"Expected a video of a recording at {self._path.name}, got a damaged one.")
        return int.from_bytes(head[:4], "big"), int.from_bytes(head[5:], "big")


def _write_start(width: int, height: int) -> bytes:
    """Write all that comes before the first cluster: EBML header, segment info and the description of the track."""
    # EBMLVersion, EBMLReadVersion, EBMLMaxIDLength, EBMLMaxSizeLength, DocType, DocTypeVersion, DocTypeReadVersion
    head = _number(0x4286, 1) + _number(0x42F7, 1) + _number(0x42F2, 4) + _number(0x42F3, 8)
    head += _element(0x4282, b"matroska") + _number(0x4287, 4) + _number(0x4285, 2)
    # TimestampScale, MuxingApp, WritingApp
    info = _number(0x2AD7B1, _TIMESTAMP_SCALE_NS) + _element(0x4D80, b"edgeseg") + _element(0x5741, b"edgeseg")
    # PixelWidth, PixelHeight
    size = _number(0xB0, width) + _number(0xBA, height)
    # the codec data of V_MS/VFW/FOURCC is a BITMAPINFOHEADER: 40 bytes, 1 plane, 24 bits, compression MPNG
    codec = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MPNG", 0, 0, 0, 0, 0)
    # TrackNumber, TrackUID, TrackType (video), FlagLacing; CodecID, CodecPrivate, Video
    track = _number(0xD7, _TRACK) + _number(0x73C5, _TRACK) + _number(0x83, 1) + _number(0x9C, 0)
    track += _element(0x86, b"V_MS/VFW/FOURCC") + _element(0x63A2, codec) + _element(0xE0, size)
    segment = _element(_INFO, info) + _element(_TRACKS, _element(_TRACK_ENTRY, track))
    return _element(_EBML, head) + _element_id(_SEGMENT) + _UNKNOWN_SIZE + segment


def _element(identity: int, data: bytes) -> bytes:
    """Write an element; its size takes 8 bytes, of which the highest set bit says so (RFC 8794, 4)."""
    return _element_id(identity) + struct.pack(">Q", 1 << 56 | len(data)) + data


def _number(identity: int, value: int) -> bytes:
    return _element(identity, struct.pack(">Q", value))


def _element_id(identity: int) -> bytes:
    return identity.to_bytes((identity.bit_length() + 7) // 8, "big")
