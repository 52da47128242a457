"""Results as JSON lines on a file descriptor, for another program: contours and areas, no pixels."""

from __future__ import annotations

import json
import os
import select
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.files import explained_writes
from edgeseg.core.schema import to_plain
from edgeseg.core.spec import ClassSpec
from edgeseg.inference.masks import ClassBand, measure_areas
from edgeseg.streaming.sinks.base import Result, Writer
from edgeseg.streaming.states import describe_instances, describe_states

POLL_SECONDS = 0.1
# How long a slow reader may take for the last line when the stream ends.
FAREWELL_SECONDS = 1.0
# A pipe that select() reports as writable takes so many bytes without blocking (pipe(7)).
CHUNK = select.PIPE_BUF


class LineOutput:
    """A file descriptor for whole lines: one that was begun is finished before the next, whoever writes that."""

    def __init__(self, handle: int) -> None:
        """Take a file descriptor; it stays open at the end, since the caller opened it."""
        self._handle = handle
        self._lock = threading.Lock()
        self._rest = b""

    def send(self, line: bytes, gives_up: Callable[[], bool]) -> bool:
        """Write a line, waiting for a slow reader; False where it was given up before all of it was written."""
        with self._lock:
            if not self._drain(gives_up):
                return False
            self._rest = line
            is_sent = self._drain(gives_up)
            if len(self._rest) == len(line):
                # nothing of it was written, so nobody waits for the rest
                self._rest = b""
            return is_sent

    def _drain(self, gives_up: Callable[[], bool]) -> bool:
        while self._rest and not gives_up():
            _, ready, _ = select.select([], [self._handle], [], POLL_SECONDS)
            if ready:
                self._rest = self._rest[os.write(self._handle, self._rest[:CHUNK]) :]
        return not self._rest


class JsonLinesWriter(Writer):
    """Writes a line for every result; a reader that closes the pipe ends the stream."""

    name: ClassVar[str] = "the output of JSON lines"

    def __init__(self, output: int | LineOutput, classes: Sequence[ClassSpec], mm_per_px: float | None = None) -> None:
        """Take a file descriptor, or an output that several writers share."""
        self._output = LineOutput(output) if isinstance(output, int) else output
        self._classes, self._mm_per_px = tuple(classes), mm_per_px
        self._stopping = threading.Event()
        self._deadline = float("inf")

    def write(self, result: Result) -> bool:
        """Write one line, waiting for a slow reader."""
        line = json.dumps(describe_result(result, self._classes, self._mm_per_px)) + "\n"
        with explained_writes(Path("the JSON lines")):
            try:
                return self._output.send(line.encode("utf-8"), self._gives_up)
            # a reader that leaves has seen enough, as with `head`: no error
            except BrokenPipeError:
                self.wants_end = True
        return False

    def stop_waiting(self) -> None:
        """Limit the wait for the reader from now on."""
        # set before the event: the writer's thread reads it as soon as the event is set
        self._deadline = monotonic() + FAREWELL_SECONDS
        self._stopping.set()

    def _gives_up(self) -> bool:
        return self.wants_end or (self._stopping.is_set() and monotonic() > self._deadline)


def describe_result(result: Result, classes: Sequence[ClassSpec], mm_per_px: float | None) -> dict[str, Any]:
    """Convert a result to JSON values: times, and per class the area and the contours in the frame's pixels."""
    segmentation = result.segmentation
    labels, x, y = segmentation.patch
    size = result.frame.mm_per_px if mm_per_px is None else mm_per_px
    areas = measure_areas(labels, classes, size)
    bands = [_describe_band(band) for band in result.segmentation.bands] or len(areas) * [None]
    return {
        "number": result.frame.number,
        "name": result.frame.name,
        "source": result.frame.source,
        "source_name": result.source,
        "captured_at": round(result.frame.captured_at, 4),
        "age_ms": round(result.age_ms, 3),
        "frozen": result.frozen,
        "frame_px": [segmentation.size[1], segmentation.size[0]],
        "classes": [
            {**to_plain(area), "contours": trace_contours(labels == number, (x, y)), "band": band}
            for number, (area, band) in enumerate(zip(areas, bands, strict=True), 1)
        ],
        **describe_states(result.segmentation),
        **describe_instances(result.segmentation, size),
    }


def _describe_band(band: ClassBand) -> dict[str, list[list[list[int]]]]:
    return {"outer": [line.tolist() for line in band.outer], "inner": [line.tolist() for line in band.inner]}


def trace_contours(mask: NDArray[np.bool_], corner: tuple[int, int] = (0, 0)) -> list[list[list[int]]]:
    """List the outer contours of a mask that begins at a corner of the frame, each a list of [x, y]."""
    if not mask.size:
        return []
    form = mask.view(np.uint8)
    outlines, _ = cv2.findContours(form, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=corner)
    return [np.asarray(outline, dtype=np.int64).reshape(-1, 2).tolist() for outline in outlines]
