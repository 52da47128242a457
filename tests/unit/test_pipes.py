"""Frames through pipes: raw ones on standard input, and those of a GStreamer pipeline."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from edgeseg.core.errors import LimitError, SourceError
from edgeseg.streaming.sources.base import Notice, Source
from edgeseg.streaming.sources.choose import open_source
from edgeseg.streaming.sources.gstreamer import GstreamerSource
from edgeseg.streaming.sources.pipes import Pipe, RawSource, Y4mReader

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
    with pytest.raises(SourceError, match=r"size.*format.*fps"):
        open_source(text)


def test_a_silent_pipe_is_told_in_time() -> None:
    reading, writing = os.pipe()
    began = monotonic()
    with pytest.raises(SourceError, match=r"the pipe.*0\.2 s"):
        Pipe(reading, "the pipe", stall_s=0.2).read(1)
    assert monotonic() - began < 5
    os.close(reading)
    os.close(writing)


def drip(writing: int, piece: bytes, pause_s: float) -> threading.Event:
    """Write a piece again and again until the event is set or the reader goes."""
    done = threading.Event()

    def write() -> None:
        with contextlib.suppress(OSError):
            while not done.wait(pause_s):
                os.write(writing, piece)

    threading.Thread(target=write, daemon=True).start()
    return done


@pytest.mark.parametrize(
    ("beginning", "piece", "pause_s"),
    [
        (b"YUV4MPEG2 W64 H48\nFRAME\n", b"x", 0.02),
        (b"YUV4MPEG2 W64", b" ", 0.02),
        (b"", b"YUV4MPEG2 W64 H48\n" * 100, 0.0),
    ],
    ids=["a frame that drips", "a header that drips", "headers without a frame"],
)
def test_a_pipe_without_whole_frames_is_told_in_time(beginning: bytes, piece: bytes, pause_s: float) -> None:
    reading, writing = os.pipe()
    os.write(writing, beginning)
    done = drip(writing, piece, pause_s)
    began = monotonic()
    with pytest.raises(SourceError, match=r"the pipe.*0\.3 s"):
        Y4mReader(Pipe(reading, "the pipe", stall_s=0.3)).read()
    assert monotonic() - began < 3
    done.set()
    os.close(reading)


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (10**200, 2), (0, 0), (2, 40_000)])
def test_a_header_that_announces_too_much_is_refused(width: int, height: int) -> None:
    tracemalloc.start()
    with pytest.raises(LimitError):
        read_y4m(b"YUV4MPEG2 W%d H%d F30:1\nFRAME\n" % (width, height))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_raw_frames_beyond_the_table_are_refused(writer: io.FileIO) -> None:
    writer.close()
    with pytest.raises(LimitError, match="8192x8192"):
        open_source("-?size=8192x8192&format=bgr")


def test_a_writer_that_falls_silent_is_told_and_waited_for(writer: io.FileIO) -> None:
    source, heard = RawSource("-?size=6x4", stall_s=0.15), []
    told = threading.Event()

    def hear(notice: Notice) -> None:
        heard.append(notice.state)
        told.set()

    source.on_notice = hear
    writer.write(bytes(24 + 5))
    assert source.read() is not None

    def finish() -> None:
        assert told.wait(10)
        threading.Event().wait(0.02)
        writer.write(bytes(range(19)))
        writer.close()

    thread = threading.Thread(target=finish)
    thread.start()
    image = source.read()
    thread.join()
    assert image is not None
    assert image.ravel().tolist() == [0] * 5 + list(range(19))
    assert heard == ["lost", "back"]
    assert (source.health.interruptions, source.health.corrupt) == (1, 0)
    assert source.health.lost_seconds > 0
    assert source.read() is None


def test_standard_input_that_is_closed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(SourceError, match="standard input"):
        open_source("-?size=6x4")


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


@pytest.mark.parametrize(("data", "said"), [(b"\x89PNG\r\n and more\n", "bytes"), (b"YUV4MPEG2 W5 H4\n", "even width")])
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


def make_launcher(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program in the place of gst-launch-1.0; it writes its frames to the descriptor $FD."""
    program = folder / "gst-launch-1.0"
    program.write_text(f'#!/bin/sh\nFD=$(echo "$*" | sed "s/.*fd=\\([0-9]*\\).*/\\1/")\n{script}\n', encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_a_pipeline_that_drips_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_launcher(tmp_path, monkeypatch, 'while :; do echo -n "YUV4MPEG2 W4 H2 " > /dev/fd/$FD; sleep 0.05; done')
    source = GstreamerSource("x", stall_s=0.3)
    with pytest.raises(SourceError, match=r"0\.3 s|bytes"):
        source.read()
    source.close()


def test_what_a_pipeline_says_is_bounded_and_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "ERROR: no rtsp://me:Zq7@host/x?token=Zq7 nor user-pw=Zq7 nor location=/home/me/Zq7/a.mp4 \\033[2J"
    make_launcher(tmp_path, monkeypatch, f"head -c 3000000 /dev/zero; printf '\\n{words}\\n'; exit 1")
    source = GstreamerSource("rtspsrc user-pw=Zq7")
    with pytest.raises(SourceError, match="ERROR: no rtsp://host/x") as caught:
        source.read()
    source.close()
    assert "Zq7" not in caught.value.message
    assert caught.value.message.isprintable()


@needs_gstreamer
def test_a_password_that_is_not_quoted_is_not_told() -> None:
    source = open_source("gst://rtspsrc location=rtsp://127.0.0.1:9/x user-pw=first Zq7 ! decodebin")
    with pytest.raises(SourceError, match="no element") as caught:
        source.read()
    source.close()
    assert "Zq7" not in caught.value.message


@pytest.mark.parametrize("pipeline", ["a\0b", "a" * 140_000], ids=["NUL", "too long"])
def test_a_pipeline_that_cannot_be_started_is_told(pipeline: str) -> None:
    with pytest.raises(SourceError, match="can be started"):
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
