"""Print results as tables, in one style for all commands."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import localtime, strftime
from typing import TYPE_CHECKING, Any

from edgeseg.core.redact import make_printable, show_name
from edgeseg.core.schema import to_plain

if TYPE_CHECKING:
    from edgeseg.compression.gate import Variant
    from edgeseg.core.cache import CacheEntry
    from edgeseg.data.check import CheckReport
    from edgeseg.data.defects import DataWarning
if TYPE_CHECKING:
    from edgeseg.bench.measure import BenchResult
    from edgeseg.bench.reference import Comparison
    from edgeseg.streaming.loop import StreamReport
    from edgeseg.streaming.sources.base import Health
    from edgeseg.streaming.states import StateReport

_LOG = logging.getLogger(__name__)
# Columns where the output is no terminal, so that no figure is cut off.
PIPED_WIDTH = 140
NOT_KNOWN = "n/a"
SHOWN_DEFECTS, SHOWN_PAIRS, SHOWN_VALUES = 20, 5, 4
# As many as the contact sheet draws.
SHOWN_CONTRADICTIONS = 40
POINT_FIGURES = (
    ("sensitivity", "sensitivity"),
    ("coverage", "coverage"),
    ("false_alarm_rate", "false alarms"),
    ("dice_shown", "Dice when found"),
)
# Those of them that are no share of cases.
_NO_SHARES = ("dice_shown",)
POINT_WORDS = (
    "Sensitivity: of the cases that show it, how many are found, in its place. Coverage: in how many a\n"
    "mask is found, wherever. False alarms: of the cases without it, in how many it is found."
)
STAGES = ("preprocess", "invoke", "postprocess", "total")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is left-aligned, the others right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    # names of classes and labels are no markup, whatever brackets they have
    for number, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
    console.print(title, style="bold", markup=False)
    console.print(table)


def tell_notices(notices: Sequence[str]) -> None:
    """Say on stderr what must be known before figures are believed."""
    for notice in notices:
        _LOG.warning("%s", notice)


def show_estimate(estimate: Mapping[str, Any] | None) -> str:
    """Format a figure with its interval; "n/a" without an estimate."""
    from edgeseg.core.stats import show_interval

    if estimate is None:
        return NOT_KNOWN
    interval = "" if estimate["ci95"] is None else f" ({show_interval(estimate['ci95'], '.2f')})"
    return f"{estimate['mean']:.3f}{interval}"


def show_point(figures: Mapping[str, Any]) -> list[str]:
    """Format the figures of an operating point, in the order of POINT_FIGURES."""
    return [(show_estimate if key in _NO_SHARES else show_share)(figures[key]) for key, _ in POINT_FIGURES]


def show_share(estimate: Mapping[str, Any] | None) -> str:
    """Format a share of cases with its interval, in percent; "n/a" without an estimate."""
    if estimate is None:
        return NOT_KNOWN
    low, high = (100 * end for end in estimate["ci95"] or (0.0, 0.0))
    interval = "" if estimate["ci95"] is None else f" ({low:.0f} to {high:.0f})"
    return f"{estimate['mean']:.0%}{interval}"


def print_variants(variants: Sequence[Variant], chosen: str) -> None:
    """Print the compressed files: validation drop, by which one was chosen, test Dice, size and speed."""
    from edgeseg.core.stats import show_interval

    first = variants[0]
    rows = [
        (
            f"{v.name} *" if v.name == chosen else v.name,
            f"{v.validation.dice_drop.mean:+.4f}",
            show_interval(v.validation.dice_drop.ci95, "+.3f"),
            f"{v.dice.mean:.4f}",
            show_interval(v.dice.ci95, ".3f"),
            f"{v.dice_drop.mean:+.4f}",
            f"{v.bytes / 1e3:,.0f}",
            f"{first.bytes / v.bytes:.2f}",
            f"{v.latency_ms.p50:.2f}",
            f"{first.latency_ms.p50 / v.latency_ms.p50:.2f}",
        )
        for v in variants
    ]
    columns = ("file", "val drop", "95% interval", "test Dice", "95% interval", "test drop", "kB", "smaller", "ms")
    print_table("Compression (* chosen on validation cases)", (*columns, "faster"), rows)
    points = [(v.name, to_plain(v.point)) for v in variants if v.point is not None]
    decided = [(name, *show_point(point)) for name, point in points]
    if decided:
        labels = [label for _, label in POINT_FIGURES]
        print_table("Test cases at each file's operating point", ("file", *labels), decided)
        print(POINT_WORDS)


def print_check(title: str, report: CheckReport) -> None:
    """Print the contents of a data folder and its defects."""
    table = report.to_json()
    twins = table["near_duplicates"]
    rows = [
        ("layout", table["layout"]),
        ("readable cases", str(table["cases"])),
        ("groups", str(table["groups"])),
        ("given parts", _list_counts(table["parts"])),
        ("sizes", _list_counts(table["sizes"])),
        ("bits", _list_counts(table["bits"]) + (f"; white is {table['white']}" if table["white"] else "")),
        ("darkest pixel", _show_span(table["darkest"])),
        ("brightest pixel", _show_span(table["brightest"])),
        ("mm per pixel", f"known for {table['pixel_size_mm']['known']}"),
        ("label values in", _list_counts(table["label_values"])),
        ("labelled with", _list_counts(table["labels"])),
        ("with nothing marked", str(table["empty"])),
        ("near-duplicates", f"{twins['within']} pairs within groups, {twins['across']} across"),
    ]
    if table["header_regions"]:
        rows.append(("cropped to region", f"{table['header_regions']}, as their headers say"))
    print_table(title, ("data", ""), rows)
    shares = [(c.name, str(c.cases), f"{c.case_share:.1%}", f"{c.pixel_share:.2%}") for c in report.balance]
    print_table("Classes", ("class", "cases", "of all cases", "of all pixels"), shares)
    if table["overlapping"]:
        print(f"{table['overlapping']} cases have pixels of several classes: a mask gives each pixel one.\n")
    _print_some([f"{defect.message}\n  {defect.hint}" for defect in report.defects], SHOWN_DEFECTS, "defects")
    print_warnings(report.warnings)
    found = [f"{number}. {one.describe()}" for number, one in enumerate(report.contradictions, start=1)]
    if found:
        print("Near-duplicates with contradictory labels, worst first:")
    _print_some(found, SHOWN_CONTRADICTIONS, "contradictions")
    pairs = [f"{p.first.stem} and {p.second.stem}: correlation {p.correlation:.3f}" for p in report.leaks]
    _print_some([make_printable(pair) for pair in pairs], SHOWN_PAIRS, "pairs across groups")


def print_cache(place: Path, entries: Sequence[CacheEntry]) -> None:
    """Print what the cache holds."""
    rows = [
        (
            entry.path.name,
            f"{entry.size / 2**20:,.0f}",
            strftime("%Y-%m-%d %H:%M", localtime(entry.used)),
            "" if entry.whole else "unfinished",
        )
        for entry in entries
    ]
    if rows:
        print_table("Stored images", ("set", "MB", "last used", ""), rows)
    held = f"{count_sets(len(entries))}, {sum(entry.size for entry in entries) / 2**20:,.0f} MB"
    print(f"{show_name(str(place))}: {held}. To remove them: edgeseg data cache --clear")


def count_sets(count: int) -> str:
    """Write how many sets there are."""
    return "1 set" if count == 1 else f"{count} sets"


def print_warnings(warnings: Sequence[DataWarning]) -> None:
    """Print what a person should know about data."""
    lines = [f"Warning: {warning.message}\n  {warning.hint}" for warning in warnings]
    _print_some(lines, SHOWN_DEFECTS, "warnings")


def _print_some(lines: Sequence[str], shown: int, what: str) -> None:
    for line in lines[:shown]:
        print(line)
    if len(lines) > shown:
        print(f"... and {len(lines) - shown} more {what}; --json lists all.")
    if lines:
        print()


def _list_counts(counts: Mapping[str, int]) -> str:
    listed = [f"{value}: {count}" for value, count in counts.items()]
    more = f" and {len(listed) - SHOWN_VALUES} more" if len(listed) > SHOWN_VALUES else ""
    return (", ".join(listed[:SHOWN_VALUES]) or "none") + more


def _show_span(span: Mapping[str, float] | None) -> str:
    return f"{span['low']:g} to {span['high']:g}, median {span['median']:g}" if span else "none"


def print_times(results: Sequence[BenchResult], runs: int) -> None:
    """Print the times of each model; the ratios are to the first row."""
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
    """Print the conditions of the measurement: drift, CPU governor and temperature."""
    for result in results:
        if result.steadiness is not None and not result.steadiness.steady:
            name = f"{result.model} on {result.ran_as}, threads {result.threads}"
            print(f"{name}, was not steady: {result.steadiness.describe()}.")
    print(results[0].conditions.describe())


def print_comparison(rows: Sequence[Comparison]) -> None:
    """Print times beside a reference's."""
    print_table(
        "Median frame against the reference",
        ("model", "backend", "threads", "before ms", "now ms", "ratio", "verdict"),
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
    """Print the figures of a stream and its verdict."""
    counts = report.frames
    if counts.processed == 0:
        print("The stream ended before its first mask: no verdict.")
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
    _print_states(report.states)
    if report.frozen:
        print(f"The picture stood still on {report.frozen} of {counts.processed} frames.")
    # of several sources, only those that lost something: each has sinks of its own
    for sink in (sink for sink in report.sinks if sink.missed or report.workers == 1 or not report.sources):
        print(f"{sink.name[0].upper()}{sink.name[1:]} took {sink.taken} masks and missed {sink.missed}.")
    _print_details(report)
    _print_health(report.source_health)


def _print_states(states: StateReport) -> None:
    """Print what was found for how long, and how steady that was."""
    from edgeseg.core.decision import STATES

    rows = [
        (
            one.name,
            *(f"{one.seconds[state]:.1f}" for state in STATES),
            _show_number(one.flicker_per_minute, ".1f"),
            _show_number(one.area_jitter, ".1%"),
        )
        for one in states.classes
    ]
    columns = ("class", *(f"{state} s" for state in STATES), "changes/min", "area jitter")
    # of several sources, each has its own states
    if rows:
        print_table("What was found", columns, rows)
    for one in states.counts:
        changes = _show_number(one.changes_per_minute, ".1f")
        findings = "1 finding" if one.count == 1 else f"{one.count} different findings"
        print(
            f"{one.name}: {findings}, at most {one.most_at_once} at once; {one.returned} came back "
            f"after they were out of sight; the number in view changed {changes} times per minute."
        )
    without = [one.name for one in states.classes if one.name not in states.operating_points]
    if without:
        print(f"No operating point on the card for {', '.join(without)}: every mask counts as found.")
    if states.out_of_distribution:
        print(f"{states.out_of_distribution} frames are not what the model was trained on: nothing counts as found.")


def _show_number(value: float | None, form: str) -> str:
    return NOT_KNOWN if value is None else format(value, form)


def _describe_lateness(report: StreamReport) -> str:
    from edgeseg.streaming.loop import NOT_JUDGED

    if report.verdict == NOT_JUDGED:
        return "; the recorded source waited for every mask, so no budget was judged."
    late = f"{report.frames.late} later than {report.budget_ms:g} ms ({report.misses:.1%})"
    return f", {late}: budget {report.verdict}."


def _print_details(report: StreamReport) -> None:
    """Print the interval between masks, the newest window, and the warm-up."""
    from edgeseg.machine.thermal import describe_heat

    newest = report.window
    print(
        f"A mask every {report.interval_ms.p50:.1f} ms, jitter {report.jitter_ms:.1f} ms; frame age of the newest "
        f"{newest.frames}: {newest.frame_age_ms.p50:.2f} at the median, {newest.frame_age_ms.p99:.2f} at p99."
    )
    print(
        f"Warm-up, in no figure above: a first inference of {report.first_inference_ms:.2f} ms and "
        f"{report.warm_up_runs} blank frames. Heat: {describe_heat(*report.thermal)}."
    )


def _print_health(health: Health) -> None:
    if health.interruptions:
        print(f"The source was lost {health.interruptions} times, for {health.lost_seconds:.1f} s in total.")
    if health.corrupt:
        print(f"{health.corrupt} frames could not be decoded and were skipped.")
    if health.missing:
        print(f"The file announces {health.missing} frames more than it holds: it is cut off or damaged.")
