"""How the figures of `edgeseg bench` are printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeseg.cli.tables import print_table

if TYPE_CHECKING:
    from edgeseg.bench.measure import BenchResult
    from edgeseg.bench.reference import Comparison

STAGES = ("preprocess", "invoke", "postprocess", "total")


def print_times(results: Sequence[BenchResult], runs: int) -> None:
    """Print what each model took, the first row being what the ratios are to."""
    first = results[0].latency_ms["invoke"].p50
    rows = [
        (
            r.model,
            r.ran_as,
            str(r.threads),
            *(f"{r.latency_ms[stage].p50:.3f}" for stage in STAGES),
            f"{r.latency_ms['total'].p99:.3f}",
            f"{r.load_ms:.0f}",
            f"{r.first_inference_ms:.2f}",
            f"{r.peak_rss_mb:.0f}",
            f"{r.latency_ms['invoke'].p50 / first:.2f}",
        )
        for r in results
    ]
    times = ("preprocess", "invoke", "postprocess", "total p50", "total p99", "load", "first")
    print_table(f"Milliseconds per frame, frames: {runs}", ("model", "backend", "threads", *times, "MB", "ratio"), rows)


def print_conditions(results: Sequence[BenchResult]) -> None:
    """Say what the figures must be read with: drift, clock and heat."""
    for result in results:
        if result.steadiness is not None and not result.steadiness.steady:
            name = f"{result.model} on {result.ran_as}, threads {result.threads}"
            print(f"{name}, was not steady: {result.steadiness.describe()}.")
    print(results[0].conditions.describe())


def print_comparison(rows: Sequence[Comparison]) -> None:
    """Print times beside those of a reference."""
    print_table(
        "Median frame against the reference",
        ("model", "backend", "threads", "then ms", "now ms", "ratio", "verdict"),
        [
            (
                row.model,
                row.backend,
                str(row.threads),
                f"{row.before_ms:.3f}",
                f"{row.now_ms:.3f}",
                f"{row.ratio:.2f}",
                "slower" if row.slower else "held",
            )
            for row in rows
        ],
    )
