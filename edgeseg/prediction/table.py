"""The tables of a prediction, and the journal by which an interrupted run goes on behind the last item.

predictions.csv has a row for each frame, instances.csv one for each single finding. An item's files are written first,
then its rows, then its line in the journal: whatever has a line is whole, and rows behind the last line are cut off
when the run goes on.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.card import Card
from edgeseg.core.errors import RunError
from edgeseg.core.files import append_whole, format_rows
from edgeseg.core.redact import show_name
from edgeseg.inference.instances import MEASURES, InstanceList
from edgeseg.inference.masks import measure_areas
from edgeseg.inference.segmenter import Segmentation

TABLE, INSTANCES, JOURNAL = "predictions.csv", "instances.csv", ".journal.jsonl"
_PLACE = ("x", "y", "width", "height", "centroid_x", "centroid_y")
INSTANCE_COLUMNS = ("file", "frame", "class", "number", "state", "confidence", *_PLACE, *MEASURES)
# The state of a frame that could not be read.
UNREADABLE = "unreadable"
_FRAME = ("file", "frame", "state")
_ABOUT = ("out_of_distribution", "distance", "width", "height", "mm_per_px", "seconds", "mask", "error")
_CLASS = ("state", "probability", "confidence", "area_px", "area_mm2", "boxes", "instances")
# Digits of what comes from scores of 8 bits.
_DIGITS = 4
# The longest time for which rows wait to be written.
_FLUSH_SECONDS = 0.5
# Boxes that a row lists: noise would fill it with thousands.
_MOST_BOXES = 1000


class Columns:
    """The columns of the table for a model's classes and frame classes."""

    def __init__(self, card: Card) -> None:
        self._classes = card.output.classes
        self._frame_classes = () if card.finding is None else card.finding.frame_classes

    @property
    def names(self) -> tuple[str, ...]:
        """List the columns."""
        classes = (f"{spec.name}_{name}" for spec in self._classes for name in _CLASS)
        return (*_FRAME, *classes, *(f"frame_class_{name}" for name in self._frame_classes), *_ABOUT)

    def describe(
        self,
        place: tuple[str, int | None],
        result: Segmentation,
        labels: NDArray[np.uint8],
        found: InstanceList,
        mm_per_px: float | None,
        seconds: float,
        mask: str,
    ) -> tuple[Any, ...]:
        """Describe a frame as a row.

        Args:
            place: The item's name, and the frame's number in a clip.
            result: What the model said.
            labels: The label map as it is written, whose areas and boxes are listed.
            found: Its instances, which are counted.
            mm_per_px: The pixel size, where it is known.
            seconds: What the frame took.
            mask: The file of its label map.
        """
        height, width = labels.shape
        cells: list[Any] = [show_name(place[0]), place[1], find_state(result)]
        areas = measure_areas(labels, self._classes, mm_per_px)
        counts = Counter(one.name for one in found.instances)
        for number, (finding, area) in enumerate(zip(result.findings, areas, strict=True), start=1):
            boxes = list_boxes(labels, number) if area.area_px else ()
            cells += [finding.state, _round(finding.probability), _round(finding.confidence)]
            cells += [area.area_px, area.area_mm2, "; ".join(" ".join(map(str, box)) for box in boxes)]
            cells.append(counts[finding.name])
        cells += [_round(result.frame_classes.get(name)) for name in self._frame_classes]
        cells += [
            str(result.out_of_distribution).lower() if result.distance is not None else "",
            _round(result.distance),
        ]
        return tuple(_fill([*cells, width, height, mm_per_px, round(seconds, 5), show_name(mask), ""]))

    def refuse(self, name: str, number: int | None, error: str) -> tuple[Any, ...]:
        """Describe an item or a frame that could not be read."""
        blank = [""] * (len(self.names) - len(_FRAME) - 1)
        return tuple(_fill([show_name(name), number, UNREADABLE, *blank, show_name(error)]))


def list_instances(place: tuple[str, int | None], found: InstanceList) -> list[tuple[Any, ...]]:
    """List the instances of a frame as rows, with the numbers that they have in a clip."""
    return [
        tuple(
            _fill(
                [
                    show_name(place[0]),
                    place[1],
                    show_name(one.name),
                    one.number,
                    one.state,
                    _round(one.confidence),
                    *one.box,
                    *one.centroid,
                    *(getattr(one, name) for name in MEASURES),
                ]
            )
        )
        for one in found.instances
    ]


def _fill(cells: Iterable[Any]) -> list[Any]:
    return ["" if cell is None else cell for cell in cells]


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def find_state(result: Segmentation) -> str:
    """Give the state of a frame: the strongest of its classes."""
    states = [finding.state for finding in result.findings]
    return next((state for state in ("found", "doubtful") if state in states), "nothing")


def list_boxes(labels: NDArray[np.uint8], number: int) -> tuple[tuple[int, int, int, int], ...]:
    """List x, y, width and height of every region of a class, the largest region first."""
    mask = np.asarray(cv2.inRange(labels, number, number), np.uint8)
    left, top, width, height = cv2.boundingRect(mask)
    # connectedComponentsWithStats() takes as long as the network, and so would the whole frame
    part = mask[top : top + height, left : left + width]
    outlines, tree = cv2.findContours(part, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top))
    if tree is None:
        return ()
    regions = [outline for outline, (_, _, _, parent) in zip(outlines, tree[0].tolist(), strict=True) if parent < 0]
    boxes = [(cv2.contourArea(outline), cv2.boundingRect(outline)) for outline in regions]
    boxes.sort(key=lambda box: (-box[0], -box[1][2] * box[1][3]))
    return tuple((x, y, width, height) for _, (x, y, width, height) in boxes[:_MOST_BOXES])


@dataclass(frozen=True)
class Done:
    """What the journal says of a finished item."""

    name: str
    stem: str
    """The name of its files without ending."""
    frames: int
    states: Mapping[str, int]
    problem: str = ""
    """Why not all of its frames could be read; empty where all were."""


class _Table:
    """A table that grows, and is cut back behind the last item that is whole."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path = path
        self.handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self._head = format_rows(columns, ()).encode("utf-8")
        self._rows: list[bytes] = []
        self.end = len(self._head)

    def go_on(self, end: int) -> None:
        """Begin the table, or cut off what comes behind its last whole item."""
        end = end or len(self._head)
        size = os.fstat(self.handle).st_size
        if size < len(self._head):
            os.ftruncate(self.handle, 0)
            append_whole(self.handle, self._head)
            size = len(self._head)
        if size < end:
            raise RunError(
                f"Expected all rows of the interrupted prediction in {self._path}, got fewer.",
                "Begin again with --overwrite.",
            )
        os.ftruncate(self.handle, end)
        self.end = end

    def append(self, rows: Iterable[Sequence[Any]]) -> None:
        """Append rows, which wait to be written."""
        for row in rows:
            data = format_rows((), (row,)).split("\n", 1)[1].encode("utf-8")
            self._rows.append(data)
            self.end += len(data)

    def flush(self) -> None:
        """Write what is waiting."""
        append_whole(self.handle, b"".join(self._rows))
        self._rows.clear()


class Ledger:
    """The tables and the journal of a run, written twice a second, since each write costs like a small image.

    What was not yet written when a process is killed is done again.
    """

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        """Begin them, or go on with those in the folder.

        Raises:
            RunError: They do not belong together.
        """
        self._journal_path = folder / JOURNAL
        self._frames, self._instances = _Table(folder / TABLE, columns), _Table(folder / INSTANCES, INSTANCE_COLUMNS)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._journal = os.open(self._journal_path, flags, 0o666)
        self._lines: list[bytes] = []
        self._written_at = monotonic()
        self.done: dict[str, Done] = {}
        frames, instances = self._load()
        self._frames.go_on(frames)
        self._instances.go_on(instances)

    def append(self, rows: Iterable[Sequence[Any]], instances: Iterable[Sequence[Any]] = ()) -> None:
        """Append rows of frames and of instances; they count when their item is committed."""
        self._frames.append(rows)
        self._instances.append(instances)
        self._flush(_FLUSH_SECONDS)

    def commit(self, done: Done) -> None:
        """Say that an item is finished."""
        entry = {
            "name": done.name,
            "stem": done.stem,
            "frames": done.frames,
            "states": dict(done.states),
            "problem": done.problem,
            "end": self._frames.end,
            "instances_end": self._instances.end,
        }
        self._lines.append(json.dumps(entry).encode("ascii") + b"\n")
        self.done[done.name] = done
        self._flush(_FLUSH_SECONDS)

    def flush(self) -> None:
        """Write what is waiting."""
        self._flush(0.0)

    def close(self) -> None:
        """Close all files; after an error, write what there is room for."""
        try:
            with suppress(OSError):
                self.flush()
        finally:
            os.close(self._frames.handle)
            os.close(self._instances.handle)
            os.close(self._journal)

    def _flush(self, seconds: float) -> None:
        now = monotonic()
        if now - self._written_at < seconds:
            return
        self._written_at = now
        # the rows come first: a line in the journal says that they are there
        self._frames.flush()
        self._instances.flush()
        append_whole(self._journal, b"".join(self._lines))
        self._lines.clear()

    def _load(self) -> tuple[int, int]:
        """Read the journal; gives the ends of the last committed rows. A line that was cut off is dropped."""
        end = instances_end = size = 0
        with self._journal_path.open("rb") as file:
            for line in file:
                entry = _parse(line)
                if entry is None:
                    break
                size += len(line)
                end, instances_end = entry.pop("end"), entry.pop("instances_end")
                self.done[entry["name"]] = Done(**entry)
        os.ftruncate(self._journal, size)
        return end, instances_end


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    names = {"name", "stem", "frames", "states", "problem", "end", "instances_end"}
    if not isinstance(entry, dict) or set(entry) != names:
        return None
    return entry if isinstance(entry["end"], int) and isinstance(entry["instances_end"], int) else None
