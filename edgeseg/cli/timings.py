"""How times are printed: those of `edgeseg bench` and those of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeseg.cli.tables import print_table

if TYPE_CHECKING:
    from edgeseg.bench.measure import BenchResult
    from edgeseg.bench.reference import Comparison
    from edgeseg.runtime.sources.base import Health
    from edgeseg.runtime.stream import StreamReport

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


def print_stream(report: StreamReport) -> None:
    """Print how a stream went, against its budget."""
    counts = report.frames
    if counts.processed == 0:
        print("The stream was ended before its first mask: there is nothing to judge.")
        return
    rows = [
        (stage, *(f"{getattr(times, p):.2f}" for p in ("p50", "p90", "p95", "p99")))
        for stage, times in {**report.latency_ms, "frame age": report.frame_age_ms}.items()
    ]
    print_table(f"Stream from {report.source}, milliseconds", ("stage", "p50", "p90", "p95", "p99"), rows)
    print(
        f"{counts.captured} frames captured, {counts.processed} processed, {counts.dropped} dropped"
        f"{_describe_lateness(report)}"
    )
    for sink in report.sinks:
        print(f"{sink.name[0].upper()}{sink.name[1:]} took {sink.taken} masks and missed {sink.missed}.")
    _print_course(report)
    _print_health(report.source_health)


def _describe_lateness(report: StreamReport) -> str:
    from edgeseg.runtime.stream import NOT_JUDGED

    if report.verdict == NOT_JUDGED:
        return "; the recorded source waited for every mask, so no budget was judged."
    late = f"{report.frames.late} later than {report.budget_ms:g} ms ({report.misses:.1%})"
    return f", {late}: budget {report.verdict}."


def _print_course(report: StreamReport) -> None:
    """Print what the table does not hold: the time before it, its newest part, and how evenly masks came."""
    from edgeseg.core.thermal import describe_heat

    newest = report.window
    print(
        f"A mask every {report.interval_ms.p50:.1f} ms, jitter {report.jitter_ms:.1f} ms; frame age of the newest "
        f"{newest.frames}: {newest.frame_age_ms.p50:.2f} at the median, {newest.frame_age_ms.p99:.2f} at p99."
    )
    print(
        f"Before that, in no figure above: a first inference of {report.first_inference_ms:.2f} ms and "
        f"{report.warm_up_runs} blank frames. Heat: {describe_heat(*report.thermal)}."
    )


def _print_health(health: Health) -> None:
    if health.interruptions:
        print(f"The source was lost {health.interruptions} times, for {health.lost_seconds:.1f} s together.")
    if health.corrupt:
        print(f"{health.corrupt} frames could not be decoded and were left out.")
    if health.missing:
        print(f"The file announces {health.missing} frames more than it holds: it is cut off or damaged.")
