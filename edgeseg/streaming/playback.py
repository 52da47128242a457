"""`RecordingReader`: the pictures of a recording, one at a time, with the masks and figures that were recorded.

A recording may come from anybody: every line and file is checked when it is read, and files outside of the recording's
folder are refused.
"""

from __future__ import annotations

import json
import threading
from array import array
from bisect import bisect_right
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.decision import STATES
from edgeseg.core.errors import DataError, LimitError
from edgeseg.core.limits import (
    CLASSES,
    FRAME_CLASSES,
    LINE_BYTES,
    NAME_LETTERS,
    RECORDED_FRAMES,
    VIDEO_BYTES,
    check_regular,
)
from edgeseg.core.redact import show_name
from edgeseg.core.schema import SchemaError, from_plain, parse_json, read_json_table
from edgeseg.core.spec import ClassSpec
from edgeseg.frame.images import as_data_error, decode_image, read_bytes
from edgeseg.inference.confidence import ClassFinding
from edgeseg.inference.instances import MEASURES, MOST_INSTANCES, Instance, InstanceList
from edgeseg.inference.masks import check_pixel_size
from edgeseg.inference.segmenter import Segmentation, StageTimes
from edgeseg.streaming.options import DEFAULT_SINK_OPTIONS
from edgeseg.streaming.sinks.base import Result
from edgeseg.streaming.sinks.recording import FRAMES, HEADER, INDEX, MASKS, SESSION, PngVideoReader
from edgeseg.streaming.sources.base import Frame
from edgeseg.streaming.tracking import Picture, make_picture

_NUMBERS = ("confidence", "probability", "threshold")
# Where the frame was none that the model was trained on; the index holds no distance.
_FAR = inf
# No frame is larger.
_LARGEST_PX = 1e6
# A year: a time beyond it is none, nor are nan and infinity.
_LONGEST_S = 366 * 24 * 3600.0


@dataclass(frozen=True)
class RecordedPicture:
    """A picture of a recording, its place from 0, and when it was captured and the next one was (seconds)."""

    picture: Picture
    place: int
    seconds: float
    next_seconds: float | None
    age_ms: float | None
    source: int


class RecordingReader:
    """Reads the pictures of a recording in any order; safe to call from several threads."""

    def __init__(self, folder: Path, show: str = DEFAULT_SINK_OPTIONS.show) -> None:
        """Read the header and find the lines of the index; a last line that was cut off by a kill is left out.

        Args:
            folder: A recording, or one of its later sessions.
            show: Which masks are shown, as `SinkOptions` has it.

        Raises:
            DataError: It is no recording, or has not one mask.
        """
        self.folder, self._show = folder, show
        header = _read_header(folder)
        self.model = show_name(_take(header, "model", str)[:NAME_LETTERS])
        self.classes = _read_classes(header)
        self._mm_per_px = _read_pixel_size(header)
        self.unreadable = 0
        """Lines of the index that are none."""
        self._places, self._seconds = array("q"), array("d")
        self._lock = threading.Lock()
        self._videos: dict[str, PngVideoReader] = {}
        self._closing = ExitStack()
        self.has_frames = False
        """Whether frames were recorded beside the masks."""
        self._read_index()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def seconds(self) -> float:
        """From the first picture to the last."""
        return self._seconds[-1] - self._seconds[0]

    @property
    def sessions(self) -> int:
        """Number of later sessions in the same folder."""
        return sum(1 for path in self.folder.glob(f"{SESSION}*") if (path / HEADER).is_file())

    def find_place(self, seconds: float) -> int:
        """Find the picture that was the newest so many seconds after the first one."""
        return max(0, bisect_right(self._seconds, self._seconds[0] + seconds) - 1)

    def read(self, place: int) -> RecordedPicture:
        """Read a picture.

        Args:
            place: From 0.

        Raises:
            DataError: There is none, or it cannot be read.
        """
        if not 0 <= place < len(self):
            raise DataError(f"Expected a picture from 1 to {len(self)}, got {place + 1}.")
        line = self._read_line(place)
        labels = self._read_labels(line)
        image = self._read_image(line, labels)
        distance = _FAR if line.get("out_of_distribution") is True else None
        seen = Segmentation(
            labels,
            StageTimes(0.0, 0.0, 0.0),
            classes=self.classes,
            findings=_read_findings(line, self.classes),
            frame_classes=_read_frame_classes(line),
            distance=distance,
            followed=_read_instances(line, self.classes),
        )
        frame = Frame(
            image,
            _take_count(line, "number"),
            0.0,
            name=show_name(str(line.get("name", ""))[:NAME_LETTERS]),
            source=_take_count(line, "source", 1),
            mm_per_px=_read_pixel_size(line) if "mm_per_px" in line else self._mm_per_px,
        )
        begin = self._seconds[0]
        return RecordedPicture(
            make_picture(Result(frame, seen, 0.0), self._show),
            place,
            round(self._seconds[place] - begin, 4),
            round(self._seconds[place + 1] - begin, 4) if place + 1 < len(self) else None,
            _take_number(line, "age_ms"),
            frame.source,
        )

    def close(self) -> None:
        """Close the videos."""
        with self._lock:
            self._closing.close()
            self._videos.clear()

    def _read_index(self) -> None:
        path = self.folder / INDEX
        as_data_error(check_regular, path, VIDEO_BYTES)
        with as_data_error(path.open, "rb") as file:
            place = 0
            while (data := file.readline(LINE_BYTES + 1)) and len(self._places) < RECORDED_FRAMES:
                is_whole = data.endswith(b"\n")
                line = _glance(data) if is_whole else None
                if line is not None:
                    newest = self._seconds[-1] if self._seconds else 0.0
                    # never backwards, so that a time has one place
                    self._seconds.append(max(newest, _take_number(line, "captured_s") or 0.0))
                    self._places.append(place)
                    self.has_frames |= line.get("frame") is not None
                elif is_whole or len(data) > LINE_BYTES:
                    self.unreadable += 1
                place += len(data)
                while not is_whole and (rest := file.readline(LINE_BYTES)):
                    is_whole, place = rest.endswith(b"\n"), place + len(rest)
        if not self._places:
            raise DataError(
                f"Expected masks in the recording {self.folder}, got an index without one.",
                "A stream with --record-wait records only while the page's button is on.",
            )

    def _read_line(self, place: int) -> dict[str, Any]:
        with as_data_error((self.folder / INDEX).open, "rb") as file:
            file.seek(self._places[place])
            line = _parse_line(file.readline(LINE_BYTES + 1))
        if line is None:
            raise DataError("Expected the index as it was when the recording was opened, got another one.")
        return line

    def _read_labels(self, line: Mapping[str, Any]) -> NDArray[np.uint8]:
        labels = decode_image(self._read_bytes(_take(line, "mask", str), MASKS, line), str(self.folder / MASKS))
        if labels.dtype != np.uint8 or int(labels.max()) > len(self.classes):
            raise DataError(f"Expected labels of {len(self.classes)} classes in the mask, got others.")
        return np.asarray(labels, dtype=np.uint8)

    def _read_image(self, line: Mapping[str, Any], labels: NDArray[np.uint8]) -> NDArray[Any]:
        """Read the frame, or a black one where none was recorded."""
        file = line.get("frame")
        if file is None:
            return np.zeros_like(labels)
        if not isinstance(file, str):
            raise DataError("Expected a file's name as the frame, got something else.")
        image = decode_image(self._read_bytes(file, FRAMES, line), str(self.folder / FRAMES), colour=True)
        if image.shape[:2] != labels.shape:
            raise DataError("Expected a frame of the mask's size, got another one.")
        return image

    def _read_bytes(self, file: str, kind: str, line: Mapping[str, Any]) -> bytes:
        """Read what a line names: a file in the folder of its kind, or a place in a video."""
        path = self._find_file(file, kind)
        position = line.get("position")
        if position is None:
            return read_bytes(path)
        with self._lock:
            if file not in self._videos:
                self._videos[file] = PngVideoReader(path)
                self._closing.callback(self._videos[file].close)
            return self._videos[file].read(_take_count(line, "position"))

    def _find_file(self, file: str, kind: str) -> Path:
        """Find a file of the recording; a name that leads out of it is refused, through a link as well."""
        parts = PurePosixPath(file).parts
        is_own = len(parts) in (1, 2) and parts[0].startswith(kind) and ".." not in parts and "\0" not in file
        path = self.folder / file
        if not is_own or not path.resolve().is_relative_to(self.folder.resolve()):
            raise DataError(f"Expected a file of the recording below {kind}, got one elsewhere.")
        return path


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        return read_json_table(folder / HEADER)
    except (OSError, LimitError, SchemaError) as error:
        # that of a stream of several sources holds one of each
        one = next(iter(sorted(folder.glob(f"*/{HEADER}"))), None)
        raise DataError(
            f"Expected a recording in {folder}, got a folder without a readable {HEADER}.",
            f"Name the recording of one source, such as {one.parent}."
            if one
            else "Name a folder that edgeseg stream --record has written.",
        ) from error


def _read_classes(header: Mapping[str, Any]) -> tuple[ClassSpec, ...]:
    classes = _take(header, "classes", list)
    if not 0 < len(classes) <= CLASSES:
        raise DataError(f"Expected 1 to {CLASSES} classes in the recording, got {len(classes)}.")
    try:
        return tuple(from_plain(ClassSpec, one, "classes") for one in classes)
    except SchemaError as error:
        raise DataError(f"Expected names and colours of the classes in the recording: {error}.") from error


def _read_pixel_size(table: Mapping[str, Any]) -> float | None:
    size = _take_number(table, "mm_per_px")
    if size is not None:
        try:
            check_pixel_size(size)
        except ValueError as error:
            raise DataError(f"Expected a plausible pixel size in the recording: {error}.") from error
    return size


def _glance(data: bytes) -> dict[str, Any] | None:
    """Parse a line of an index of hours without the strict checks, which follow when its picture is read."""
    try:
        return _check_line(json.loads(data)) if len(data) <= LINE_BYTES else None
    except (ValueError, RecursionError):
        return None


def _parse_line(data: bytes) -> dict[str, Any] | None:
    try:
        return _check_line(parse_json(data.decode("utf-8"))) if len(data) <= LINE_BYTES else None
    except ValueError:
        return None


def _check_line(line: Any) -> dict[str, Any] | None:
    """Give a line that names a mask and a time; None for others."""
    if not isinstance(line, dict) or not isinstance(line.get("mask"), str):
        return None
    seconds = line.get("captured_s")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not abs(seconds) < _LONGEST_S:
        return None
    return line


def _take(table: Mapping[str, Any], key: str, kind: type[Any]) -> Any:
    value = table.get(key)
    if not isinstance(value, kind):
        raise DataError(f"Expected {key} in the recording, got {type(value).__name__}.")
    return value


def _take_number(table: Mapping[str, Any], key: str) -> float | None:
    value = table.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise DataError(f"Expected a number as {key} in the recording, got {type(value).__name__}.")
    return float(value)


def _take_count(table: Mapping[str, Any], key: str, default: int = 0) -> int:
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(f"Expected a whole number as {key} in the recording, got something else.")
    return value


def _read_findings(line: Mapping[str, Any], classes: tuple[ClassSpec, ...]) -> tuple[ClassFinding, ...]:
    findings = line.get("findings", [])
    if not isinstance(findings, list) or len(findings) not in (0, len(classes)):
        raise DataError("Expected a finding for every class in the recording, got another number.")
    return tuple(_read_finding(one, spec) for one, spec in zip(findings, classes, strict=False))


def _read_finding(finding: object, spec: ClassSpec) -> ClassFinding:
    if not isinstance(finding, dict) or finding.get("state") not in STATES:
        raise DataError("Expected a state in every finding of the recording, got none.")
    confidence, probability, threshold = (_take_share(finding, key) for key in _NUMBERS)
    return ClassFinding(spec.name, str(finding["state"]), confidence, probability, threshold)


def _take_share(table: Mapping[str, Any], key: str) -> float | None:
    number = _take_number(table, key)
    if number is not None and not 0.0 <= number <= 1.0:
        raise DataError("Expected confidences from 0 to 1 in the recording, got others.")
    return number


def _read_instances(line: Mapping[str, Any], classes: tuple[ClassSpec, ...]) -> InstanceList | None:
    """Read the instances with the numbers that they had in the stream; None in recordings of older versions."""
    found = line.get("instances")
    if found is None:
        return None
    if not isinstance(found, list) or len(found) > MOST_INSTANCES * len(classes):
        raise DataError("Expected a list of single findings in the recording, got something else.")
    names = {spec.name for spec in classes}
    return InstanceList(tuple(_read_instance(one, names) for one in found), _take_count(line, "instances_left_out"))


def _read_instance(one: object, names: Collection[str]) -> Instance:
    if not isinstance(one, dict) or one.get("class") not in names or one.get("state") not in STATES:
        raise DataError("Expected class and state of every single finding in the recording, got others.")
    box, centroid = _take_numbers(one, "box", 4), _take_numbers(one, "centroid", 2)
    measures: dict[str, Any] = {name: _take_number(one, name) for name in MEASURES}
    return Instance(
        str(one["class"]),
        _take_count(one, "number"),
        (int(box[0]), int(box[1]), int(box[2]), int(box[3])),
        (centroid[0], centroid[1]),
        int(measures.pop("area_px") or 0),
        measures.pop("long_px") or 0.0,
        measures.pop("short_px") or 0.0,
        **measures,
        confidence=_take_share(one, "confidence"),
        state=str(one["state"]),
    )


def _take_numbers(table: Mapping[str, Any], key: str, count: int) -> list[float]:
    values = table.get(key)
    if not isinstance(values, list) or len(values) != count:
        raise DataError(f"Expected {count} numbers as {key} in the recording, got something else.")
    numbers = [_take_number({key: value}, key) for value in values]
    if not all(number is not None and 0.0 <= number < _LARGEST_PX for number in numbers):
        raise DataError(f"Expected places in a frame as {key} in the recording, got others.")
    return [number for number in numbers if number is not None]


def _read_frame_classes(line: Mapping[str, Any]) -> dict[str, float]:
    classes = line.get("frame_classes", {})
    if not isinstance(classes, dict) or len(classes) > FRAME_CLASSES:
        raise DataError(f"Expected at most {FRAME_CLASSES} classes of the frame in the recording, got something else.")
    return {show_name(name[:NAME_LETTERS]): _take_number(classes, name) or 0.0 for name in classes}
