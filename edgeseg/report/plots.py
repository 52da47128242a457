"""Plots: as SVG for HTML pages, or as PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from matplotlib.transforms import Bbox

from edgeseg.compression.gate import Variant
from edgeseg.core.stats import pareto_front, show_interval
from edgeseg.evaluation.score import Evaluation
from edgeseg.frame.images import ACCENT, FAINT, INK, SOFT
from edgeseg.training.validation import EpochResult, paint_history

PALETTE = (SOFT, ACCENT, "#64748b", "#7c3aed", "#ca8a04")
PLAIN, TALL, WIDE = (5.6, 3.6), (5.6, 4.2), (11.6, 3.8)
# Folds that a legend names.
SHOWN_FOLDS = 10
# Latencies that differ by more than this factor are drawn on a logarithmic axis.
FAR_APART = 8.0
_OFFSET: dict[str, Any] = {"textcoords": "offset points"}
# Names of points: half a point's side in pixels, letters, pixels around a name, and where it may stand, nearest first.
_POINT, _LABEL_LETTERS, _AIR = 7.0, 32, 2.0
_DISTANCES = (9.0, 20.0, 34.0, 50.0)
_DIRECTIONS = ((1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
# Share of the axis behind which a budget's name stands before its line.
BUDGET_SIDE = 0.6
_STYLE = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 11,
    # text stays text: smaller, and it can be searched
    "svg.fonttype": "none",
    # ids would be random otherwise, and equal reports differ
    "svg.hashsalt": "edgeseg",
    "text.color": INK,
    # names of files and classes are no formulas
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}
# Areas of the dots in a reliability diagram: nearly all pixels are background, so they grow with the logarithm.
_SMALLEST_DOT, _LARGEST_DOT = 6.0, 70.0


def draw_history(history: Sequence[EpochResult], best_epoch: int) -> str:
    """Plot validation Dice and training loss by epoch, with the chosen epoch."""
    best = next((row for row in history if row.epoch == best_epoch), history[-1])
    return _draw(partial(paint_history, history=history, best=best), TALL)


def draw_fold_histories(histories: Sequence[Sequence[EpochResult]], kept: Sequence[int]) -> str:
    """Plot the validation Dice of every fold by epoch, with the epoch that each kept."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for number, (history, epoch) in enumerate(zip(histories, kept, strict=True)):
            colour = PALETTE[number % len(PALETTE)]
            label = f"fold {number + 1}" if number < SHOWN_FOLDS else None
            axes.plot(
                [row.epoch for row in history], [row.validation_dice for row in history], color=colour, label=label
            )
            best = next((row for row in history if row.epoch == epoch), history[-1])
            axes.plot(best.epoch, best.validation_dice, "o", color=colour)
        axes.set(xlabel="epoch", ylabel="validation Dice", ylim=(0, 1))
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes.legend(frameon=False, loc="lower right", ncols=2)

    return _draw(paint)


def draw_distances(distances: Sequence[tuple[int, float]], best_epoch: int, before: float | None) -> str:
    """Plot the distance from the true place by epoch, with the chosen epoch and the distance without registration."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(*zip(*distances, strict=True), color=ACCENT)
        axes.plot(*next(point for point in distances if point[0] == best_epoch), "o", color=ACCENT)
        if before is not None:
            axes.axhline(before, color=INK, linestyle="--")
        axes.set(xlabel="epoch", ylabel="distance in px", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))

    return _draw(paint)


def draw_front(variants: Sequence[Variant], chosen: str, budget_ms: float | None = None) -> str:
    """Plot Dice against latency, with intervals and the budget; a line joins the Pareto front."""
    front = find_front(variants)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for variant in variants:
            colour = ACCENT if variant.name == chosen else SOFT
            dice, times = variant.dice, variant.latency_ms
            low, high = dice.ci95 or (dice.mean, dice.mean)
            axes.plot((times.p50, times.p50), (low, high), color=colour, alpha=0.45, linewidth=1.5)
            axes.plot((times.p50, times.p99), (dice.mean, dice.mean), color=colour, alpha=0.45, linewidth=1.5)
            fill, size = colour if variant in front else "white", 9 if variant.name == chosen else 7
            axes.plot(times.p50, dice.mean, "o", color=colour, markerfacecolor=fill, markersize=size, zorder=4)
        places = [(variant.latency_ms.p50, variant.dice.mean) for variant in front]
        axes.plot(*zip(*places, strict=True), color=FAINT, zorder=0, gid="front")
        axes.set(xlabel="ms per inference: median, bar to the 99th percentile", ylabel="test Dice, 95% interval")
        axes.margins(x=0.16, y=0.16)
        _scale_times(axes, [ms for variant in variants for ms in (variant.latency_ms.p50, variant.latency_ms.p99)])
        if budget_ms is not None:
            _draw_budget(axes, budget_ms)
        names = [f"{variant.name}, chosen" if variant.name == chosen else variant.name for variant in variants]
        figure.draw_without_rendering()
        place_labels(axes, [(v.latency_ms.p50, v.dice.mean, name) for v, name in zip(variants, names, strict=True)])

    return _draw(paint)


def _scale_times(axes: Any, times: Sequence[float]) -> None:
    """Choose a logarithmic axis where times lie far apart; its ticks are plain numbers."""
    if max(times) <= FAR_APART * min(times):
        axes.set_xlim(left=0)
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_budget(axes: Any, budget_ms: float) -> None:
    """Draw the budget as a line; where it is far beyond all times, only say so."""
    left, right = axes.get_xlim()
    said = f"budget {budget_ms:g} ms"
    if budget_ms > FAR_APART * right or budget_ms <= 0.0:
        axes.text(0.99, 0.01, f"{said}, far to the right", ha="right", transform=axes.transAxes, fontsize=9)
        return
    axes.set_xlim(left, max(right, budget_ms * (1.1 if axes.get_xscale() == "linear" else 1.3)))
    axes.axvline(budget_ms, color=INK, linestyle=(0, (4, 3)), linewidth=1, gid="budget")
    # beside the line where there is room
    beyond = axes.transLimits.transform(axes.transScale.transform((budget_ms, 0.0)))[0] > BUDGET_SIDE
    align, gap = ("right", -4) if beyond else ("left", 4)
    axes.annotate(
        said, (budget_ms, 0.01), (gap, 2), xycoords=("data", "axes fraction"), ha=align, fontsize=9, **_OFFSET
    )


def place_labels(axes: Any, labels: Sequence[tuple[float, float, str]]) -> None:
    """Write a name beside each point where it covers no other name, no point and no edge.

    Args:
        axes: Where the points are drawn, with its final limits.
        labels: Each point, and its name.
    """
    renderer, frame = axes.figure._get_renderer(), axes.get_window_extent()
    points = axes.transData.transform([(x, y) for x, y, _ in labels])
    taken = [Bbox.from_bounds(x - _POINT, y - _POINT, 2 * _POINT, 2 * _POINT) for x, y in points]
    taken += [text.get_window_extent(renderer) for text in axes.texts]
    for number, (x, y, name) in enumerate(labels):
        shown = name if len(name) <= _LABEL_LETTERS else f"{name[: _LABEL_LETTERS - 1]}\u2026"
        colour = ACCENT if name.endswith(", chosen") else INK
        weight = "bold" if colour == ACCENT else "normal"
        text = axes.annotate(
            shown, (x, y), fontsize=10, color=colour, weight=weight, xytext=(0, 0), va="center", **_OFFSET
        )
        text.set_gid(f"name-{number}")
        taken.append(_find_place(text, taken, frame, renderer))


def _find_place(text: Any, taken: Sequence[Bbox], frame: Bbox, renderer: Any) -> Bbox:
    """Move a label to the nearest free place around its point; a distant one gets a line to the point."""
    box: Bbox = text.get_window_extent(renderer)
    for distance in _DISTANCES:
        for across, up in _DIRECTIONS:
            text.set_ha("left" if across > 0 else "right" if across < 0 else "center")
            text.set_position((across * distance, up * (distance + 2)))
            box = text.get_window_extent(renderer).padded(_AIR)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                if distance > _DISTANCES[0]:
                    text.axes.annotate(
                        "", text.xy, text.get_position(), arrowprops={"arrowstyle": "-", "color": FAINT}, **_OFFSET
                    )
                return box
    # more points than room: the table beside the plot has them all
    text.set_text("")
    return box


def find_front(variants: Sequence[Variant]) -> list[Variant]:
    """Find the Pareto front of test Dice and latency, the fastest file first."""
    front = pareto_front([((-variant.dice.mean, variant.latency_ms.p50), variant) for variant in variants])
    return sorted(front, key=lambda variant: variant.latency_ms.p50)


def draw_layers(variants: Sequence[Variant]) -> str:
    """Plot each layer's error in each file; empty where no layers could be compared."""
    compared = [variant for variant in variants if variant.layers and variant.precision != "float16"]
    if not compared:
        return ""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        places, width = range(len(compared[0].layers)), 0.8 / len(compared)
        for number, variant in enumerate(compared):
            errors = [layer.error for layer in variant.layers]
            left = [place + (number - (len(compared) - 1) / 2) * width for place in places]
            axes.bar(left, errors, width, color=PALETTE[number % len(PALETTE)], label=variant.name)
        axes.set_xticks(list(places), [layer.layer for layer in compared[0].layers], rotation=90, fontsize=8)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set(ylabel="error by layer's rms", xlim=(-0.7, len(places) - 0.3))
        axes.legend(frameon=False, ncols=len(compared), loc="lower left", bbox_to_anchor=(0, 1))

    return _draw(paint, WIDE)


def draw_channels(variants: Sequence[Variant]) -> str:
    """Plot the channels that each pruned file keeps of every convolution; empty without pruned files."""
    pruned = [variant for variant in variants if variant.channels]
    if not pruned:
        return ""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        layers, width = pruned[0].channels, 0.8 / len(pruned)
        places = range(len(layers))
        axes.bar(list(places), [kept.before for kept in layers], 0.9, color="none", edgecolor=FAINT, label="before")
        for number, variant in enumerate(pruned):
            left = [place + (number - (len(pruned) - 1) / 2) * width for place in places]
            after = [kept.after for kept in variant.channels]
            axes.bar(left, after, width, color=PALETTE[number % len(PALETTE)], label=variant.name)
        axes.set_xticks(list(places), [kept.layer for kept in layers], rotation=90, fontsize=8)
        axes.set(ylabel="channels kept", xlim=(-0.7, len(layers) - 0.3))
        axes.legend(frameon=False, ncols=len(pruned) + 1, loc="lower left", bbox_to_anchor=(0, 1))

    return _draw(paint, WIDE)


def draw_risk(tested: Mapping[str, Evaluation]) -> str:
    """Plot the risk-coverage curve of each file, with its operating point; empty without confidences."""
    curves = {name: one.confidence for name, one in tested.items() if one.confidence is not None}
    # a file that marks nothing has no points
    curves = {name: curve for name, curve in curves.items() if curve.risk_coverage}
    if not curves:
        return ""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        # the last one is the chosen file, drawn over the others
        chosen = list(tested)[-1]
        for name, curve in curves.items():
            colour = ACCENT if name == chosen else SOFT
            coverage, dice = zip(*curve.risk_coverage, strict=True)
            axes.plot(coverage, dice, color=colour, label=name)
            known = [(x, ends) for x, ends in zip(coverage, curve.risk_coverage_ci95, strict=True) if ends is not None]
            if colour == ACCENT and known:
                low, high = [low for _, (low, _) in known], [high for _, (_, high) in known]
                axes.fill_between([x for x, _ in known], low, high, color=colour, alpha=0.15, linewidth=0)
            point = tested[name].operating_point
            if point is not None and point.coverage is not None and point.dice_shown is not None:
                axes.plot(point.coverage.mean, point.dice_shown.mean, "o", color=colour)
        axes.set(xlabel="coverage: share of the cases shown, the surest first", ylabel="test Dice of these")
        axes.set(xlim=(0, 1.02))
        axes.legend(frameon=False, loc="lower left")

    return _draw(paint)


def draw_reliability(evaluation: Evaluation) -> str:
    """Plot how often scores and finding probabilities are right; empty without them."""
    calibration = evaluation.calibration
    if calibration is None:
        return ""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot((0, 1), (0, 1), color=FAINT, zorder=0)
        series = (
            ("pixels", calibration.pixels, calibration.ece_pixels, ACCENT),
            ("findings", calibration.findings, calibration.ece_findings, PALETTE[3]),
        )
        for name, bins, error, colour in series:
            if bins and error is not None:
                label = f"{name}, ECE {error.mean:.3f} ({show_interval(error.ci95, '.3f')})"
                stated, true = [one[0] for one in bins], [one[1] for one in bins]
                axes.plot(stated, true, "-", color=colour, label=label, linewidth=1.5, alpha=0.7)
                counts = [math.log1p(one[2]) for one in bins]
                sizes = [_SMALLEST_DOT + _LARGEST_DOT * count / max(counts) for count in counts]
                axes.scatter(stated, true, sizes, color=colour, zorder=3, clip_on=False)
        axes.set(xlabel="probability that the network states", ylabel="share that is true")
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1))

    return _draw(paint)


def draw_froc(evaluation: Evaluation) -> str:
    """Plot the share of findings that are hit against false positives per image; empty where nothing is there."""
    detection = evaluation.detection
    if detection is None or not detection.froc:
        return ""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        wrong = [0.0, *(point.false_positives for point in detection.froc)]
        right = [0.0, *(point.sensitivity for point in detection.froc)]
        axes.plot(wrong, right, "-", color=ACCENT, drawstyle="steps-post")
        if detection.sensitivity is not None and detection.false_positives is not None:
            place = detection.false_positives.mean, detection.sensitivity.mean
            axes.plot(*place, "o", color=INK, zorder=3, clip_on=False, label="operating point")
            axes.legend(frameon=False, loc="lower right")
        axes.set(xlabel="false positives per image", ylabel="share of findings hit", ylim=(0, 1))
        axes.set_xlim(left=0)

    return _draw(paint)


def draw_png(paint: Callable[[Figure], None]) -> bytes:
    """Draw a figure as PNG."""
    return _save(paint, PLAIN, format="png", dpi=160)


def _draw(paint: Callable[[Figure], None], size: tuple[float, float] = PLAIN) -> str:
    # no date: equal reports must be equal bytes
    metadata: dict[str, Any] = {"Date": None, "Creator": None}
    text = _save(paint, size, format="svg", transparent=True, metadata=metadata).decode("utf-8")
    return text[text.index("<svg") :]


def _save(paint: Callable[[Figure], None], size: tuple[float, float], **how: Any) -> bytes:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, **how)
    return buffer.getvalue()
