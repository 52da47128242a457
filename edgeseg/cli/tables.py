"""How figures are printed: one table style for all commands."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeseg.compress.variant import Variant
    from edgeseg.runtime.stream import StreamReport

PIPED_WIDTH = 140
MEASURES = (
    ("dice", "Dice"),
    ("iou", "IoU"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("hd95_px", "HD95 (px)"),
)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column stands left, the others right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
    console.print(title, style="bold", markup=False)
    console.print(table)


def print_evaluation(title: str, evaluation: Mapping[str, Any]) -> None:
    """Print how good masks are."""
    rows = []
    for key, label in MEASURES:
        value = evaluation[key]
        low, high = value["ci95"]
        rows.append((label, f"{value['mean']:.4f}", f"{low:.4f} to {high:.4f}", f"{value['median']:.4f}"))
    print_table(title, (f"{evaluation['cases']} cases", "mean", "95% interval", "median"), rows)
    empty = evaluation["empty"]
    if empty["cases"]:
        rate = empty["false_positive_rate"]
        print(f"Of {empty['cases']} cases with nothing to find, {rate:.0%} were marked all the same.")


def print_variants(variants: Sequence[Variant], chosen: str) -> None:
    """Print what each file costs and gained."""
    first = variants[0]
    rows = [
        (
            f"{v.name} *" if v.name == chosen else v.name,
            f"{v.dice.mean:.4f}",
            f"{v.dice.ci95[0]:.3f} to {v.dice.ci95[1]:.3f}",
            f"{v.dice_drop.mean:+.4f}",
            f"{v.bytes / 1e3:,.0f}",
            f"{first.bytes / v.bytes:.2f}",
            f"{v.latency_ms.p50:.2f}",
            f"{first.latency_ms.p50 / v.latency_ms.p50:.2f}",
        )
        for v in variants
    ]
    columns = ("file", "Dice", "95% interval", "drop", "kB", "smaller", "ms", "faster")
    print_table("Compression (* chosen)", columns, rows)


def print_stream(report: StreamReport) -> None:
    """Print how a stream went, against its budget."""
    rows = [
        (stage, *(f"{getattr(times, p):.2f}" for p in ("p50", "p90", "p95", "p99")))
        for stage, times in {**report.latency_ms, "frame age": report.frame_age_ms}.items()
    ]
    print_table(f"Stream from {report.source}, milliseconds", ("stage", "p50", "p90", "p95", "p99"), rows)
    counts = report.frames
    print(
        f"{counts.captured} frames captured, {counts.processed} processed, {counts.dropped} dropped, {counts.late} "
        f"later than {report.budget_ms:g} ms ({report.misses:.1%}): budget {report.verdict}."
    )
