"""Measure how old a frame is when its result is there, against reading the same camera in the loop.

    python benchmarks/frame_age.py [--seconds 20] [--net-ms 50] [--minutes 0]

The age is the true one: each frame carries the time of its making. The net is a wait of --net-ms, so that only
the capture differs. --minutes plays a source fifty times faster than the net and watches memory and age over time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import cv2
import numpy as np
from camera import read_time
from numpy.typing import NDArray

from edgeseg.core.stats import Percentiles, summarise_times
from edgeseg.runtime.grabber import Grabber
from edgeseg.runtime.sources.choose import open_source

HERE = Path(__file__).resolve().parent
FPS = 30
HEIGHT = 480
LOW = 64
"""Height of the picture of the source that is too fast, since a high one could not be made so often."""
TOO_FAST = 50
SYSTEM_PYTHON = "/usr/bin/python3"
_RTSP_CHECK = "import gi; gi.require_version('GstRtspServer', '1.0')"


class Net:
    """Waits as long as a slow net would take, and notes the true age of each frame."""

    def __init__(self, milliseconds: float) -> None:
        self._seconds = milliseconds / 1e3
        self.ages: list[float] = []

    def run(self, image: NDArray[Any]) -> None:
        """Take one frame."""
        threading.Event().wait(self._seconds)
        self.ages.append(1e3 * monotonic() - read_time(image))


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
            net.run(frame.image)


def run_naively(url: str, net: Net, seconds: float) -> None:
    """Read in the loop, one frame after the other."""
    capture, until = cv2.VideoCapture(url), monotonic() + seconds
    while monotonic() < until:
        found, image = capture.read()
        if not found:
            break
        net.run(np.asarray(image))
    capture.release()


def measure(name: str, url: str, net_ms: float, seconds: float) -> None:
    """Print a row for each way of reading."""
    for way, run in (("newest frame", run_newest), ("read in the loop", run_naively)):
        net = Net(net_ms)
        run(url, net, seconds)
        print_row(f"{name}, {way}", summarise_times(net.ages), len(net.ages))


def print_row(name: str, ages: Percentiles, count: int) -> None:
    """Print a row of the table."""
    print(f"{name:<32}{count:>8}{ages.p50:>10.1f}{ages.p95:>10.1f}{ages.p99:>10.1f}", flush=True)


def read_memory_mb() -> float:
    """Read how much memory this process holds now."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def soak(url: str, net_ms: float, minutes: float) -> None:
    """Print memory and frame age every tenth of the time."""
    print(f"\na source {TOO_FAST} times faster than the net\n{'minute':>8}{'MB':>8}{'p50 ms':>10}{'p99 ms':>10}")
    with Grabber(open_source(url)) as grabber:
        began = monotonic()
        for part in range(1, 11):
            net = Net(net_ms)
            while monotonic() < began + 6 * part * minutes and (frame := grabber.newest()) is not None:
                net.run(frame.image)
            ages = summarise_times(net.ages)
            print(f"{part * minutes / 10:>8.1f}{read_memory_mb():>8.1f}{ages.p50:>10.1f}{ages.p99:>10.1f}", flush=True)
        print(f"{grabber.captured} frames captured, {grabber.dropped} dropped")


def has_rtsp() -> bool:
    """Say whether the system's Python can serve RTSP."""
    if not Path(SYSTEM_PYTHON).exists():
        return False
    return subprocess.run([SYSTEM_PYTHON, "-c", _RTSP_CHECK], check=False, capture_output=True).returncode == 0


def main() -> None:
    """Print a table, and a second one on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--net-ms", type=float, default=50.0)
    parser.add_argument("--minutes", type=float, default=0.0)
    options = parser.parse_args()
    print(f"frame age in milliseconds, {FPS} frames/s, a net of {options.net_ms:g} ms")
    print(f"{'source':<32}{'frames':>8}{'p50':>10}{'p95':>10}{'p99':>10}")
    with start_camera(sys.executable, "camera.py", FPS, HEIGHT) as port:
        measure("Motion JPEG", f"http://127.0.0.1:{port}/", options.net_ms, options.seconds)
    if has_rtsp():
        with start_camera(SYSTEM_PYTHON, "rtsp_camera.py", FPS) as port:
            measure("RTSP", f"rtsp://127.0.0.1:{port}/camera", options.net_ms, options.seconds)
    else:
        print("RTSP skipped: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly")
    if options.minutes > 0:
        fps = TOO_FAST * 1e3 / options.net_ms
        with start_camera(sys.executable, "camera.py", round(fps), LOW) as port:
            soak(f"http://127.0.0.1:{port}/", options.net_ms, options.minutes)


if __name__ == "__main__":
    main()
