"""What the figures of test cases allow: how good the masks are, what they are fit for, and what they are not.

Every sentence promises what the lower end of the 95% interval holds, not the mean (docs/decisions/0064).
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.core.stats import Estimate, show_interval
from edgeseg.data.check import FEW_GROUPS
from edgeseg.evaluation.decide import FEW_CASES
from edgeseg.evaluation.score import Evaluation
from edgeseg.report.page import BAD, CAUTION, GOOD, Pill, Tile, count, join_names

# Share of cases without the structure in which one may be found before a model is not fit to say that nothing is there.
MANY_ALARMS = 0.1
# A case below this Dice is a bad one; a class below it is not outlined.
POOR_DICE = 0.5


@dataclass(frozen=True)
class Grade:
    """What a Dice allows, from its lower end on."""

    least: float
    pill: Pill
    fit: str
    unfit: str


# Conventions, not laws: above 0.7 Zijdenbos (IEEE Transactions on Medical Imaging 1994) speaks of good agreement.
GRADES = (
    Grade(
        0.9,
        Pill(GOOD, "Close outlines"),
        "Outlining {} closely enough to measure it, where a person looks at the outline that is measured.",
        "",
    ),
    Grade(
        0.7,
        Pill(GOOD, "Usable outlines"),
        "Showing where {} lies and roughly how large it is.",
        "Exact measurements: the outlines differ visibly from those drawn by hand.",
    ),
    Grade(
        POOR_DICE,
        Pill(CAUTION, "Rough outlines"),
        "Pointing to {}, where a person looks at every mask.",
        "Measuring areas or lengths from masks that nobody has corrected.",
    ),
    Grade(
        0.0,
        Pill(CAUTION, "Poor outlines"),
        "Comparing trainings, and drawing first outlines of {} for people to correct.",
        "Showing masks to anybody who relies on them.",
    ),
)
USELESS = Grade(0.0, Pill(BAD, "Useless masks"), "", "Any use of the masks.")
UNKNOWN = Grade(0.0, Pill(BAD, "Not judged"), "", "Any use: no test case says how good the masks are.")


@dataclass(frozen=True)
class Judged:
    """The test cases of a model: their evaluation, the Dice of those that show something, and how many groups."""

    evaluation: Evaluation | None
    """None where no test cases were scored."""
    classes: tuple[str, ...]
    dice: tuple[float, ...] = ()
    groups: int = 0
    near_duplicates: int = 0

    @property
    def cases(self) -> int:
        """Count the cases that show something."""
        return 0 if self.evaluation is None else self.evaluation.cases

    @property
    def few(self) -> bool:
        """Say whether the cases are so few that the figures are uncertain, whatever they say."""
        return self.cases < FEW_CASES or 0 < self.groups < FEW_GROUPS


def find_grade(tested: Judged) -> Grade:
    """Find what the Dice of the test cases allows."""
    evaluation = tested.evaluation
    if evaluation is None or evaluation.dice is None:
        return UNKNOWN
    if evaluation.useless:
        return USELESS
    dice = evaluation.dice
    low = dice.mean if dice.ci95 is None else dice.ci95[0]
    return next(grade for grade in GRADES if low >= grade.least)


def explain_few(tested: Judged) -> str:
    """Say that the figures come from few cases, and how uncertain they are; empty where there are enough."""
    evaluation = tested.evaluation
    if evaluation is None or evaluation.dice is None or not tested.few:
        return ""
    judged = f"Judged on {describe_cases(tested)}."
    if evaluation.dice.ci95 is None:
        return f"{judged} They are too few for an interval: other cases may well give another Dice altogether."
    return (
        f"{judged} So few leave the figures uncertain: over all such cases the mean Dice may be anything from "
        f"{show_interval(evaluation.dice.ci95, '.2f')}. More labelled cases, or a cross-validation, make it narrower."
    )


def describe_cases(tested: Judged) -> str:
    """Count cases and groups: 9 cases in 3 groups."""
    cases = count(tested.cases, "case")
    return cases if tested.groups in (0, tested.cases) else f"{cases} in {count(tested.groups, 'group')}"


def make_quality(tested: Judged) -> Tile:
    """Make the tile of the Dice."""
    evaluation, grade = tested.evaluation, find_grade(tested)
    if evaluation is None or evaluation.dice is None:
        return Tile("Quality", "unknown", "no test case shows anything to find", BAD)
    spread = f"95% interval {show_interval(evaluation.dice.ci95, '.3f')}" if evaluation.dice.ci95 else "no interval"
    note = f"{spread}, on {describe_cases(tested)} that show something"
    return Tile("Quality", f"Dice {evaluation.dice.mean:.3f}", note, grade.pill.level)


def make_finding(evaluation: Evaluation | None) -> Tile:
    """Make the tile of what is found at the operating point."""
    point = evaluation.operating_point if evaluation is not None else None
    if point is None or point.sensitivity is None:
        return Tile("Finding", "not decided", "without an operating point every mask counts as found", CAUTION)
    alarms = point.false_alarm_rate
    if alarms is None:
        note, level = "false alarms unknown: every test case shows all classes", ""
    else:
        note = f"false alarms in {show_share(alarms)} of the cases without it"
        level = GOOD if alarms.high <= MANY_ALARMS else CAUTION
    return Tile("Finding", f"{point.sensitivity.mean:.0%} found", note, level)


def show_share(estimate: Estimate) -> str:
    """Format a share with its interval."""
    interval = show_interval(estimate.ci95, ".0%", "")
    return f"{estimate.mean:.0%} ({interval})" if interval else f"{estimate.mean:.0%}"


def list_fit(tested: Judged) -> list[str]:
    """List what the masks are fit for."""
    fit = find_grade(tested).fit
    return [f"{fit.format(join_names(tested.classes))} Only in images like those it was trained on."] if fit else []


def list_unfit(tested: Judged) -> list[str]:
    """List what the masks are not fit for."""
    evaluation, grade = tested.evaluation, find_grade(tested)
    said = [grade.unfit] if grade.unfit else []
    if evaluation is None or grade in (USELESS, UNKNOWN):
        return said
    said += [sentence for sentence in (_doubt_silence(evaluation), _doubt_cases(tested)) if sentence]
    known = [(name, figures.get("dice")) for name, figures in evaluation.per_class.items()]
    poor = [f"{join_names([name])} ({dice.mean:.2f})" for name, dice in known if dice and dice.mean < POOR_DICE]
    if poor and len(known) > 1 and grade.least >= POOR_DICE:
        said.append(f"Outlining {join_names(poor)}: the Dice of these classes is below {POOR_DICE}.")
    if tested.near_duplicates:
        said.append(
            f"Promising the same for new patients: {count(tested.near_duplicates, 'pair')} of nearly equal images lie "
            "in different groups, so the figures may flatter."
        )
    return said


def _doubt_silence(evaluation: Evaluation) -> str:
    """Say whether a frame without a mask can be relied on."""
    point = evaluation.operating_point
    if point is None:
        return "Separating sure masks from doubtful ones: it has no operating point."
    if point.false_alarm_rate is None:
        return "Images without the structure: no test case was one, so false alarms are unknown."
    if point.false_alarm_rate.high > MANY_ALARMS:
        return (
            f"Saying that nothing is there: something is found in {show_share(point.false_alarm_rate)} of the test "
            "cases without it."
        )
    return ""


def _doubt_cases(tested: Judged) -> str:
    """Say how many single cases are bad, whatever the mean."""
    bad = sum(dice < POOR_DICE for dice in tested.dice)
    if not bad:
        return ""
    return f"Use without a person who checks: in {bad} of {len(tested.dice)} test cases the Dice is below {POOR_DICE}."
