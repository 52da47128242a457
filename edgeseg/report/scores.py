"""The scores of test cases in a report: of single cases, and the tables and plots of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeseg.core.decision import Decision
from edgeseg.core.files import read_rows
from edgeseg.core.redact import show_name
from edgeseg.core.stats import Estimate, show_interval
from edgeseg.evaluation.operating import PointFigures
from edgeseg.evaluation.score import Evaluation
from edgeseg.report.cases import NAMED_CLASSES
from edgeseg.report.page import Table, join_names
from edgeseg.report.plots import draw_froc, draw_reliability, draw_risk
from edgeseg.report.verdict import show_share

MEASURES = (
    ("dice", "Dice", ".3f"),
    ("iou", "IoU", ".3f"),
    ("precision", "precision", ".3f"),
    ("recall", "recall", ".3f"),
    ("hd95_px", "HD95 (px)", ".1f"),
    ("hd95_mm", "HD95 (mm)", ".2f"),
    ("circumference_error_mm", "circumference error (mm)", ".2f"),
    ("dice_all", "Dice, empty cases too", ".3f"),
)
BY_CLASS = MEASURES[:6]


@dataclass(frozen=True)
class CaseScores:
    """What the table of a run's test cases says."""

    dice: dict[str, float]
    """The mean over the classes of its truth, of every case that shows something."""
    figures: dict[str, str]
    """What is said below the pictures of a case."""
    alarms: tuple[str, ...]
    """Cases without anything to find in which something is found, the surest first."""
    groups: int
    """Of the cases that show something."""


def read_scores(path: Path) -> CaseScores:
    """Read the scores of test cases; an absent table has none."""
    rows: dict[str, list[dict[str, str]]] = {}
    for row in read_rows(path) if path.is_file() else []:
        rows.setdefault(row["stem"], []).append(row)
    dice = {}
    for stem, classes in rows.items():
        known = [float(row["dice"]) for row in classes if row["dice"]]
        if known:
            dice[stem] = sum(known) / len(known)
    alarms = {
        stem: max(float(row.get("confidence") or 0.0) for row in classes)
        for stem, classes in rows.items()
        if stem not in dice and any(_counts_as_found(row) for row in classes)
    }
    return CaseScores(
        dice,
        {stem: _describe_case(classes) for stem, classes in rows.items()},
        tuple(sorted(alarms, key=lambda stem: (-alarms[stem], stem))),
        len({rows[stem][0]["group"] for stem in dice}),
    )


def _counts_as_found(row: Mapping[str, str]) -> bool:
    # files without an operating point decide nothing: every mask counts
    return row["outcome"] == "false positive" and (row.get("state") or "found") == "found"


def _describe_case(classes: Sequence[Mapping[str, str]]) -> str:
    """Write the figures of a case in a line."""
    shown = [row for row in classes if row["dice"] or row["outcome"] == "false positive"]
    said = []
    for row in shown[:NAMED_CLASSES]:
        name = f"{join_names([show_name(row['class'])])}: " if len(classes) > 1 else ""
        figure = f"Dice {float(row['dice']):.2f}" if row["dice"] else "nothing is there"
        sure = f", {row['state']} at confidence {float(row['confidence']):.2f}" if row.get("confidence") else ""
        said.append(f"{name}{figure}{sure}")
    more = [f"{len(shown) - NAMED_CLASSES} more classes"] if len(shown) > NAMED_CLASSES else []
    return "; ".join([*said, *more])


def describe_figures(evaluation: Evaluation | None, decision: Decision | None, chosen_on: str) -> dict[str, Any]:
    """Collect the tables and plots of an evaluation."""
    if evaluation is None:
        empty = Table((), ())
        return {
            "measures": empty, "classes": empty, "points": empty, "chosen_on": "",
            "risk": "", "reliability": "", "froc": "",
        }  # fmt: skip
    known = [(label, getattr(evaluation, key), form) for key, label, form in MEASURES]
    measures = tuple(_list_estimate(label, one, form) for label, one, form in known if one is not None)
    return {
        "measures": Table(("", "mean", "95% interval", "median"), measures),
        "classes": _list_classes(evaluation),
        "points": _list_points(evaluation, decision),
        "chosen_on": chosen_on,
        "risk": draw_risk({"float32": evaluation}),
        "reliability": draw_reliability(evaluation),
        "froc": draw_froc(evaluation),
    }


def _list_estimate(label: str, one: Estimate, form: str) -> tuple[str, ...]:
    return (label, f"{one.mean:{form}}", show_interval(one.ci95, form), f"{one.median:{form}}")


def _list_classes(evaluation: Evaluation) -> Table:
    classes = evaluation.per_class
    if len(classes) < 2:
        return Table((), ())
    used = [one for one in BY_CLASS if any(figures.get(one[0]) for figures in classes.values())]
    rows = []
    for name, figures in classes.items():
        cells = [f"{one.mean:{form}}" if (one := figures.get(key)) else "n/a" for key, _, form in used]
        rows.append((show_name(name), *cells))
    return Table(("class", *(label for _, label, _ in used)), tuple(rows))


def _list_points(evaluation: Evaluation, decision: Decision | None) -> Table:
    """List the operating point of every class, with its figures on the test cases."""
    point = evaluation.operating_point
    if point is None:
        return Table((), ())
    rules = {rule.name: rule.operating_point for rule in decision.classes} if decision is not None else {}
    by_class = dict(point.per_class) or dict.fromkeys(list(evaluation.per_class)[:1], point)
    rows = []
    for name, figures in by_class.items():
        rule = rules.get(name)
        asked = "n/a" if rule is None else f"{rule.target} {rule.wanted:.0%}"
        threshold = figures.threshold if figures.threshold is not None else rule.threshold if rule else None
        start = "n/a" if threshold is None else f"{threshold:.3f}"
        rows.append((show_name(name), start, asked, *_list_shares(figures)))
    columns = "class", "found from", "asked for", "sensitivity", "coverage", "false alarms", "Dice when found"
    return Table(columns, tuple(rows))


def _list_shares(figures: PointFigures) -> list[str]:
    shares = figures.sensitivity, figures.coverage, figures.false_alarm_rate
    dice = "n/a" if figures.dice_shown is None else f"{figures.dice_shown.mean:.3f}"
    return [*("n/a" if share is None else show_share(share) for share in shares), dice]
