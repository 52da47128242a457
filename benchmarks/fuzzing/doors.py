"""The product's entrances, each in one place: command lines, and functions where a command would take seconds."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

MOST_FRAMES = 16


class Refusal(Exception):  # noqa: N818 - no error: a command that ended as it should
    """A command did not take what it was given, without an error: wrong usage, or a defect in data."""


def run_command(*words: str | Path) -> int:
    """Run an edgeseg command in this process and give its exit code; what it raises goes through.

    Raises:
        Refusal: It was wrong usage.
    """
    from edgeseg.cli.app import app

    try:
        return int(app([str(word) for word in words], standalone_mode=False) or 0)
    except Exception as error:
        if any(kind.__name__ == "ClickException" for kind in type(error).__mro__):
            raise Refusal(str(error)) from error
        raise


def read_model(path: Path) -> None:
    """Read a model file."""
    from edgeseg.core import modelfile

    modelfile.read_model(path)


def inspect_model(path: Path) -> None:
    """Read, check and draw a model file: its card, its graph, what the linter says."""
    run_command("inspect", path, "--picture", path.with_suffix(".svg"), "--json", path.with_suffix(".json"))


def run_model(path: Path) -> None:
    """Load a model file as a program does, and draw the masks of two frames."""
    import edgeseg
    from edgeseg.streaming.options import StreamOptions

    with edgeseg.stream(path, "phantom://?frames=2&size=64", options=StreamOptions(60_000.0, frames=2)) as stream:
        for result in stream:
            result.segmentation.labels.sum()


def check_data(folder: Path, cases: int) -> None:
    """Read all of a data folder.

    Raises:
        Refusal: Not all of so many cases could be used.
    """
    report, sheet = folder.parent / "check.json", folder.parent / "sheet.png"
    run_command("data", "check", folder, "--json", report, "--sheet", sheet)
    found = json.loads(report.read_text("utf-8"))["cases"]
    if found < cases:
        raise Refusal(f"{found} of {cases} cases")


def play_source(text: str) -> None:
    """Read frames of a recorded source."""
    from edgeseg.streaming.sources.choose import open_source

    with closing(open_source(text)) as source:
        _read_some(source.read)


def play_camera(url: str) -> None:
    """Read frames of a network camera until it ends; without coming back, which would wait."""
    from edgeseg.streaming.sources.mjpeg import MjpegSource

    with closing(MjpegSource(url, 0.5)) as source:
        _read_some(source.read)


def play_pipeline(data: bytes) -> None:
    """Read frames that say their own size out of a pipe, as a GStreamer pipeline's are."""
    from edgeseg.streaming.sources.pipes import Pipe, Y4mReader

    _pour(data, lambda end: _read_some(Y4mReader(Pipe(end, "the pipeline", 2.0)).read))


def play_standard_input(options: str, data: bytes) -> None:
    """Read raw frames off standard input."""

    def read(end: int) -> None:
        os.dup2(end, 0)
        try:
            play_source(f"-?{options}")
        finally:
            with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - its descriptor is wanted
                os.dup2(nothing.fileno(), 0)

    _pour(data, read)


def read_recipe(path: Path) -> None:
    """Read a recipe."""
    from edgeseg.compression.recipe import load_recipe

    load_recipe(str(path))


def read_board(path: Path) -> None:
    """Read a board's profile."""
    from edgeseg.machine.boards import load_board

    load_board(str(path))


def open_viewer(on_error: Callable[[BaseException], None]) -> Any:
    """Open the page of a stream whose frames come from the page itself; what fails in an answer is told."""
    import sys

    from edgeseg.core.spec import ClassSpec
    from edgeseg.streaming.latency import LatencyRecorder
    from edgeseg.streaming.sinks.base import StreamInfo
    from edgeseg.streaming.sources.browser import BrowserSource
    from edgeseg.streaming.viewer import WebViewer
    from edgeseg.web.server import WebServer

    def note(*_: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None:
            on_error(error)

    WebServer.handle_error = note  # type: ignore[method-assign]
    source = BrowserSource("browser://")

    def read() -> bool:
        try:
            return source.read() is not None
        except Exception as error:  # noqa: BLE001 - noted by whoever asked
            on_error(error)
            return True

    def capture() -> None:
        while read():
            pass

    threading.Thread(target=capture, daemon=True).start()
    info = StreamInfo("fuzz", "browser://", _report_backend, LatencyRecorder(50.0, 0.01), 0.1, source.latest_slot)
    return WebViewer(info, (ClassSpec("target"),), port=0)


def make_result() -> Any:
    """Make a blank result of a stream."""
    import numpy as np

    from edgeseg.inference.segmenter import Segmentation, StageTimes
    from edgeseg.streaming.sinks.base import Result
    from edgeseg.streaming.sources.base import Frame

    blank = np.zeros((48, 64), np.uint8)
    return Result(Frame(blank, 0, 0.0), Segmentation(blank, StageTimes(1.0, 1.0, 1.0)), 5.0)


def _report_backend() -> Any:
    from edgeseg.backends.select import BackendReport

    return BackendReport("cpu", "auto", None, "", None)


def _read_some(read: Callable[[], Any]) -> None:
    for _ in range(MOST_FRAMES):
        if read() is None:
            return


def _pour(data: bytes, read: Callable[[int], None]) -> None:
    """Write into a pipe on another thread while this one reads from it."""
    reading, writing = os.pipe()

    def write() -> None:
        with suppress(OSError), os.fdopen(writing, "wb", 0) as file:
            file.write(data)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        read(reading)
    finally:
        os.close(reading)
        writer.join(1.0)
