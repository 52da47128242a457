"""Tables of an evaluation: masks, findings, clips, and the folds of a cross-validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeseg.cli.tables import (
    NOT_KNOWN,
    POINT_FIGURES,
    POINT_WORDS,
    print_table,
    show_estimate,
    show_point,
    show_share,
    tell_notices,
)
from edgeseg.core.schema import to_plain

if TYPE_CHECKING:
    from edgeseg.training.folds import FoldSummary
    from edgeseg.training.run import Timing

# Share of the training time spent waiting for images, above which a hint is printed.
SHOWN_WAITING = 0.1
MEASURES = (
    ("dice", "Dice"),
    ("iou", "IoU"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("hd95_px", "HD95 (px)"),
    ("hd95_mm", "HD95 (mm)"),
    ("circumference_error_mm", "circumference error (mm)"),
)
# Share of false alarms above which advice is printed.
MANY_ALARMS = 0.2
ADVICE = "{}: edgeseg evaluate RUN DATA --sensitivity {} --save-model F, on its own data"
# Shares of the cases whose Dice is printed from the risk-coverage curve.
SHOWN_SHARES = (0.8, 0.9)


def print_evaluation(title: str, evaluation: Mapping[str, Any]) -> None:
    """Print an evaluation, and its warnings on stderr."""
    from edgeseg.core.stats import show_interval

    rows = [
        (label, show_number(value, "mean"), show_interval(value["ci95"]), show_number(value, "median"))
        for key, label in MEASURES
        if (value := evaluation.get(key)) is not None
    ]
    print_table(title, (f"{evaluation['cases']} cases", "mean", "95% interval", "median"), rows)
    empty = evaluation["empty"]
    if empty["cases"]:
        rate, interval = empty["false_positive_rate"], empty["ci95"]
        spread = "" if interval is None else f" (95% interval {show_interval(interval, '.0%')})"
        print(f"Marked, found or doubtful: {rate:.0%} of {empty['cases']} cases with nothing to find{spread}.\n")
    if len(evaluation["per_class"]) > 1:
        _print_classes(evaluation)
    _print_point(evaluation)
    _print_detection(evaluation.get("detection"))
    _print_confidence(evaluation)
    tell_notices(evaluation.get("notices", ()))


def show_number(estimate: Mapping[str, Any] | None, key: str = "mean") -> str:
    """Format one figure of an estimate; "n/a" without an estimate."""
    return NOT_KNOWN if estimate is None else f"{estimate[key]:.4f}"


def _print_classes(evaluation: Mapping[str, Any]) -> None:
    classes, absent = evaluation["per_class"], evaluation["absent"]
    measures = [(key, label) for key, label in MEASURES if any(row.get(key) is not None for row in classes.values())]
    rows = [
        (name, *(show_number(row.get(key)) for key, _ in measures), _show_share(absent[name]["false_positive_rate"]))
        for name, row in classes.items()
    ]
    print_table("Classes", ("mean", *(label for _, label in measures), "false positives"), rows)


def _print_point(evaluation: Mapping[str, Any]) -> None:
    """Print what the operating point gives, for each class."""
    point = evaluation.get("operating_point")
    if point is None:
        # without scores no network was run, so nothing was decided
        if evaluation.get("calibration") is not None:
            advice = ADVICE.format("Choose one", 0.9)
            print(f"No operating point on the model's card: every mask counts as found.\n{advice}\n")
        return
    rows = [
        (name, *([_show_threshold(figures["threshold"])] if point["per_class"] else []), *show_point(figures))
        for name, figures in (point["per_class"] or {"all cases": point}).items()
    ]
    labels = [label for _, label in POINT_FIGURES]
    if point["per_class"]:
        print_table("At the operating point: surer masks are found, the others doubtful", ("", "from", *labels), rows)
    else:
        surer = _show_threshold(point["threshold"])
        title = f"At the operating point: masks with a confidence from {surer} on are found, the others doubtful"
        print_table(title, ("", *labels), rows)
    print(POINT_WORDS)
    _advise(point["false_alarm_rate"])
    print()


def _advise(alarms: Mapping[str, Any] | None) -> None:
    """Say what can be done when false alarms are many."""
    if alarms is not None and alarms["mean"] > MANY_ALARMS:
        print(ADVICE.format("Fewer false alarms", 0.8))


def _show_threshold(threshold: float | None) -> str:
    return "that of its fold" if threshold is None else f"{threshold:.3f}"


def _print_confidence(evaluation: Mapping[str, Any]) -> None:
    """Print what confidences and probabilities are worth, and the frame's classes."""
    finding, calibration = evaluation.get("finding"), evaluation.get("calibration")
    if calibration is None:
        return
    # none where no case shows anything
    confidence = evaluation.get("confidence") or {}
    rows = [("Dice over all cases, 1 where nothing is there and found", show_estimate(evaluation.get("dice_all")))]
    for share in SHOWN_SHARES:
        rows += [
            (f"Dice of the surest {share:.0%} of the masks", f"{dice:.3f}")
            for coverage, dice in confidence.get("risk_coverage", ())
            if abs(coverage - share) < 1e-6
        ]
    figures = [
        ("rank correlation: do surer masks fit better? 1 at best", confidence.get("rank_correlation")),
        ("AUC of the confidence: are cases with it surer? 1 at best", confidence.get("auc")),
        ("AUC of the finding probability", finding and finding["auc"]),
        ("ECE, by how much scores of pixels miss the truth", calibration.get("ece_pixels")),
        ("ECE, by how much finding probabilities miss it", calibration.get("ece_findings")),
    ]
    rows += [(label, show_estimate(value)) for label, value in figures if value is not None]
    if evaluation.get("out_of_distribution") is not None:
        rows.append(("cases unlike the training (out of distribution)", show_share(evaluation["out_of_distribution"])))
    print_table("How far the confidence can be trusted", ("", "95% interval"), rows)
    if finding is not None and finding["frame_classes"] is not None:
        _print_frame_classes(finding["frame_classes"])


def _print_frame_classes(figures: Mapping[str, Any]) -> None:
    confusion = figures["confusion"]
    rows = [
        (truth, *(str(count) for count in told.values()), show_estimate(figures["auc"].get(truth)))
        for truth, told in confusion.items()
    ]
    title = f"Frame classes: {show_share(figures['accuracy'])} are told right"
    print_table(title, ("labelled as", *(f"told {name}" for name in confusion), "AUC"), rows)


def print_beside(evaluation: Mapping[str, Any], others: Mapping[str, Any], left_out: int) -> None:
    """Print an evaluation beside that of the same cases without some of them."""
    point, other_point = evaluation.get("operating_point") or {}, others.get("operating_point") or {}
    figures = [(label, evaluation.get(key), others.get(key)) for key, label in MEASURES]
    figures += [("Dice over all cases", evaluation.get("dice_all"), others.get("dice_all"))]
    rows = [
        (label, show_estimate(first), show_estimate(second)) for label, first, second in figures if first is not None
    ]
    if point and other_point:
        labels = [label for _, label in POINT_FIGURES]
        rows += list(zip(labels, show_point(point), show_point(other_point), strict=True))
    print_table(f"With and without {left_out} listed cases", ("", "all cases", "without them"), rows)


def _print_detection(detection: Mapping[str, Any] | None) -> None:
    """Print how well single findings are hit and counted."""
    from edgeseg.core.stats import show_interval

    if detection is None or not detection["truths"]:
        return
    labels = (
        ("sensitivity", "hit at the operating point", ".3f"),
        ("false_positives", "false positives per image there", ".3f"),
        ("average_precision_50", "average precision, IoU 0.5", ".3f"),
        ("average_precision", "average precision, IoU 0.5 to 0.95", ".3f"),
        ("count_error", "counting error", ".3f"),
        ("count_exact", "share counted exactly", ".3f"),
    )
    known = [(label, detection[key], form) for key, label, form in labels if detection[key] is not None]
    rows = [(label, format(one["mean"], form), show_interval(one["ci95"], form)) for label, one, form in known]
    title = f"Single findings: {detection['truths']} true ones, {detection['findings']} marked"
    print_table(title, ("", "mean", "95% interval"), rows)


def print_clips(figures: Mapping[str, Any]) -> None:
    """Print how steady the classes are in clips."""
    labels = (
        ("flicker_per_minute", "changes/min", _show_rounded),
        ("flicker_frame_by_frame", "frame by frame", _show_rounded),
        ("area_jitter", "area jitter", show_share),
        ("found_share", "time found", show_share),
        ("count", "findings", _show_tenths),
        ("count_changes_per_minute", "count changes/min", _show_rounded),
        ("warped_agreement", "agreement when moved", show_share),
    )
    rows = [(name, *(show(one[key]) for key, _, show in labels)) for name, one in figures["per_class"].items()]
    title = f"Steadiness of found, doubtful and nothing in {figures['clips']} clips, {figures['frames']} frames"
    if figures["out_of_distribution"]:
        title += f", {figures['out_of_distribution']} of them out of distribution"
    print_table(title, ("class", *(label for _, label, _ in labels)), rows)
    identity = figures.get("identity")
    if identity is not None:
        covered = _show_share(identity["covered"])
        print(
            f"{identity['truths']} true findings were followed under {identity['numbers']} numbers, which switched "
            f"{identity['switches']} times; they had a number in {covered} of their frames.\n"
        )


def _show_tenths(estimate: Mapping[str, Any] | None) -> str:
    return NOT_KNOWN if estimate is None else f"{estimate['mean']:.1f}"


def _show_rounded(estimate: Mapping[str, Any] | None) -> str:
    return NOT_KNOWN if estimate is None else f"{estimate['mean']:.0f}"


def _show_share(share: float | None) -> str:
    return NOT_KNOWN if share is None else f"{share:.0%}"


def print_timing(timing: Timing | None) -> None:
    """Print the time and memory of a training, and what to do when it waited for images."""
    if timing is None:
        return
    print(
        f"{timing.seconds_per_epoch:.1f} s per epoch, {timing.waiting_share:.0%} of it waiting for images, "
        f"{timing.peak_memory_mb:,.0f} MB of memory at most"
    )
    if timing.waiting_share > SHOWN_WAITING:
        print("Augmentation is slower than the network: give the training more CPU cores.")


def print_folds(summary: FoldSummary) -> None:
    """Print the results of a cross-validation."""
    rows = [(f"fold {number}", f"{dice:.4f}") for number, dice in enumerate(summary.dice, start=1)]
    rows.append(("mean and spread", f"{summary.mean:.4f} +- {summary.std:.4f}"))
    print_table("Cross-validation", ("test cases of", "Dice"), rows)
    print_evaluation("All cases, each judged by the network that had not seen its group", to_plain(summary.evaluation))
    if summary.labels_in_doubt:
        print(
            f"Look at these labels first: {summary.labels_in_doubt} cases, listed in look-first.csv and drawn in "
            "look-first.png and further pages, contradict a confident network that had not seen them, or a "
            "near-duplicate."
        )
