"""Results of a stream that was never run, for what shows or keeps them."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic

import numpy as np

from edgeseg.backends.select import BackendReport
from edgeseg.core.spec import ClassSpec, Region
from edgeseg.inference.confidence import ClassFinding
from edgeseg.inference.segmenter import Segmentation, StageTimes
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.sinks.base import Result, StreamInfo
from edgeseg.streaming.sources.base import Frame

CLASSES = (ClassSpec("lesion", (255, 176, 0)), ClassSpec("vessel", (64, 180, 230)))
REPORT = BackendReport("cpu", "cuda", "cuda is not here.", "", None)
AREA = 20 * 30


def make_info(mm_per_px: float | None = None) -> StreamInfo:
    """Describe a stream."""
    return StreamInfo("small", "phantom:linear", lambda: REPORT, LatencyRecorder(50.0, 80.0), mm_per_px)


def make_frame(number: int = 0) -> Frame:
    """Make a grey frame with a bright block at 10,20 of 30x20."""
    image = np.full((64, 80), 40, np.uint8)
    image[20:40, 10:40] = 200
    return Frame(image, number, monotonic())


def make_result(number: int = 0) -> Result:
    """Make a result whose mask marks the block."""
    frame = make_frame(number)
    return Result(frame, Segmentation((frame.image > 100).astype(np.uint8), StageTimes(1.0, 10.0, 2.0)), 20.0)


def make_decided(state: str, confidence: float | None, number: int = 0, distance: float | None = None) -> Result:
    """Make a result whose block is a lesion in a state, with soft edges in its scores; there is no vessel."""
    result = make_result(number)
    grid = np.zeros((16, 20, 2), np.uint8)
    grid[4:11, 2:11, 0], grid[5:10, 3:10, 0] = 100, 230
    findings = (
        ClassFinding("lesion", state, confidence, 0.9, 0.6),
        ClassFinding("vessel", "nothing", None, 0.1, None),
    )
    seen = replace(
        result.segmentation,
        classes=CLASSES,
        findings=findings,
        frame_classes={"benign": 0.7, "normal": 0.2},
        distance=distance,
        grid=grid,
        region=Region(0, 0, 80, 64),
    )
    return replace(result, segmentation=seen)
