"""What checks cost a user: another checkout against this one, in turn, in one run on one machine.

    python benchmarks/cost_of_safety.py OUT BEFORE [--rounds 11] [--model FILE]

BEFORE is a checkout of an earlier state. Both run with this Python and its packages, each with a cache of compiled
modules of its own. Measured from the start of fresh processes: `edgeseg --help`; the first mask of a grey 640x480 frame
that waits on standard input, for a model file that this machine has never run, and for one that it has; and, by
`benchmarks/overhead.py` of each checkout, everything but the net. The order changes with every round. A ratio is that
of the medians. Each checkout writes the model file that it measures, which needs the training packages; with --model
both read that one. Writes OUT/cost-of-safety.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from trained import write_results

from edgeseg.core.process import describe_end, run_with_input
from edgeseg.phantom import render_case

HERE = Path(__file__).resolve().parents[1]
SIZE, LIMIT_S = (480, 640), 600.0
HEADER = ("what", "before", "after", "unit", "ratio")
HELP, NEW, KNOWN, REST = (
    "edgeseg --help",
    "first mask of a file that is new here",
    "first mask of a file that ran before",
    "everything but the net",
)
OVERHEAD_ROW, OVERHEAD_COLUMN = "everything but the net", "ms p50"


@dataclass(frozen=True)
class Checkout:
    """One state of edgeseg, and where what it leaves behind goes."""

    root: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Give the variables with which this Python runs that state."""
        return os.environ | {
            "PYTHONPATH": str(self.root),
            "PYTHONPYCACHEPREFIX": str(self.folder / "compiled"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }

    def run(self, arguments: Sequence[str]) -> None:
        """Run Python with this state, which must succeed."""
        done = run_with_input([sys.executable, *arguments], b"", LIMIT_S, self.folder, self.environment)
        if done.returncode:
            raise SystemExit(f"Expected {' '.join(arguments[:3])} of {self.root} to succeed, {describe_end(done)}")

    def make_model(self) -> Path:
        """Write a model file as this state does."""
        path = self.folder / "small.tflite"
        self.run([str(self.root / "benchmarks" / "untrained.py"), str(path)])
        return path


def time_help(checkout: Checkout) -> float:
    """Take the milliseconds of the shortest command."""
    start = perf_counter()
    checkout.run(["-m", "edgeseg", "--help"])
    return 1e3 * (perf_counter() - start)


def time_first_mask(checkout: Checkout, model: Path, frame: bytes, cache: Path) -> float:
    """Take the milliseconds from the start of a process to the JSON line of its first mask."""
    source = ["--source", f"-?size={SIZE[1]}x{SIZE[0]}", "--budget-ms", "60000", "--view", "none", "--emit"]
    command = [sys.executable, "-m", "edgeseg", "stream", str(model), *source]
    start = perf_counter()
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=checkout.folder,
        env=checkout.environment | {"XDG_CACHE_HOME": str(cache)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(frame)
        process.stdin.flush()
        line = process.stdout.readline()
        taken = 1e3 * (perf_counter() - start)
        process.communicate()
    if process.returncode or not line:
        raise SystemExit(f"Expected a mask from {checkout.root}, got exit code {process.returncode}.")
    return taken


def time_new_file(checkout: Checkout, model: Path, frame: bytes) -> float:
    """Take the same for a file that this machine has never run."""
    with TemporaryDirectory(dir=checkout.folder) as cache:
        return time_first_mask(checkout, model, frame, Path(cache))


def time_rest(checkout: Checkout, model: Path) -> float:
    """Take the milliseconds of everything but the net by the state's own benchmark."""
    with TemporaryDirectory(dir=checkout.folder) as out:
        script = str(checkout.root / "benchmarks" / "overhead.py")
        checkout.run([script, out, "--model", str(model), "--runs", "300", "--seconds", "1"])
        rows = json.loads((Path(out) / "overhead.json").read_text("utf-8"))["rows"]
    return float(next(row[OVERHEAD_COLUMN] for row in rows if row["what"] == OVERHEAD_ROW))


def list_tasks(checkout: Checkout, model: Path, frame: bytes) -> dict[str, Callable[[], float]]:
    """List what is timed of a state."""
    return {
        HELP: lambda: time_help(checkout),
        NEW: lambda: time_new_file(checkout, model, frame),
        KNOWN: lambda: time_first_mask(checkout, model, frame, checkout.folder / "cache"),
        REST: lambda: time_rest(checkout, model),
    }


def compare(
    before: dict[str, Callable[[], float]], after: dict[str, Callable[[], float]], rounds: int
) -> list[list[str]]:
    """Time both in turn, the first round uncounted since it fills caches, and make the rows."""
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in before}
    for number in range(rounds + 1):
        for name, times in taken.items():
            sides = ((before, times[0]), (after, times[1]))
            for tasks, kept in sides if number % 2 else reversed(sides):
                kept.append(tasks[name]())
        print(f"round {number} of {rounds}", flush=True)
    return [make_row(name, then[1:], now[1:]) for name, (then, now) in taken.items()]


def make_row(name: str, before: Sequence[float], after: Sequence[float]) -> list[str]:
    """Make a row of medians and their ratio."""
    then, now = median(before), median(after)
    return [name, f"{then:.3f}", f"{now:.3f}", "ms", f"{now / then:.2f}"]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("before", type=Path)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--model", type=Path)
    chosen = parser.parse_args()
    frame = render_case(seed=0, size=SIZE).image.tobytes()
    with TemporaryDirectory() as name:
        sides = []
        for title, root in (("before", chosen.before.resolve()), ("after", HERE)):
            checkout = Checkout(root, Path(name) / title)
            (checkout.folder / "cache").mkdir(parents=True)
            model = chosen.model.resolve() if chosen.model else checkout.make_model()
            sides.append(list_tasks(checkout, model, frame))
        rows = compare(*sides, chosen.rounds)
    each = "Each reads an untrained `small` that it wrote itself."
    read = each if chosen.model is None else f"Both read {chosen.model.name}."
    notes = [
        "# What checks cost",
        "",
        "    python benchmarks/cost_of_safety.py OUT BEFORE",
        "",
        f"An earlier checkout against this one, in turn, medians of {chosen.rounds} rounds; processes are timed from "
        f"their start. {read}",
    ]
    chosen.out.mkdir(parents=True, exist_ok=True)
    write_results(chosen.out, "cost-of-safety", notes, HEADER, rows)


if __name__ == "__main__":
    main()
