"""Measure what a user waits for before anything happens, and what the light install takes: disk and memory.

    python benchmarks/startup.py OUT [--model FILE] [--runs 11] [--seconds 20]

edgeseg's wheel is built and installed without extras into a fresh environment, and everything is measured there. Times
are medians of fresh processes, from their start. The first mask is that of a grey 640x480 frame that waits on standard
input; a file that is new to the machine is tried in a process of its own before that, once. Memory is the most that the
whole process held while it streamed 30 of them per second. Writes OUT/startup.md and .json. Without --model an
untrained network is made, which needs the training packages.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, sleep

from trained import write_results
from untrained import pick_model

from edgeseg.bench.memory import read_peak_mb
from edgeseg.core.process import run_limited
from edgeseg.deploy.bundle import CHECKOUT, build_wheel
from edgeseg.phantom import render_case

FPS, SIZE = 30, (480, 640)
INSTALL_SECONDS, END_SECONDS = 600.0, 30.0
HEADER = ("what", "median", "smallest", "largest", "unit")
SOURCE = f"-?size={SIZE[1]}x{SIZE[0]}"
COMMANDS = {
    "python, nothing imported": ["-c", "pass"],
    "edgeseg --help": ["-m", "edgeseg", "--help"],
    "edgeseg doctor": ["-m", "edgeseg", "doctor"],
    "import of the device side": [
        "-c",
        "import edgeseg.streaming.loop, edgeseg.evaluation.score, edgeseg.bench.measure",
    ],
}
VIEWS = {"no page": ["--view", "none"], "a page that nobody opened": ["--view", "web", "--port", "0"]}


def install_light(folder: Path) -> tuple[Path, list[list[str]]]:
    """Install the wheel into a fresh environment; gives its Python, and rows about what came."""
    wheel, venv = build_wheel(CHECKOUT, folder), folder / "venv"
    run([sys.executable, "-m", "venv", str(venv)], folder)
    (packages,) = venv.glob("lib/python*/site-packages")
    before = measure_folder(packages)
    python = venv / "bin" / "python"
    run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)], folder)
    megabytes, files, names = (now - then for now, then in zip(measure_folder(packages), before, strict=True))
    return python, [
        ["light install", f"{megabytes:.1f}", "", "", "MB"],
        ["light install", f"{files:.0f}", "", "", "files"],
        ["light install", f"{names:.0f}", "", "", "packages"],
        ["edgeseg's wheel", f"{wheel.stat().st_size / 1e3:.0f}", "", "", "kB"],
    ]


def run(command: Sequence[str], folder: Path) -> None:
    """Run a command that must succeed, outside of the checkout."""
    code, said = run_limited(command, folder, INSTALL_SECONDS)
    if code:
        raise SystemExit(f"Expected {' '.join(command[1:4])} to succeed, got code {code}: {said[-500:]}")


def measure_folder(folder: Path) -> tuple[float, float, float]:
    """Count megabytes, files and packages below a folder."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(sizes) / 1e6, float(len(sizes)), float(len(list(folder.glob("*.dist-info"))))


def time_command(python: Path, arguments: Sequence[str]) -> float:
    """Run one fresh process and take its seconds."""
    start = perf_counter()
    run([str(python), *arguments], python.parent)
    return perf_counter() - start


@contextmanager
def start_stream(python: Path, model: Path, options: Sequence[str], cache: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a stream that reads frames from us; at the end its input is closed and it ends by itself.

    What edgeseg remembers of model files goes into `cache`.
    """
    stream = ["-m", "edgeseg", "stream", str(model.resolve()), "--source", SOURCE, "--budget-ms", "60000", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [str(python), *stream],
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
        cwd=python.parent,
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
    ) as process:
        yield process
        process.communicate(timeout=END_SECONDS)
    if process.returncode:
        raise SystemExit(f"Expected a stream to end with code 0, got {process.returncode}.")


def time_first_mask(python: Path, model: Path, frame: bytes, cache: Path) -> float:
    """Take the seconds from the start of a process to the JSON line of its first mask."""
    start = perf_counter()
    with start_stream(python, model, ["--view", "none", "--emit"], cache) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(frame)
        process.stdin.flush()
        process.stdout.readline()
        return perf_counter() - start


def time_new_file(python: Path, model: Path, frame: bytes) -> float:
    """Take the seconds to the first mask of a file that this machine has never run."""
    with TemporaryDirectory() as name:
        return time_first_mask(python, model, frame, Path(name))


def measure_memory(
    python: Path, model: Path, frame: bytes, options: Sequence[str], cache: Path, seconds: float
) -> float:
    """Take the most megabytes that a process held while it streamed."""
    with start_stream(python, model, options, cache) as process:
        assert process.stdin is not None
        due = monotonic()
        until = due + seconds
        while due < until:
            process.stdin.write(frame)
            due += 1 / FPS
            sleep(max(0.0, due - monotonic()))
        return read_peak_mb(process.pid)


def make_row(name: str, take: Callable[[], float], runs: int) -> list[str]:
    """Take the seconds of fresh processes; the first fills the disk's cache and is not counted."""
    take()
    taken = [take() for _ in range(runs)]
    return [name, *(f"{value:.3f}" for value in (statistics.median(taken), min(taken), max(taken))), "s"]


def main() -> None:
    """Measure in a fresh environment and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=20.0)
    chosen = parser.parse_args()
    frame = render_case(seed=0, size=SIZE).image.tobytes()
    with TemporaryDirectory() as name:
        folder = Path(name)
        cache = folder / "cache"
        cache.mkdir()
        model = pick_model(chosen.model, folder)
        python, rows = install_light(folder)
        for title, arguments in COMMANDS.items():
            rows.append(make_row(title, partial(time_command, python, arguments), chosen.runs))
        masks = {
            "process start to first mask": partial(time_first_mask, python, model, frame, cache),
            "the same with a file that is new here": partial(time_new_file, python, model, frame),
        }
        rows += [make_row(title, take, chosen.runs) for title, take in masks.items()]
        for title, options in VIEWS.items():
            peak = measure_memory(python, model, frame, options, cache, chosen.seconds)
            rows.append([f"memory of a stream, {title}", f"{peak:.1f}", "", "", "MB"])
    notes = (
        "# Before anything happens",
        "",
        "    python benchmarks/startup.py OUT --model FILE",
        "",
        f"The wheel without extras in a fresh environment; {model.name}; {chosen.runs} fresh processes for each time. "
        f"Memory is the most that a process held in {chosen.seconds:g} s of 640x480 at {FPS} frames/s.",
    )
    chosen.out.mkdir(parents=True, exist_ok=True)
    write_results(chosen.out, "startup", notes, HEADER, rows)


if __name__ == "__main__":
    main()
