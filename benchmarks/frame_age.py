"""Measure how old a frame is when its result is there, against reading the same camera in the loop.

    python benchmarks/frame_age.py OUT [--seconds 20] [--net-ms 50] [--minutes 0]

The true age counts from a frame's making: each carries its time, so that encoding, the way and decoding are in it. The
frame age counts as edgeseg does, from the frame's arrival in this program. The net is a wait of --net-ms, so that only
the capture differs. A row holds when its age at the 99th percentile is under one frame period plus one inference, both
as they were measured. --minutes plays a source fifty times faster than the net and watches memory and age over time.
Writes OUT/frame-age.md and .json, with --minutes also OUT/flood.md and .json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import cv2
import numpy as np
from camera import read_time
from numpy.typing import NDArray
from trained import write_results

from edgeseg.core.stats import Percentiles, summarise_times
from edgeseg.streaming.grabber import Grabber
from edgeseg.streaming.sources.choose import open_source

HERE = Path(__file__).resolve().parent
FPS = 30
HEIGHT = 480
LOW = 64
"""Height of the picture of the source that is too fast, since a high one could not be made so often."""
TOO_FAST = 50
GROWTH_MB = 5.0
HEADER = ("source", "reading", "frames", "true p50", "true p95", "true p99", "frame age p99", "limit", "verdict")
SOAK_HEADER = ("minute", "MB", "memory", "frame age p50", "frame age p99", "limit", "age", "captured", "dropped")
SYSTEM_PYTHON = "/usr/bin/python3"
_RTSP_CHECK = "import gi; gi.require_version('GstRtspServer', '1.0')"


@dataclass(frozen=True)
class Part:
    """What was seen in one part of a soak."""

    minute: float
    megabytes: float
    ages: Percentiles
    took: Percentiles
    captured: int
    dropped: int


class Net:
    """Waits as long as a slow net would take, and notes what it took and how old each frame was after it."""

    def __init__(self, milliseconds: float) -> None:
        self._seconds = milliseconds / 1e3
        self.took: list[float] = []
        self.true_ages: list[float] = []
        self.ages: list[float] = []

    def run(self, image: NDArray[Any], captured_at: float | None = None) -> None:
        """Take one frame; who reads naively does not know when it arrived."""
        began = monotonic()
        threading.Event().wait(self._seconds)
        ready = monotonic()
        self.took.append(1e3 * (ready - began))
        self.true_ages.append(1e3 * ready - read_time(image))
        if captured_at is not None:
            self.ages.append(1e3 * (ready - captured_at))

    def make_row(self) -> list[str]:
        """Put the ages into a row with its verdict."""
        true, own = summarise_times(self.true_ages), summarise_times(self.ages)
        limit = 1e3 / FPS + summarise_times(self.took).p99
        judged = own.p99 if self.ages else true.p99
        shown = (f"{true.p50:.1f}", f"{true.p95:.1f}", f"{true.p99:.1f}", f"{own.p99:.1f}" if self.ages else "")
        return [str(len(self.true_ages)), *shown, f"{limit:.1f}", tell_verdict(judged <= limit)]


@contextmanager
def start_camera(python: str, script: str, *arguments: float) -> Iterator[int]:
    """Start a camera in a process of its own; gives its port."""
    command = [python, str(HERE / script), *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.stdin.close()


def run_newest(url: str, net: Net, seconds: float) -> None:
    """Read with edgeseg: a thread drains the camera, the net gets the newest frame."""
    until = monotonic() + seconds
    with Grabber(open_source(url)) as grabber:
        while monotonic() < until and (frame := grabber.newest()) is not None:
            net.run(frame.image, frame.captured_at)


def run_naively(url: str, net: Net, seconds: float) -> None:
    """Read in the loop, one frame after the other."""
    capture, until = cv2.VideoCapture(url), monotonic() + seconds
    while monotonic() < until:
        found, image = capture.read()
        if not found:
            break
        net.run(np.asarray(image))
    capture.release()


def measure(name: str, url: str, net_ms: float, seconds: float) -> list[list[str]]:
    """Make a row for each way of reading."""
    rows = []
    for way, run in (("newest frame", run_newest), ("read in the loop", run_naively)):
        net = Net(net_ms)
        run(url, net, seconds)
        rows.append([name, way, *net.make_row()])
    return rows


def read_memory_mb() -> float:
    """Read how much memory this process holds now."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def soak(url: str, net_ms: float, minutes: float) -> Iterator[Part]:
    """Watch memory and frame age every minute, or every tenth of a shorter time."""
    parts = max(10, round(minutes))
    with Grabber(open_source(url)) as grabber:
        began = monotonic()
        for part in range(1, parts + 1):
            net = Net(net_ms)
            while monotonic() < began + 60 * part * minutes / parts and (frame := grabber.newest()) is not None:
                net.run(frame.image, frame.captured_at)
            ages, took = summarise_times(net.ages), summarise_times(net.took)
            yield Part(part * minutes / parts, read_memory_mb(), ages, took, grabber.captured, grabber.dropped)


def make_soak_rows(parts: Sequence[Part], fps: float) -> list[list[str]]:
    """Put the parts into rows; memory is held against what it was after the first minute."""
    settled = next((part for part in parts if part.minute >= 1), parts[0])
    rows = []
    for part in parts:
        limit = 1e3 / fps + part.took.p99
        grown = part.megabytes - settled.megabytes if part.minute >= settled.minute else 0.0
        memory = (f"{part.megabytes:.1f}", tell_verdict(grown <= GROWTH_MB))
        ages = (f"{part.ages.p50:.1f}", f"{part.ages.p99:.1f}", f"{limit:.1f}", tell_verdict(part.ages.p99 <= limit))
        rows.append([f"{part.minute:g}", *memory, *ages, str(part.captured), str(part.dropped)])
    return rows


def tell_verdict(held: bool) -> str:
    """Say whether a limit held."""
    return "held" if held else "missed"


def has_rtsp() -> bool:
    """Say whether the system's Python can serve RTSP."""
    if not Path(SYSTEM_PYTHON).exists():
        return False
    return subprocess.run([SYSTEM_PYTHON, "-c", _RTSP_CHECK], check=False, capture_output=True).returncode == 0


def compare_cameras(net_ms: float, seconds: float) -> tuple[list[list[str]], str]:
    """Make the rows of all cameras, and say which could not be had."""
    with start_camera(sys.executable, "camera.py", FPS, HEIGHT) as port:
        rows = measure("Motion JPEG", f"http://127.0.0.1:{port}/", net_ms, seconds)
    if not has_rtsp():
        return rows, "RTSP skipped: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly"
    with start_camera(SYSTEM_PYTHON, "rtsp_camera.py", FPS) as port:
        return rows + measure("RTSP", f"rtsp://127.0.0.1:{port}/camera", net_ms, seconds), ""


def main() -> None:
    """Write a table, and a second one on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--net-ms", type=float, default=50.0)
    parser.add_argument("--minutes", type=float, default=0.0)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    rows, skipped = compare_cameras(chosen.net_ms, chosen.seconds)
    notes = [
        "# How old a frame is when its result is there",
        "",
        "    python benchmarks/frame_age.py OUT",
        "",
        f"Milliseconds; {FPS} frames/s, a net of {chosen.net_ms:g} ms, {chosen.seconds:g} s each. {skipped}".rstrip(),
        "The limit is one frame period plus one inference at its 99th percentile. The age of a Motion JPEG frame",
        "counts from the arrival of its bytes, so that its decoding is in it, and the limit has no room for that.",
    ]
    write_results(chosen.out, "frame-age", notes, HEADER, rows)
    if chosen.minutes > 0:
        fps = TOO_FAST * 1e3 / chosen.net_ms
        with start_camera(sys.executable, "camera.py", round(fps), LOW) as port:
            parts = list(soak(f"http://127.0.0.1:{port}/", chosen.net_ms, chosen.minutes))
        notes = [
            f"# A source {TOO_FAST} times faster than the net",
            "",
            f"    python benchmarks/frame_age.py OUT --minutes {chosen.minutes:g}",
            "",
            f"{fps:g} frames/s, a net of {chosen.net_ms:g} ms. Held: frame age under one period plus one inference, "
            f"and memory within {GROWTH_MB:g} MB of what it was after the first minute.",
        ]
        write_results(chosen.out, "flood", notes, SOAK_HEADER, make_soak_rows(parts, fps))


if __name__ == "__main__":
    main()
