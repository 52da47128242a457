"""Feed everything that edgeseg reads with damaged and hostile inputs: it has to refuse them, or to cope, in time.

    python benchmarks/fuzz.py OUT [--mutants 20000] [--seed 1] [--kind model,card,...] [--workers 2]
    python benchmarks/fuzz.py OUT --replay OUT/failures/FILE.json

Counts what there should be none of: processes that die, mutants that take over 10 s, over 1 GiB of memory in the
process or in one that it starts, and exceptions that are no EdgesegError. Each is kept in OUT/failures, with its bytes
and the line of edgeseg that it led to. Mutant i of a kind depends on the seed, the kind and i alone; the first of each
kind are made by hand. Begun again, it goes on where it was, as long as edgeseg and the mutators are the same. Writes
OUT/fuzz.md and .json. Exit code 3 where anything failed. Needs the development packages; kinds whose packages are not
installed are left out. docs/decisions/0044 says why the mutators are our own.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # the seeds are built by what the tests build theirs with

from fuzzing.kinds import TRIAL, find_kinds  # noqa: E402
from fuzzing.watch import FAILURES, Crew, Limits, Outcome  # noqa: E402
from fuzzing.worker import ACCEPTED, REFUSED, Task  # noqa: E402
from trained import write_results  # noqa: E402

import edgeseg  # noqa: E402

MUTANTS, GATE_NOT_HELD, PROGRESS_S = 20_000, 3, 15.0
LARGEST_KEPT = 16 * 2**20
HEADER = ("kind", "mutants", "refused", "accepted", *FAILURES, "slowest s", "most MiB")


def count_mutants(total: int, names: Sequence[str]) -> dict[str, int]:
    """Divide the mutants among the kinds by their shares; the hand-made ones of each come in any case."""
    kinds = find_kinds()
    shares = {name: kinds[name].share or 1.0 for name in names}
    return {name: max(1, round(total * share / sum(shares.values()))) for name, share in shares.items()}


def list_tasks(counts: Mapping[str, int], seed: int, done: Mapping[tuple[str, int], Any]) -> Iterator[Task]:
    """List what is left to do, the kinds in turn, so that an early end has seen all of them."""
    for index in range(max(counts.values())):
        for name, count in counts.items():
            if index < count and (name, index) not in done:
                yield Task(name, index, seed)


def fingerprint() -> str:
    """Hash the product and the mutators: figures of another state are worth nothing."""
    folders = (Path(edgeseg.__file__).parent, Path(__file__).parent / "fuzzing", ROOT / "devices", ROOT / "quantize")
    total = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".toml")):
        total.update(path.read_bytes())
    return total.hexdigest()


class Journal:
    """One line for each mutant, so that a run can go on where it was interrupted."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Read what is done, or begin."""
        self._path = folder / "progress.jsonl"
        self._head = {"seed": seed, "fingerprint": fingerprint()}
        self.rows: dict[tuple[str, int], dict[str, Any]] = {}
        lines = self._path.read_text("utf-8").splitlines() if self._path.is_file() else []
        if lines and json.loads(lines[0]) == self._head:
            for row in map(json.loads, lines[1:]):
                self.rows[row["kind"], row["index"]] = row
        else:
            folder.mkdir(parents=True, exist_ok=True)
            for old in (folder / "failures").glob("*.json"):
                old.unlink()
            self._path.write_text(json.dumps(self._head) + "\n", "utf-8")
        self._file = self._path.open("a", encoding="utf-8", buffering=1)

    def add(self, outcome: Outcome) -> None:
        """Put down what came of a mutant."""
        row = {
            "kind": outcome.task.kind,
            "index": outcome.task.index,
            "verdict": outcome.verdict,
            "seconds": round(outcome.seconds, 4),
            "peak_mb": round(outcome.peak_mb, 1),
        }
        if outcome.failed:
            row |= {"cause": outcome.cause, "name": outcome.name, "detail": outcome.detail}
        self.rows[outcome.task.kind, outcome.task.index] = row
        self._file.write(json.dumps(row) + "\n")


def keep_failure(folder: Path, outcome: Outcome) -> Path:
    """Keep a failure with what is needed to see it again."""
    task, data = outcome.task, outcome.data or b""
    path = folder / "failures" / f"{task.kind}-{task.index:05d}-{outcome.verdict}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {
        "kind": task.kind,
        "index": task.index,
        "seed": task.seed,
        "name": outcome.name,
        "verdict": outcome.verdict,
        "detail": outcome.detail,
        "cause": outcome.cause,
        "seconds": outcome.seconds,
        "peak_mb": outcome.peak_mb,
        "trace": outcome.trace.splitlines(),
        "bytes": len(data),
        "data": base64.b64encode(data).decode() if len(data) <= LARGEST_KEPT else None,
    }
    path.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    return path


def read_failure(path: Path) -> Task:
    """Read a kept failure; one too large to be kept is made again from its number."""
    kept = json.loads(path.read_text("utf-8"))
    data = None if kept["data"] is None else base64.b64decode(kept["data"])
    return Task(kept["kind"], kept["index"], kept["seed"], data)


def run(out: Path, counts: Mapping[str, int], seed: int, workers: int, limits: Limits) -> Journal:
    """Go through all mutants that are not done yet."""
    journal = Journal(out, seed)
    total, began, told = sum(counts.values()), monotonic(), 0.0
    before = len(journal.rows)
    with TemporaryDirectory(prefix="edgeseg-fuzz-") as folder:
        for outcome in Crew(Path(folder), workers, limits).run(list_tasks(counts, seed, journal.rows)):
            journal.add(outcome)
            if outcome.failed:
                keep_failure(out, outcome)
            if monotonic() - told > PROGRESS_S:
                told = monotonic()
                failed = sum(row["verdict"] in FAILURES for row in journal.rows.values())
                rate = (len(journal.rows) - before) / max(told - began, 1e-3)
                print(f"{len(journal.rows)} of {total}, {rate:.0f}/s, {failed} failed", flush=True)
    return journal


def make_table(counts: Mapping[str, int], rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Make a row for each kind, and one for all."""
    return [
        *(_make_row(name, [row for row in rows if row["kind"] == name]) for name in counts),
        _make_row("all", list(rows)),
    ]


def _make_row(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found = Counter(row["verdict"] for row in rows)
    verdicts = [str(found[verdict]) for verdict in (REFUSED, ACCEPTED, *FAILURES)]
    slowest = max((row["seconds"] for row in rows), default=0.0)
    return [
        name,
        str(len(rows)),
        *verdicts,
        f"{slowest:.2f}",
        f"{max((row['peak_mb'] for row in rows), default=0):.0f}",
    ]


def list_causes(rows: Sequence[Mapping[str, Any]], out: Path) -> list[str]:
    """List what failed by the place that failed, the most frequent first, each with a way to see it again."""
    causes: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["verdict"] in FAILURES:
            causes[f"{row['kind']}: {row['cause']}"].append(row)
    lines = []
    for cause, members in sorted(causes.items(), key=lambda item: -len(item[1])):
        first = min(members, key=lambda row: row["index"])
        names = [row["name"] for row in members if row["name"]]
        file = out / "failures" / f"{first['kind']}-{first['index']:05d}-{first['verdict']}.json"
        lines += [
            f"- {len(members)} x {cause}" + (f" (by hand: {', '.join(names[:6])})" if names else ""),
            f"  {first['detail'][:200]!r}",
            f"  `python benchmarks/fuzz.py {out} --replay {file}`",
        ]
    return lines


def report(out: Path, counts: Mapping[str, int], journal: Journal, chosen: argparse.Namespace, seconds: float) -> bool:
    """Write the table and what failed; say whether nothing did."""
    rows = [row for row in journal.rows.values() if row["index"] < counts.get(row["kind"], 0)]
    causes = list_causes(rows, out)
    notes = [
        "# Damaged and hostile inputs",
        "",
        f"    python benchmarks/fuzz.py OUT --mutants {chosen.mutants} --seed {chosen.seed}",
        "",
        "What edgeseg makes of inputs that nobody meant well. A crash is a process that died, a hang took more than "
        f"{chosen.hang_s:g} s, memory means more than {chosen.memory_mb:g} MiB in a process or its child, an exception "
        "is any that is no EdgesegError. The limit of each is 0: "
        f"{'missed' if causes else 'held'}. This run took {seconds / 60:.1f} minutes with {chosen.workers} "
        f"{'process' if chosen.workers == 1 else 'processes'}.",
    ]
    write_results(out, "fuzz", notes, HEADER, make_table(counts, rows))
    if causes:
        text = "\n".join(["", "## What failed", "", *causes, ""])
        with (out / "fuzz.md").open("a", encoding="utf-8") as file:
            file.write(text)
        print(text)
    return not causes


def replay(path: Path, limits: Limits) -> bool:
    """Feed a kept failure again and print what comes of it; say whether it fails no more."""
    with TemporaryDirectory(prefix="edgeseg-fuzz-") as folder:
        (outcome,) = Crew(Path(folder), 1, limits).run([read_failure(path)])
    print(outcome.trace)
    print(f"{outcome.verdict}: {outcome.detail} ({outcome.seconds:.2f} s, {outcome.peak_mb:.0f} MiB); {outcome.cause}")
    return not outcome.failed


def choose_kinds(text: str) -> list[str]:
    """Choose kinds by name; all but the fuzzer's own trial where none is named."""
    known = find_kinds()
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise SystemExit(f"Expected kinds among {', '.join(known)}, got {', '.join(unknown)}.")
    return names or [name for name in known if name != TRIAL]


def main() -> None:
    """Run, or replay, and end with a verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mutants", type=int, default=MUTANTS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", default="", help="names with commas between them; all where left out")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--hang-s", type=float, default=Limits.hang_s)
    parser.add_argument("--memory-mb", type=float, default=Limits.memory_mb)
    parser.add_argument("--replay", type=Path)
    chosen = parser.parse_args()
    limits = Limits(chosen.hang_s, chosen.memory_mb)
    if chosen.replay is not None:
        sys.exit(0 if replay(chosen.replay, limits) else GATE_NOT_HELD)
    counts = count_mutants(chosen.mutants, choose_kinds(chosen.kind))
    began = monotonic()
    journal = run(chosen.out, counts, chosen.seed, chosen.workers, limits)
    sys.exit(0 if report(chosen.out, counts, journal, chosen, monotonic() - began) else GATE_NOT_HELD)


if __name__ == "__main__":
    main()
