"""What a page that somebody looks at adds to everything but the net: the second part of overhead.py."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import Any

from numpy.typing import NDArray

from edgeseg.bench.measure import make_frame
from edgeseg.core.modelfile import ModelFile
from edgeseg.inference.supervision import SupervisedSegmenter
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.live import StreamPipeline
from edgeseg.streaming.options import CaptureOptions, StreamOptions
from edgeseg.streaming.sinks.base import Result, Sink, StreamInfo
from edgeseg.streaming.sources.base import Source
from edgeseg.streaming.viewer import WebViewer

FPS = 30.0
ROUNDS, WARM_UP = 4, 5
CLIENTS = 4
SOCKET_TIMEOUT_S = 10
CLIENT = (
    "import http.client, sys\n"
    "connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))\n"
    "connection.request('GET', '/picture')\n"
    "answer = connection.getresponse()\n"
    "print(answer.status, flush=True)\n"
    "while answer.read1(65536): pass\n"
)
"""Reads the picture as a browser does; in another process, so that it takes no turn from the stream's Python."""


class Camera(Source):
    """Gives one colour frame of 640x480 again and again."""

    fps = FPS

    def __init__(self) -> None:
        self._image = make_frame(colour=True)

    def read(self) -> NDArray[Any]:
        """Give the frame."""
        return self._image


@contextmanager
def watch(viewer: WebViewer, clients: int = 1) -> Iterator[None]:
    """Read the page's picture from other processes for as long as the stream goes on."""
    port = viewer.url.rstrip("/").rsplit(":", 1)[1]
    with ExitStack() as opened:
        readers = [
            opened.enter_context(
                subprocess.Popen([sys.executable, "-c", CLIENT, port], stdout=subprocess.PIPE, text=True)
            )
            for _ in range(clients)
        ]
        try:
            for reader in readers:
                assert reader.stdout is not None
                status = reader.stdout.readline().strip()
                if status != "200":
                    raise SystemExit(f"Expected the page to answer 200, got {status or 'nothing'}.")
            yield
        finally:
            viewer.close()
            for reader in readers:
                reader.wait(SOCKET_TIMEOUT_S)


def play(segmenter: SupervisedSegmenter, sinks: Sequence[Sink], seconds: float) -> list[float]:
    """Play frames at a camera's rate; gives what passed from capture to the loop's body, less the inference."""
    options = StreamOptions(frames=WARM_UP + round(FPS * seconds), capture=CaptureOptions(FPS))
    recorder = LatencyRecorder(math.inf, 0.0)
    with StreamPipeline(segmenter, Camera(), recorder, sinks, options) as live:
        return [measure_rest(result) for result in live][WARM_UP:]


def measure_rest(result: Result) -> float:
    """Take what passed since a frame was captured, less its inference."""
    return 1e3 * (monotonic() - result.frame.captured_at) - result.segmentation.times.invoke


def play_watched(segmenter: SupervisedSegmenter, seconds: float) -> list[float]:
    """Do the same with the page open and one client."""
    info = StreamInfo(segmenter.card.name, "camera", segmenter.report, LatencyRecorder(math.inf, 0.0))
    viewer = WebViewer(info, segmenter.card.output.classes, port=0)
    with watch(viewer):
        return play(segmenter, [viewer], seconds)


def compare_watched(model: ModelFile, seconds: float) -> tuple[list[float], list[float]]:
    """Play without a page and with one in turn; gives the times of both."""
    segmenter = SupervisedSegmenter(model, "cpu")
    segmenter.warm_up()
    alone: list[float] = []
    watched: list[float] = []
    for _ in range(ROUNDS):
        alone += play(segmenter, (), seconds / ROUNDS)
        watched += play_watched(segmenter, seconds / ROUNDS)
    return alone, watched


def compare_throughput(model: ModelFile, seconds: float, clients: int = CLIENTS) -> tuple[list[float], list[float]]:
    """Measure frames per second at full speed without a page and with some clients, in turn."""
    segmenter = SupervisedSegmenter(model, "cpu")
    segmenter.warm_up()
    alone: list[float] = []
    watched: list[float] = []
    for _ in range(ROUNDS):
        alone.append(_count_per_second(segmenter, (), seconds / ROUNDS))
        info = StreamInfo(segmenter.card.name, "camera", segmenter.report, LatencyRecorder(math.inf, 0.0))
        viewer = WebViewer(info, segmenter.card.output.classes, port=0)
        with watch(viewer, clients):
            watched.append(_count_per_second(segmenter, [viewer], seconds / ROUNDS))
    return alone, watched


def _count_per_second(segmenter: SupervisedSegmenter, sinks: Sequence[Sink], seconds: float) -> float:
    options = StreamOptions(capture=CaptureOptions(rate=math.inf, every_frame=True))
    began = count = 0.0
    with StreamPipeline(segmenter, Camera(), LatencyRecorder(math.inf, 0.0), sinks, options) as live:
        for number, _ in enumerate(live):
            if number == WARM_UP:
                began = monotonic()
            elif number > WARM_UP:
                count += 1
                if monotonic() - began > seconds:
                    break
    return count / (monotonic() - began)
