"""The one table of a compression, for the page and for the text: which columns there are and what stands in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeseg.compress.plan import CompressReport
from edgeseg.compress.variant import Variant
from edgeseg.core.stats import show_interval
from edgeseg.core.verdict import read_verdict

Cell = Callable[[Variant, Variant], str]
"""Writes a variant's cell; the second one is the float parent."""


COLUMNS: dict[str, Cell] = {
    "file": lambda v, _: v.name,
    "validation Dice": lambda v, _: f"{v.validation.dice.mean:.4f}",
    "validation drop": lambda v, _: f"{v.validation.dice_drop.mean:+.4f}",
    "validation drop, 95% interval": lambda v, _: show_interval(v.validation.dice_drop.ci95, "+.4f"),
    "test Dice": lambda v, _: f"{v.dice.mean:.4f}",
    "test Dice, 95% interval": lambda v, _: show_interval(v.dice.ci95, ".3f"),
    "test drop": lambda v, _: f"{v.dice_drop.mean:+.4f}",
    "test drop, 95% interval": lambda v, _: show_interval(v.dice_drop.ci95, "+.4f"),
    "kB": lambda v, _: f"{v.bytes / 1000:.0f}",
    "gzipped": lambda v, _: f"{v.gzip_bytes / 1000:.0f}",
    "zeros": lambda v, _: f"{v.sparsity:.1%}",
    "parameters": lambda v, _: f"{v.params:,}",
    "MMACs": lambda v, _: f"{v.macs / 1e6:.1f}",
    "ms p50": lambda v, _: f"{v.latency_ms.p50:.2f}",
    "ms p99": lambda v, _: f"{v.latency_ms.p99:.2f}",
    "faster": lambda v, parent: f"{parent.latency_ms.p50 / v.latency_ms.p50:.2f}",
    "Edge TPU": lambda v, _: read_verdict(v.lint["edgetpu"]),
}


@dataclass(frozen=True)
class Row:
    """One file's cells."""

    cells: tuple[str, ...]
    chosen: bool


def list_rows(report: CompressReport) -> tuple[Row, ...]:
    """Write the cells of every file."""
    parent = report.variants[0]
    return tuple(
        Row(tuple(cell(variant, parent) for cell in COLUMNS.values()), variant.name == report.chosen)
        for variant in report.variants
    )


def list_operators(report: CompressReport) -> tuple[tuple[str, str], ...]:
    """Count the operators of every file, in words."""
    return tuple(
        (variant.name, ", ".join(f"{count} {name}" for name, count in variant.operators.items()))
        for variant in report.variants
    )


def list_worst_layers(report: CompressReport, count: int = 3) -> tuple[tuple[str, str], ...]:
    """Name every file's layers that are farthest from the float parent's, in words."""
    return tuple(
        (
            variant.name,
            ", ".join(f"{layer.layer} ({layer.error:.2%})" for layer in variant.worst_layers(count)),
        )
        for variant in report.variants
        if variant.layers
    )
