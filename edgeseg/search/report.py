"""What a search found, and the files that say it.

DIR/search.json  all trials, the front, the pick and how it did on the test cases
DIR/front.png    validation Dice against time and size
DIR/front.md     the front as a table, and how to make the pick's recipe again
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeseg.backends.cpu import CpuBackend
from edgeseg.bench.measure import describe_host
from edgeseg.compress.make import RECIPES
from edgeseg.compress.variant import Variant
from edgeseg.core.files import write_bytes, write_json, write_text
from edgeseg.core.schema import to_plain
from edgeseg.search.pick import Promise
from edgeseg.search.picture import draw_trials
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
    judged: tuple[Variant, ...] = ()
    """The float parent and the pick on the test cases; empty as long as they were not looked at."""
    advice: str = ""
    """What to do where the gate did not hold."""

    def conclude(self, judged: tuple[Variant, ...], advice: str) -> SearchReport:
        """Add what the test cases said."""
        held = bool(judged) and not advice
        return dataclasses.replace(self, judged=judged, advice=advice, gate={**self.gate, "held": held})


def summarise_search(run: str, threads: int, rows: Sequence[SearchRow], promise: Promise) -> SearchReport:
    """Find the front and the pick among the trials as they stand."""
    front = find_front(rows)
    pick = pick_trial(front, promise.budget_ms)
    host = describe_host(CpuBackend.probe().detail)
    return SearchReport(run, threads, tuple(rows), front, pick, to_plain(promise), host)


def write_report(out: Path, run: Path, report: SearchReport) -> None:
    """Write the search's files."""
    write_json(out / SEARCH, to_plain(report))
    command = name_compression(out, run, report.pick) if report.pick is not None else None
    write_text(out / FRONT, write_markdown(report.front, report.pick, command))
    if report.front:
        write_bytes(out / PICTURE, draw_trials(report.trials, report.front, report.pick, report.gate["budget_ms"]))


def name_compression(out: Path, run: Path, pick: SearchRow) -> str:
    """Name the command that makes the pick's file again."""
    recipe = out / "pick" / RECIPES / f"{pick.name}.toml"
    return shlex.join(["edgeseg", "compress", str(run), "--out", f"{out}-again", "--recipe", str(recipe)])
