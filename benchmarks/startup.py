"""Measure what a user waits for before anything happens: `edgeseg --help`, the device side's imports, `edgeseg doctor`.

    python benchmarks/startup.py [RUNS]

Each figure is the median of fresh processes, the smallest and largest beside it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from time import perf_counter

COMMANDS = {
    "python, nothing imported": ["-c", "pass"],
    "edgeseg --help": ["-m", "edgeseg", "--help"],
    "edgeseg doctor": ["-m", "edgeseg", "doctor"],
    "import of the device side": ["-c", "import edgeseg.runtime.stream, edgeseg.evaluate.score, edgeseg.bench.measure"],
}


def time_once(arguments: list[str]) -> float:
    """Run one fresh process and take its seconds."""
    start = perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return perf_counter() - start


def main() -> None:
    """Print a table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    print(f"seconds, median of {runs} fresh processes (smallest to largest)")
    for name, arguments in COMMANDS.items():
        time_once(arguments)
        taken = [time_once(arguments) for _ in range(runs)]
        print(f"{name:<28}{statistics.median(taken):.3f}  ({min(taken):.3f} to {max(taken):.3f})")


if __name__ == "__main__":
    main()
