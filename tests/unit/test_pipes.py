"""Frames through pipes: raw ones on standard input, and those of a GStreamer pipeline."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from edgeseg.core.errors import SourceError
from edgeseg.runtime.sources.base import Source
from edgeseg.runtime.sources.choose import open_source
from edgeseg.runtime.sources.gstreamer import GstreamerSource
from edgeseg.runtime.sources.pipe import Pipe
from edgeseg.runtime.sources.y4m import Y4mReader

needs_gstreamer = pytest.mark.skipif(
    shutil.which("gst-launch-1.0") is None, reason="no gst-launch-1.0: apt-get install gstreamer1.0-tools"
)
LIVE = "videotestsrc is-live=true pattern=white ! video/x-raw,width=64,height=48,framerate=30/1"


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.FileIO]:
    """Put a pipe in the place of standard input; gives its writing end."""
    reading, writing = os.pipe()
    end = io.FileIO(writing, "w")
    with os.fdopen(reading, "rb") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        yield end
    end.close()


def read_all(source: Source) -> list[tuple[int, ...]]:
    shapes = []
    while (image := source.read()) is not None:
        shapes.append(image.shape)
    source.close()
    return shapes


@pytest.mark.parametrize(("kind", "shape"), [("gray", (4, 6)), ("bgr", (4, 6, 3))])
def test_raw_frames_on_standard_input(writer: io.FileIO, kind: str, shape: tuple[int, ...]) -> None:
    source = open_source(f"-?size=6x4&format={kind}")
    writer.write(bytes(range(int(np.prod(shape)))) + bytes(int(np.prod(shape))))
    writer.close()
    first = source.read()
    assert source.live
    assert first is not None
    assert first.ravel().tolist() == list(range(int(np.prod(shape))))
    assert read_all(source) == [shape]


def test_an_unfinished_frame_is_counted(writer: io.FileIO) -> None:
    source = open_source("-?size=6x4&fps=30")
    writer.write(bytes(24 + 7))
    writer.close()
    assert not source.live
    assert read_all(source) == [(4, 6)]
    assert source.health.corrupt == 1


def test_a_writer_that_waits_does_not_hold_the_end(writer: io.FileIO) -> None:
    source = open_source("-?size=6x4")
    writer.write(bytes(10))
    threading.Timer(0.05, source.interrupt).start()
    began = monotonic()
    assert source.read() is None
    assert monotonic() - began < 5
    assert source.health.corrupt == 0


@pytest.mark.parametrize("text", ["-", "-?format=gray", "-?size=6x4&format=rgb", "-?size=0x4", "-?size=6x4&fps=0"])
def test_wrong_raw_options_are_told(text: str) -> None:
    with pytest.raises(SourceError, match="size, format, fps as options"):
        open_source(text)


def test_a_silent_pipe_is_told_in_time() -> None:
    reading, writing = os.pipe()
    began = monotonic()
    with pytest.raises(SourceError, match=r"no whole one within 0\.2 s"):
        Pipe(reading, "the pipe", stall_s=0.2).read(1)
    assert monotonic() - began < 5
    os.close(reading)
    os.close(writing)


def read_y4m(data: bytes) -> list[tuple[int, ...]]:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    reader, shapes = Y4mReader(Pipe(reading, "the pipe")), []
    while (image := reader.read()) is not None:
        shapes.append(image.shape)
    os.close(reading)
    return shapes


def test_the_size_may_change_in_a_pipe() -> None:
    small, large = b"YUV4MPEG2 C420 W4 H2 F30:1\nFRAME\n" + bytes(12), b"YUV4MPEG2 W8 H4\nFRAME\n" + bytes(48)
    assert read_y4m(small + large + b"FRAME\n" + bytes(9)) == [(2, 4, 3), (4, 8, 3)]


@pytest.mark.parametrize(
    ("data", "said"), [(b"\x89PNG\r\n and more\n", "bytes that are none"), (b"YUV4MPEG2 W5 H4\n", "even width")]
)
def test_another_kind_of_bytes_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        read_y4m(data)


@needs_gstreamer
def test_a_pipeline_gives_its_frames_and_ends() -> None:
    source = open_source("gst://" + LIVE.replace("is-live", "num-buffers=5 is-live"))
    first = source.read()
    assert first is not None
    assert first.min() > 250
    assert read_all(source) == [(48, 64, 3)] * 4


@needs_gstreamer
@pytest.mark.parametrize(
    "pipeline", ["nosuchelement", "videotestsrc ! nosuchelement", "filesrc location=/nowhere ! decodebin"]
)
def test_a_pipeline_that_cannot_run_is_told(pipeline: str) -> None:
    source = open_source(f"gst://{pipeline}")
    with pytest.raises(SourceError, match=r"nosuchelement|Resource not found"):
        source.read()
    source.close()


@pytest.mark.parametrize(("pipeline", "said"), [("", "got none"), ("a 'b", "No closing quotation")])
def test_what_is_no_pipeline_is_told(pipeline: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        open_source(f"gst://{pipeline}")


@needs_gstreamer
def test_nothing_is_left_of_a_pipeline() -> None:
    source = GstreamerSource(LIVE)
    assert source.read() is not None
    source.close()
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    assert children.read_text(encoding="ascii") == ""


@needs_gstreamer
def test_a_killed_pipeline_is_started_again() -> None:
    source = open_source(f"gst://{LIVE}")
    assert source.read() is not None
    child = subprocess.check_output(["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], text=True)
    pid = next(int(line.split()[0]) for line in child.splitlines() if "gst-launch" in line)
    os.kill(pid, 9)
    for _ in range(200):
        assert source.read() is not None
        if source.health.interruptions:
            break
    source.close()
    assert source.health.interruptions == 1


def test_gstreamer_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SourceError, match=r"gst-launch-1\.0, got none"):
        open_source(f"gst://{LIVE}")
