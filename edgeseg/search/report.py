"""What the pick must hold, and the sentence where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edgeseg.backends.cpu import CpuBackend
from edgeseg.bench.measure import describe_host
from edgeseg.compression.evaluate import FileEvaluation
from edgeseg.compression.gate import Gate, Variant, explain_doubt, explain_gate
from edgeseg.core.files import write_bytes, write_json, write_text
from edgeseg.core.schema import to_plain
from edgeseg.frame.images import ACCENT, FAINT, INK, SOFT
from edgeseg.report.plots import draw_png
from edgeseg.search.compressions import FileScore, SearchRow, find_front, pick_trial

COLUMNS = ("trial", "recipe", "validation Dice", "ms", "of int8's time", "kB")
LARGEST = 220.0
"""Area of the largest file's point, in square points."""
SEARCH, PICTURE, FRONT = "search.json", "front.png", "front.md"


@dataclass(frozen=True)
class Promise:
    """What the pick must hold: the time of one inference, median, and the Dice it may lose on validation cases."""

    budget_ms: float
    max_drop: float = 0.01

    def __post_init__(self) -> None:
        Gate(self.max_drop, self.budget_ms)

    @property
    def gate(self) -> Gate:
        """Give what decides about its masks; the time was decided when the pick was."""
        return Gate(self.max_drop)


def explain_late(fastest: SearchRow, promise: Promise) -> str:
    """Say that no trial is fast enough, and what to do."""
    return (
        f"No trial stays within {promise.budget_ms:g} ms: the fastest, trial {fastest.number} ({fastest.name}), "
        f"needs {fastest.ms:.2f} ms (median); raise --budget-ms, or train a smaller model or size."
    )


def explain_loss(parent: FileEvaluation, pick: FileEvaluation, promise: Promise) -> str:
    """Say what the pick loses on validation cases where that is too much, or why nothing is known; else empty."""
    if doubt := explain_doubt(parent.validation, parent.test, promise.gate):
        return doubt
    return "" if promise.gate.keeps_accuracy(pick.variant) else explain_gate(pick.variant, promise.gate)


def list_front(front: Sequence[SearchRow], pick: SearchRow | None) -> list[tuple[str, ...]]:
    """List the front's figures as they are printed; the pick has a star."""
    return [
        (
            f"{row.number} *" if row == pick else str(row.number),
            row.name,
            f"{row.score.validation_dice:.4f}",
            f"{row.ms:.2f}",
            f"{row.score.relative:.2f}",
            f"{row.score.bytes / 1e3:,.0f}",
        )
        for row in front
        if row.score is not None
    ]


def write_markdown(front: Sequence[SearchRow], pick: SearchRow | None, command: str | None) -> str:
    """Write the front as a table, with the command that makes the pick again below it."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *list_front(front, pick)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return table + (f"\n\n* the pick; make it again with:\n\n    {command}\n" if command else "\n")


def draw_trials(
    rows: Sequence[SearchRow], front: Sequence[SearchRow], pick: SearchRow | None, budget_ms: float
) -> bytes:
    """Draw the finished trials as a PNG."""
    scored = [(row, row.score) for row in rows if row.score is not None]
    largest = max(score.bytes for _, score in scored)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(budget_ms, color=INK, linestyle=":", linewidth=1, label=f"budget, {budget_ms:g} ms")
        for row, score in scored:
            area = LARGEST * score.bytes / largest
            colour = ACCENT if row == pick else SOFT if row in front else FAINT
            label = "pick" if row == pick else None
            axes.scatter(row.ms or 0.0, score.validation_dice, area, colour, alpha=0.6, linewidths=0, label=label)
            if row in front:
                _name_point(axes, row, score, colour)
        axes.set(xlabel=f"ms per inference (median); largest area: {largest / 1e3:,.0f} kB", ylabel="validation Dice")
        axes.margins(x=0.25, y=0.15)
        axes.legend(frameon=False, loc="lower right")

    return draw_png(paint)


def _name_point(axes: Axes, row: SearchRow, score: FileScore, colour: str) -> None:
    place = (row.ms or 0.0, score.validation_dice)
    axes.annotate(row.name, place, (6, -11), color=colour, fontsize=7, textcoords="offset points")


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
