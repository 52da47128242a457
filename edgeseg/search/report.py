"""What a search found, and the files that say it.

DIR/search.json  all trials, the front, the pick and how it did on the test cases
DIR/front.png    validation Dice against time and size
DIR/front.md     the front as a table, and how to make the pick's recipe again
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeseg.backends.cpu import CpuBackend
from edgeseg.bench.measure import describe_host
from edgeseg.compress.variant import Variant
from edgeseg.core.files import write_bytes, write_json, write_text
from edgeseg.core.schema import to_plain
from edgeseg.search.picture import draw_trials
from edgeseg.search.promise import Promise
from edgeseg.search.results import SearchRow, find_front, pick_trial
from edgeseg.search.tables import write_markdown

SEARCH, PICTURE, FRONT = "search.json", "front.png", "front.md"


@dataclass(frozen=True)
class SearchReport:
    """What a search found so far."""

    run: str
    threads: int
    trials: tuple[SearchRow, ...]
    front: tuple[SearchRow, ...]
    pick: SearchRow | None
    """The highest validation Dice within the budget."""
    gate: dict[str, Any]
    host: dict[str, Any]
    command: str | None = None
    """Makes the pick's file again."""
    judged: tuple[Variant, ...] = ()
    """The float parent and the pick on the test cases; empty as long as they were not looked at."""
    advice: str = ""
    """What to do where the gate did not hold."""


def summarise_search(run: str, threads: int, rows: Sequence[SearchRow], promise: Promise) -> SearchReport:
    """Find the front and the pick among the trials as they stand."""
    front = find_front(rows)
    pick = pick_trial(front, promise.budget_ms)
    host = describe_host(CpuBackend.probe().detail)
    return SearchReport(run, threads, tuple(rows), front, pick, {**to_plain(promise), "held": False}, host)


def write_report(out: Path, report: SearchReport) -> None:
    """Write the search's files."""
    write_json(out / SEARCH, to_plain(report))
    write_text(out / FRONT, write_markdown(report.front, report.pick, report.command))
    if report.front:
        write_bytes(out / PICTURE, draw_trials(report.trials, report.front, report.pick, report.gate["budget_ms"]))
