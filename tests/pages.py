"""Report pages made of invented figures: as few or as many cases and classes, and as strange names, as a test wants."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.core.spec import ClassSpec
from edgeseg.core.stats import Estimate
from edgeseg.evaluation.metrics import THUMBNAIL_SIDE, CaseScore, Thumbnail
from edgeseg.evaluation.operating import Outcome
from edgeseg.evaluation.score import Evaluation, ScoredCase, summarise_cases
from edgeseg.report.cases import CaseCard, CaseRow, Gallery, LegendEntry, Shot, to_data_url
from edgeseg.report.page import CAUTION, Pill, Step, Table, Tile, Verdict, render_page
from edgeseg.report.plots import draw_front
from edgeseg.report.scores import describe_figures
from edgeseg.report.verdict import Judged, explain_few, find_grade, list_fit, list_unfit, make_finding, make_quality
from tests.unit.test_gate import make_variant

HOSTILE = "<script>window.harmed = 1</script>\"'&"
LONG = "l" * 255
ARABIC = "\u0643\u064a\u0633\u0629 \u062e\u0644\u0641\u064a\u0629"


def score(dice: float) -> CaseScore:
    return CaseScore(dice, dice, dice, dice, 3.0)


def spread_truth(number: int) -> Thumbnail:
    """Mark a row of a thumbnail, another in each case: a fixed place is no good guess then."""
    truth = np.zeros((THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.float32)
    truth[number % THUMBNAIL_SIDE] = 1.0
    return truth


def make_tested(
    dice: Sequence[float],
    classes: Sequence[str] = ("lesion",),
    empty: int = 0,
    alarms: int = 0,
    point: bool = True,
    groups: int | None = None,
) -> Judged:
    """Make the test cases of a model: these Dice in groups of their own, and empty cases, some with a false alarm."""
    cases = [(f"case_{number}", value) for number, value in enumerate(dice)]
    groups = groups or len(cases) + empty
    scored = [
        ScoredCase(
            stem,
            f"g{number % groups}",
            dict.fromkeys(classes, score(value)),
            (),
            empty=False,
            marked_share=0.1,
            truth=dict.fromkeys(classes, spread_truth(number)),
            outcomes=tuple(Outcome(name, f"g{number % groups}", value, "found", value) for name in classes),
        )
        for number, (stem, value) in enumerate(cases)
    ]
    for number in range(empty):
        state = "found" if number < alarms else "nothing"
        outcomes = tuple(Outcome(name, f"e{number}", None, state, 0.8) for name in classes)
        scored.append(ScoredCase(f"empty_{number}", f"e{number}", {}, (), empty=True, outcomes=outcomes))
    thresholds = dict.fromkeys(classes, 0.5) if point else {}
    evaluation = summarise_cases(scored, [ClassSpec(name) for name in classes], thresholds)
    return Judged(evaluation, tuple(classes), tuple(dice), min(groups, len(cases)))


def useless(evaluation: Evaluation) -> Evaluation:
    """Call an evaluation useless, as one is whose Dice no better than a fixed place's."""
    return dataclasses.replace(evaluation, useless=True, notices=("These masks are useless: their Dice is 0.10.",))


def judge(tested: Judged) -> Verdict:
    return Verdict(
        pills=(find_grade(tested).pill, Pill(CAUTION, "Gate not held")),
        sentence="What came out.",
        tiles=(make_quality(tested), Tile("Speed", "1.00 ms", "a note"), make_finding(tested.evaluation)),
        fit=tuple(list_fit(tested)),
        unfit=tuple(list_unfit(tested)),
        few=explain_few(tested),
        warnings=("A notice.",),
    )


def draw_strange_page(names: Sequence[str], classes: Sequence[str], cases: int = 9) -> str:
    """Render a training's page whose cases and classes have these names."""
    rng = np.random.default_rng(0)
    tested = make_tested(list(rng.uniform(0.3, 0.9, cases)), classes, empty=3, alarms=1)
    url = to_data_url(rng.integers(0, 255, (90, 120, 3), dtype=np.uint8))
    cards = tuple(CaseCard(name, f"{names[0]}: Dice 0.5", (Shot("image", url), Shot("mask", url))) for name in names)
    table = Table(("part", *classes[:6]), (("training", *classes[:6]),))
    files = [
        dataclasses.replace(make_variant(name, ms, 0.0), dice=Estimate(dice, dice, (dice - 0.04, dice + 0.04)))
        for name, ms, dice in (("float32", 1.3, 0.73), ("float16", 1.31, 0.73), ("int8-ptq", 0.4, 0.73))
    ]
    content: dict[str, Any] = {
        "title": names[0],
        "kind": "Training report",
        "verdict": judge(tested),
        "gallery": Gallery(
            (CaseRow("Worst", cards),), tuple(LegendEntry(name, "rgb(1, 2, 3)") for name in classes[:12]), 3
        ),
        "steps": [Step(names[0], f"edgeseg compress {names[0]} --out {LONG}")],
        "history": draw_front(files, "int8-ptq", 5.0),
        "history_note": names[0],
        "folds": table,
        **describe_figures(tested.evaluation, None, "validation cases"),
        "doubts": dataclasses.replace(table, words=True),
        "doubts_note": "",
        "doubts_picture": url,
        "split": table,
        "data": [(names[0], names[-1])],
        "data_note": "",
        "data_notices": list(names),
        "repeat": f"edgeseg train {LONG}",
        "origin": [(names[-1], names[0])],
    }
    return render_page("training.html.j2", **content)


def write_page(folder: Path, text: str) -> Path:
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    return path


def copy_run(run: Path, place: Path) -> Path:
    """Copy a run with its data, so that its report can be written anew."""
    copy = place / run.name
    shutil.copytree(run, copy)
    shutil.copytree(run.parent / "discs", place / "discs")
    return copy
