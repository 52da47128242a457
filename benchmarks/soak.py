"""Watch the memory of a whole stream over more frames than it keeps figures of.

    python benchmarks/soak.py OUT [--model FILE] [--frames 150000] [--rate max]

The stream runs as a user starts it, in a process of its own: phantom frames, the page with one client that reads the
picture and the figures, Prometheus, and JSON lines to /dev/null. Without --model, the network is one operator, so that
what is around it is asked for as often as possible. It held when memory at the end is within 1 MB of what it was after
a tenth of the frames. Writes OUT/soak.md and .json.
"""

from __future__ import annotations

import argparse
import http.client
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep

from trained import write_results

from edgeseg.streaming.latency import CAPACITY

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

GROWTH_MB = 1.0
PARTS = 20
LOOK_SECONDS = 0.5
SOCKET_TIMEOUT_S = 10
HEADER = ("frames", "MB", "its own", "grown", "memory")


@dataclass(frozen=True)
class Look:
    """What a stream held after so many frames."""

    frames: int
    megabytes: float
    own_megabytes: float
    """Without what is mapped from files."""


def make_model(folder: Path) -> Path:
    """Write a network of one operator."""
    from tests.tinymodels import write_bright_model

    return write_bright_model(folder / "one-operator.tflite")


def read_memory(pid: int) -> tuple[float, float]:
    """Read how many MB a process holds, and how many of them are its own."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    whole, own = (int(status.split(f"{name}:")[1].split()[0]) / 1024 for name in ("VmRSS", "RssAnon"))
    return whole, own


def read_port(line: str) -> int:
    """Find the port in an address that the stream printed."""
    return int(line.split("127.0.0.1:")[1].split("/")[0])


def ask(port: int, path: str) -> bytes:
    """Ask one of the stream's servers."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SOCKET_TIMEOUT_S)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read()


def count_frames(port: int) -> int:
    """Ask how many frames got a mask."""
    lines = ask(port, "/metrics").decode().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("edgeseg_frames_processed_total ")))


def watch(port: int, ended: threading.Event) -> None:
    """Do what an open page does: ask for figures twice a second, while another thread reads the picture."""
    threading.Thread(target=ask, args=(port, "/picture"), daemon=True).start()
    while not ended.wait(LOOK_SECONDS):
        ask(port, "/numbers?page=soak")


@contextmanager
def run_stream(model: Path, rate: str) -> Iterator[tuple[int, int]]:
    """Run a stream that somebody watches; gives its process and the port of its figures."""
    source = ["--source", "phantom://", "--every-frame", "--rate", rate]
    command = [
        sys.executable,
        "-m",
        "edgeseg",
        "stream",
        str(model),
        *source,
        "--emit",
        "--port",
        "0",
        "--metrics",
        "0",
    ]
    ended = threading.Event()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        figures, page = read_port(process.stderr.readline()), read_port(process.stderr.readline())
        watcher = threading.Thread(target=watch, args=(page, ended))
        watcher.start()
        try:
            yield process.pid, figures
        finally:
            ended.set()
            watcher.join()
            process.terminate()
            process.communicate()


def soak(model: Path, rate: str, frames: int) -> Iterator[Look]:
    """Look at the memory at every twentieth of the frames."""
    with run_stream(model, rate) as (pid, port):
        for part in range(1, PARTS + 1):
            while (done := count_frames(port)) < frames * part // PARTS:
                sleep(LOOK_SECONDS)
            yield Look(done, *read_memory(pid))


def make_rows(looks: Sequence[Look]) -> list[list[str]]:
    """Put the looks into rows, each held against the second, after which nothing should grow."""
    rows = []
    for number, look in enumerate(looks):
        grown = look.megabytes - looks[1].megabytes
        verdict = "" if number < 1 else "held" if grown <= GROWTH_MB else "missed"
        rows.append([str(look.frames), f"{look.megabytes:.2f}", f"{look.own_megabytes:.2f}", f"{grown:+.2f}", verdict])
    return rows


def main() -> None:
    """Write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--frames", type=int, default=150_000)
    parser.add_argument("--rate", default="max")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        looks = list(soak(chosen.model or make_model(Path(folder)), chosen.rate, chosen.frames))
    notes = [
        "# The memory of a stream, past the frames that it keeps figures of",
        "",
        f"    python benchmarks/soak.py OUT --frames {chosen.frames} --rate {chosen.rate}",
        "",
        f"Figures cover the newest {CAPACITY} frames. Phantom frames, the page with one client, Prometheus and JSON",
        f"lines. Held: within {GROWTH_MB:g} MB of what it was after a tenth of the frames.",
    ]
    write_results(chosen.out, "soak", notes, HEADER, make_rows(looks))


if __name__ == "__main__":
    main()
