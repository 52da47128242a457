"""The trials of a study: what each tried and scored, the Pareto front, the pick, and the report of all that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from edgeseg.core.errors import RunError
from edgeseg.core.files import format_rows, write_bytes, write_json, write_text
from edgeseg.core.schema import to_plain
from edgeseg.core.stats import Costs, pareto_front
from edgeseg.frame.images import ACCENT, FAINT, INK, SOFT
from edgeseg.report.plots import draw_png

# A dataclass with the values that one trial tries.
ChoiceT = TypeVar("ChoiceT")
# A dataclass with the values that a finished trial is compared by.
ScoreT = TypeVar("ScoreT")
FINISHED, FAILED, RUNNING, INTERRUPTED = "finished", "failed", "running", "interrupted"
TABLE, PICTURE, FRONT = "trials.csv", "front.png", "front.md"
COLOURS = {"other trials": FAINT, "Pareto front": SOFT, "pick": ACCENT}
# Square points: of each point, and of the largest one where the area shows the file's size.
POINT_AREA, LARGEST_AREA = 30.0, 220.0


@dataclass(frozen=True)
class Trial(Generic[ChoiceT, ScoreT]):
    """One trial of a study."""

    number: int
    state: str
    choice: ChoiceT
    score: ScoreT | None = None
    """None until it is finished, as are the seconds."""
    seconds: float | None = None
    sentence: str = ""
    """Why it failed."""


TrialT = TypeVar("TrialT", bound=Trial[Any, Any])


@dataclass(frozen=True)
class Objective:
    """A field of the score that a search optimises."""

    name: str
    maximize: bool = False

    def cost(self, score: Any) -> float:
        """Give the value, negated where more is better."""
        value = float(getattr(score, self.name))
        return -value if self.maximize else value


def find_front(trials: Sequence[TrialT], objectives: Sequence[Objective]) -> tuple[TrialT, ...]:
    """Find the Pareto front of the finished trials, sorted by the second objective: work or time."""
    # equal trials stay on the front together: none of them dominates the other
    scored = [(_costs(trial, objectives), trial) for trial in trials if trial.score is not None]
    return tuple(sorted(pareto_front(scored), key=lambda trial: (_costs(trial, objectives)[1], trial.number)))


def pick_trial(front: Sequence[TrialT], objectives: Sequence[Objective]) -> TrialT | None:
    """Pick the best in the first objective; the other objectives, then the number, decide between equal ones."""
    return min(front, key=lambda trial: (*_costs(trial, objectives), trial.number), default=None)


def count_state(trials: Sequence[Trial[Any, Any]], *states: str) -> int:
    """Count the trials in any of these states."""
    return sum(trial.state in states for trial in trials)


def refuse_no_result(out: Path, trials: Sequence[Trial[Any, Any]], hint: str) -> None:
    """Raise an error where no trial was finished and none is running."""
    if count_state(trials, FINISHED, RUNNING):
        return
    sentence = next((trial.sentence for trial in trials if trial.sentence), "every one was interrupted.")
    raise RunError(f"Expected at least one trial of {out} to be finished, got none: {sentence}", hint)


def _costs(trial: Trial[Any, Any], objectives: Sequence[Objective]) -> Costs:
    return tuple(objective.cost(trial.score) for objective in objectives)


@dataclass(frozen=True)
class Report(Generic[ChoiceT, ScoreT]):
    """What a search has found so far."""

    trials: tuple[Trial[ChoiceT, ScoreT], ...]
    front: tuple[Trial[ChoiceT, ScoreT], ...]
    pick: Trial[ChoiceT, ScoreT] | None
    command: str | None
    """Trains the picked network for real, or makes the picked file again."""


@dataclass(frozen=True)
class Presentation:
    """How one kind of search shows its trials; a format such as "{.choice.name}" is filled in with a trial."""

    file: str
    """Name of the JSON file."""
    score: type
    objectives: tuple[Objective, ...]
    columns: dict[str, str]
    """Titles and formats of the table of the Pareto front."""
    description: str
    """Format that names a trial in a sentence."""
    x: str
    """Field of the score that the picture draws to the right, in the unit of its label."""
    x_label: str
    x_scale: str
    command_does: str
    """What the command below the table does."""
    to_table: Callable[[Any], dict[str, Any]]
    """Gives a trial as it stands in the JSON file."""
    file_bytes: bool = False
    """Whether the area of a point shows the size of the trial's file."""


def flatten_trial(trial: Trial[Any, Any], score: type) -> dict[str, Any]:
    """Give a trial as one row; the fields of its score are None until it is finished."""
    empty = dict.fromkeys(field.name for field in dataclasses.fields(score))
    found = empty if trial.score is None else to_plain(trial.score)
    shared = {"number": trial.number, "state": trial.state}
    return {**shared, **to_plain(trial.choice), **found, "seconds": trial.seconds, "sentence": trial.sentence}


def to_json(report: Report[Any, Any], shown: Presentation) -> dict[str, Any]:
    """Give the content of the JSON file."""
    # not to_plain of the whole: the JSON keys of a trial are older than the one type for both searches
    table = {field.name: to_plain(getattr(report, field.name)) for field in dataclasses.fields(report)}
    lists = {name: [shown.to_table(trial) for trial in getattr(report, name)] for name in ("trials", "front")}
    return {**table, **lists, "pick": None if report.pick is None else shown.to_table(report.pick)}


def write_report(out: Path, report: Report[Any, Any], shown: Presentation, budget_ms: float | None = None) -> None:
    """Write the files of a search; the budget is drawn where there is one."""
    write_json(out / shown.file, to_json(report, shown))
    write_text(out / TABLE, format_csv(report.trials, shown))
    write_text(out / FRONT, format_markdown(report, shown))
    if report.front:
        write_bytes(out / PICTURE, _draw_trials(report, shown, budget_ms))


def format_csv(trials: Sequence[Trial[Any, Any]], shown: Presentation) -> str:
    """Write a line for each trial."""
    rows = [flatten_trial(trial, shown.score) for trial in trials]
    return format_rows(list(rows[0]), [list(row.values()) for row in rows]) if rows else ""


def format_markdown(report: Report[Any, Any], shown: Presentation) -> str:
    """Write the Pareto front as a table, with the pick's command below it."""
    lines = [list(shown.columns), ["---"] * len(shown.columns), *list_front(report, shown)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return table + (f"\n\n* the pick; {shown.command_does} with:\n\n    {report.command}\n" if report.command else "\n")


def list_front(report: Report[Any, Any], shown: Presentation) -> list[list[str]]:
    """List the cells of the Pareto front, a row for each trial; the pick has a star."""
    rows = []
    for trial in report.front:
        number, *cells = [form.format(trial) for form in shown.columns.values()]
        rows.append([f"{number} *" if trial == report.pick else number, *cells])
    return rows


def list_outcomes(report: Report[Any, Any], shown: Presentation) -> list[str]:
    """Say which trials failed, and count the trials by their state."""
    failed = [trial for trial in report.trials if trial.state == FAILED]
    said = [f"Trial {trial.number} ({shown.description.format(trial)}) failed: {trial.sentence}" for trial in failed]
    return [*said, ", ".join(f"{count_state(report.trials, state)} {state}" for state in (FINISHED, FAILED, RUNNING))]


def _draw_trials(report: Report[Any, Any], shown: Presentation, budget_ms: float | None) -> bytes:
    """Draw validation Dice against work or time."""
    finished = [trial for trial in report.trials if trial.score is not None]
    largest = max(_read(trial, "bytes") for trial in finished) if shown.file_bytes else 0
    label = f"{shown.x_label}; largest area: {largest / 1e3:,.0f} kB" if shown.file_bytes else shown.x_label

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        if budget_ms is not None:
            axes.axvline(budget_ms, color=INK, linestyle=":", linewidth=1, label=f"budget, {budget_ms:g} ms")
        if len(shown.objectives) == 2:  # with a third objective the front is no line in this plane
            axes.step(*_list_places(report.front, shown), where="post", color=SOFT, zorder=0)
        # the front after the others and the pick last, so that what matters is drawn on top
        for group, colour in COLOURS.items():
            if members := [trial for trial in finished if _name_group(trial, report) == group]:
                areas = [LARGEST_AREA * _read(trial, "bytes") / largest if largest else POINT_AREA for trial in members]
                axes.scatter(*_list_places(members, shown), areas, colour, alpha=0.7, linewidths=0, label=group)
        for trial, x, y in zip(report.front, *_list_places(report.front, shown), strict=True):
            colour = COLOURS[_name_group(trial, report)]
            axes.annotate(trial.choice.name, (x, y), (6, -11), color=colour, fontsize=8, textcoords="offset points")
        axes.set(xlabel=label, ylabel="validation Dice", xscale=shown.x_scale)
        axes.xaxis.set_major_formatter("{x:g}")
        if shown.x_scale == "log":  # plain numbers between the powers of ten, too; by default they are 3 x 10^2
            axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
        axes.margins(x=0.2, y=0.15)
        axes.legend(frameon=False, loc="best")

    return draw_png(paint)


def _name_group(trial: Trial[Any, Any], report: Report[Any, Any]) -> str:
    if trial == report.pick:
        return "pick"
    return "Pareto front" if trial in report.front else "other trials"


def _list_places(trials: Sequence[Trial[Any, Any]], shown: Presentation) -> tuple[list[float], list[float]]:
    return [_read(trial, shown.x) for trial in trials], [_read(trial, "validation_dice") for trial in trials]


def _read(trial: Trial[Any, Any], field: str) -> float:
    return float(getattr(trial.score, field))
