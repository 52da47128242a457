"""Whether edgeseg became slower than what was published: measured again on this machine, compared by ratios.

    python benchmarks/regression.py OUT [--model FILE] [--published FOLDER] [--margin 0.15] [--only NAMES]

Runs the short benchmarks of speed into OUT and compares their rows with the published ones. Times of two days are no
comparison even on one machine, so every time is divided by that of the reference row of its own run: for instance
everything except the network by the bare inference of the same minutes. What stands out by more than the margin is
measured once more, and counts only if it stands out again. Exit code 3 if anything became slower. Rows that were
published on another kind of machine are shown and do not count. Neither do rows whose work depends on what the network
draws, such as single findings, unless --model is the file that they were published with.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from trained import describe_place, write_results

HERE = Path(__file__).parent
HEADER = ("benchmark", "row", "published", "now", "now / published", "verdict")
SLOWER, SAME, FASTER, ELSEWHERE, GONE = "slower", "as before", "faster", "another machine", "not measured now"
OTHER = "another model"


@dataclass(frozen=True)
class Check:
    """A benchmark that is run again: its command, and how its rows are read."""

    command: tuple[str, ...]
    row: tuple[str, ...]
    """The columns that name a row."""
    figure: str
    reference: str
    """The row that all others are divided by."""
    smallest: float = 0.0
    """Figures up to this are too short to be compared."""
    drawn: tuple[str, ...] = ()
    """How the rows begin whose work depends on what the network draws."""

    def is_time(self, row: str) -> bool:
        """Say whether a row is a time, which drifts with the machine; sizes do not."""
        return self.figure.startswith("ms") or row.endswith(", s")


CHECKS: Mapping[str, Check] = {
    "overhead": Check(
        ("overhead.py",),
        ("what",),
        "ms p50",
        "bare Interpreter.invoke()",
        smallest=0.02,
        drawn=(
            *(
                "everything but the net at",
                "the same with",
                "a frame at full speed",
                "- distance",
                "confidence, states",
            ),
            *("single findings", "from frame to state"),
        ),
    ),
    "startup": Check(("startup.py",), ("what", "unit"), "median", "python, nothing imported, s"),
    "limit": Check(("limit.py", "--candidates"), ("name",), "ms", "int8 3x3, 16x16x128", smallest=0.02),
}


def read_rows(folder: Path, name: str, check: Check) -> tuple[str, dict[str, float]]:
    """Read a result: where it was measured, and the figures of its rows."""
    content = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    lists = [content.get(key, []) for key in ("rows", "peaks", "candidates")]
    rows = {}
    for row in [row for rows in lists for row in rows]:
        text = str(row.get(check.figure, ""))
        try:
            rows[", ".join(str(row[column]) for column in check.row)] = float(text)
        except (ValueError, KeyError):
            # a row without this figure, such as a verdict in words
            continue
    return str(content["measured"]), rows


def name_machine(measured: str) -> str:
    """Take the machine out of when and where something was measured."""
    return ", ".join(measured.split(", ")[1:3])


def compare_rows(
    name: str, check: Check, published: tuple[str, Mapping[str, float]], now: Mapping[str, float], margin: float
) -> list[list[str]]:
    """Compare the rows of one benchmark, each divided by the reference of its own run."""
    place, before = published
    alike = name_machine(place) == name_machine(describe_place())
    left_out = [row for row in before if row.startswith(check.drawn)]
    rows = []
    for row, figure in before.items():
        if row == check.reference or figure <= check.smallest:
            continue
        if row not in now or check.reference not in now:
            rows.append([name, row, f"{figure:g}", "", "", OTHER if row in left_out else GONE])
            continue
        scale = before[check.reference] / now[check.reference] if check.is_time(row) else 1.0
        ratio = now[row] / figure * scale
        verdict = SLOWER if ratio > 1.0 + margin else FASTER if ratio < 1.0 - margin else SAME
        verdict = verdict if alike else ELSEWHERE
        rows.append([name, row, f"{figure:g}", f"{now[row]:g}", f"{ratio:.2f}", OTHER if row in left_out else verdict])
    return rows


def measure(name: str, check: Check, out: Path) -> dict[str, float]:
    """Run a benchmark, and read its rows."""
    script, *options = check.command
    print("python", f"benchmarks/{script}", out, *options, flush=True)
    subprocess.run([sys.executable, str(HERE / script), str(out), *options], check=True, stdout=subprocess.DEVNULL)
    return read_rows(out, name, check)[1]


def judge(name: str, check: Check, out: Path, published: Path, margin: float) -> list[list[str]]:
    """Measure a benchmark, and once more where something stands out; the better of both times counts."""
    before = read_rows(published, name, check)
    rows = compare_rows(name, check, before, measure(name, check, out / "first"), margin)
    if all(row[-1] == GONE for row in rows):
        raise SystemExit(f"Expected the published rows of {name} in {out / 'first'}, got none of them.")
    if all(row[-1] != SLOWER for row in rows):
        return rows
    again = compare_rows(name, check, before, measure(name, check, out / "second"), margin)
    return [one if one[-1] != SLOWER else two for one, two in zip(rows, again, strict=True)]


def with_model(check: Check, model: Path | None) -> Check:
    """Let a benchmark whose rows depend on what a network draws measure the published file, if it is given."""
    if model is None or not check.drawn:
        return check
    return replace(check, command=(*check.command, "--model", str(model)), drawn=())


def run(out: Path, published: Path, checks: Mapping[str, Check], margin: float) -> int:
    """Measure all, write the table, and return the exit code."""
    for part in ("first", "second"):
        (out / part).mkdir(parents=True, exist_ok=True)
    rows = [row for name, check in checks.items() for row in judge(name, check, out, published, margin)]
    notes = ["# Against the published results", "", f"Margin {margin:.0%}; ratios to the reference row of each run."]
    write_results(out, "regression", notes, HEADER, rows)
    return 3 if any(row[-1] == SLOWER for row in rows) else 0


def main() -> None:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, help="the file that the rows of overhead.py were published with")
    parser.add_argument("--published", type=Path, default=HERE / "results")
    parser.add_argument("--margin", type=float, default=0.15)
    parser.add_argument("--only", default=",".join(CHECKS), help=f"of {', '.join(CHECKS)}")
    chosen = parser.parse_args()
    names = chosen.only.split(",")
    if unknown := [name for name in names if name not in CHECKS]:
        parser.error(f"expected names of {', '.join(CHECKS)}, got {', '.join(unknown)}")
    checks = {name: with_model(CHECKS[name], chosen.model) for name in names}
    raise SystemExit(run(chosen.out, chosen.published, checks, chosen.margin))


if __name__ == "__main__":
    main()
