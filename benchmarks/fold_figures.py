"""What folds.py reads off the cases of a recipe: means and rankings, and their differences to another recipe.

All intervals are of a bootstrap over groups. Several seeds of a recipe are averaged, for every case or every figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.decision import FOUND
from edgeseg.core.stats import FEWEST_GROUPS, Estimate, estimate_any

# A Dice below this is a gross miss.
MISSED = 0.5
# Of a ranking; each takes a sort of all cases.
RESAMPLES = 1000
Numbers = NDArray[np.float64]
Values = Mapping[str, tuple[str, float]]


@dataclass(frozen=True)
class Judged:
    """One class of one case, judged by the network of the fold that has not seen its group."""

    stem: str
    group: str
    name: str
    """Of the class."""
    present: bool
    marked: bool
    dice: float | None = None
    """None where the truth does not have the class."""
    state: str = ""
    """found, doubtful or nothing; empty where the file says nothing of it."""
    confidence: float | None = None
    """Of the mask; None where nothing is marked or no confidence is measured."""
    probability: float | None = None
    """Of the class's presence; None without a finding output."""


Seeds = Sequence[Sequence[Judged]]


def dice_of(row: Judged) -> float | None:
    """Give the Dice of a class that is present."""
    return row.dice


def found_of(row: Judged) -> float | None:
    """Say of a class that is present whether it is found, at least in part at its true place."""
    return float(row.state == FOUND and (row.dice or 0.0) > 0.0) if row.present else None


def alarm_of(row: Judged) -> float | None:
    """Say of a class that is not present whether it is found."""
    return None if row.present else float(row.state == FOUND)


def shown_dice_of(row: Judged) -> float | None:
    """Give the Dice of a class that is present and found."""
    return row.dice if row.state == FOUND else None


def list_values(seeds: Seeds) -> dict[str, Values]:
    """List for every figure that is a mean each case's group and value."""
    rows = [row for seed in seeds for row in seed]
    values: dict[str, Values] = {
        "dice": average_cases(rows, dice_of),
        "missed": _average_seeds([_find_misses(seed) for seed in seeds]),
        "marked_empty": _average_seeds([_find_marked(seed) for seed in seeds]),
    }
    if all(row.state for row in rows):
        values |= {
            "sensitivity": average_cases(rows, found_of),
            "false_alarm_rate": average_cases(rows, alarm_of),
            "dice_shown": average_cases(rows, shown_dice_of),
        }
    return values


def average_cases(rows: Iterable[Judged], value: Callable[[Judged], float | None]) -> Values:
    """Average a value over the classes and seeds of every case that has it."""
    values: dict[str, list[float]] = {}
    groups: dict[str, str] = {}
    for row in rows:
        found = value(row)
        if found is not None:
            values.setdefault(row.stem, []).append(found)
            groups[row.stem] = row.group
    return {stem: (groups[stem], float(np.mean(found))) for stem, found in values.items()}


def _find_misses(seed: Sequence[Judged]) -> Values:
    """Say of every case that shows something whether it is a gross miss."""
    return {stem: (group, float(dice < MISSED)) for stem, (group, dice) in average_cases(seed, dice_of).items()}


def _find_marked(seed: Sequence[Judged]) -> Values:
    """Say of every case that shows nothing whether anything is marked."""
    showing = {row.stem for row in seed if row.present}
    shares = average_cases([row for row in seed if row.stem not in showing], lambda row: float(row.marked))
    return {stem: (group, float(share > 0.0)) for stem, (group, share) in shares.items()}


def _average_seeds(seeds: Sequence[Values]) -> Values:
    first = seeds[0]
    return {stem: (group, float(np.mean([seed[stem][1] for seed in seeds]))) for stem, (group, _) in first.items()}


def estimate(values: Values) -> Estimate | None:
    """Estimate a mean over cases."""
    return estimate_any([value for _, value in values.values()], [group for group, _ in values.values()])


@dataclass(frozen=True)
class Ranked:
    """What rankings are made of: an entry for every class of every case. What is not measured or marked is 0."""

    groups: NDArray[np.intp]
    present: NDArray[np.bool_]
    dice: Numbers
    confidence: Numbers
    probability: Numbers

    def take(self, index: NDArray[np.intp]) -> Ranked:
        """Take entries, some of them several times."""
        return Ranked(*(values[index] for values in vars(self).values()))


def rank_cases(rows: Sequence[Judged]) -> Ranked:
    """Put the cases of one seed into arrays."""

    def fill(values: Iterable[float | None]) -> Numbers:
        return np.array([0.0 if value is None else value for value in values], dtype=np.float64)

    return Ranked(
        np.unique([row.group for row in rows], return_inverse=True)[1],
        np.array([row.present for row in rows]),
        fill(row.dice for row in rows),
        fill(row.confidence for row in rows),
        fill(row.probability for row in rows),
    )


def count_false_alarms(cases: Ranked, share: float) -> float:
    """Compute the share of false alarms at the highest threshold that finds so many of the classes that are present."""
    present, absent = cases.confidence[cases.present], cases.confidence[~cases.present]
    hit = np.sort(present[cases.dice[cases.present] > 0.0])[::-1]
    wanted = math.ceil(share * len(present))
    if not len(absent) or not len(hit):
        return math.nan
    # fewer hits than wanted: no threshold finds so many, and every mask is shown
    threshold = hit[wanted - 1] if wanted <= len(hit) else 0.0
    return float(np.mean((absent >= threshold) & (absent > 0.0)))


def average_surest(cases: Ranked, share: float) -> float:
    """Average the Dice of so many of the classes that are present: those with the highest confidence."""
    dice, confidence = cases.dice[cases.present], cases.confidence[cases.present]
    order = np.argsort(-confidence, kind="stable")
    return float(dice[order[: max(1, round(share * len(order)))]].mean())


def correlate_ranks(cases: Ranked) -> float:
    """Compute Spearman's rank correlation of confidence and Dice where the class is present."""
    one, other = rank(cases.confidence[cases.present]), rank(cases.dice[cases.present])
    return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else math.nan


def measure_auc(cases: Ranked, values: Callable[[Ranked], Numbers]) -> float:
    """Compute the area under the ROC curve: how often a present class has the higher value (Mann and Whitney 1947)."""
    ranks, count = rank(values(cases)), int(cases.present.sum())
    others = len(ranks) - count
    if not count or not others:
        return math.nan
    return float((ranks[cases.present].sum() - count * (count + 1) / 2) / (count * others))


def rank(values: Numbers) -> Numbers:
    """Rank values from 1; equal ones share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse], dtype=np.float64)


_OF_CONFIDENCE: dict[str, Callable[[Ranked], float]] = {
    "false_alarms_at_80": partial(count_false_alarms, share=0.8),
    "false_alarms_at_90": partial(count_false_alarms, share=0.9),
    "dice_at_80": partial(average_surest, share=0.8),
    "rank_correlation": correlate_ranks,
    "auc_confidence": partial(measure_auc, values=lambda cases: cases.confidence),
}
_OF_PROBABILITY: dict[str, Callable[[Ranked], float]] = {
    "auc_finding": partial(measure_auc, values=lambda cases: cases.probability),
}


def draw_rankings(seeds: Seeds) -> dict[str, Numbers]:
    """Compute every ranking: first of all cases, then of resampled groups, the same draws for every recipe."""
    rows = [row for seed in seeds for row in seed]
    chosen = dict(_OF_CONFIDENCE) if any(row.confidence is not None for row in rows) else {}
    chosen |= _OF_PROBABILITY if any(row.probability is not None for row in rows) else {}
    if not chosen:
        return {}
    ranked = [rank_cases(seed) for seed in seeds]
    draws = [None, *_draw_groups(ranked[0].groups)]
    return {
        name: np.array([_average_draw(statistic, ranked, draw) for draw in draws]) for name, statistic in chosen.items()
    }


def _draw_groups(groups: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    members = [np.flatnonzero(groups == number) for number in range(groups.max() + 1)]
    if len(members) < FEWEST_GROUPS:
        return []
    random = np.random.default_rng(0)
    draws = random.integers(0, len(members), size=(RESAMPLES, len(members)))
    return [np.concatenate([members[number] for number in draw]) for draw in draws]


def _average_draw(
    statistic: Callable[[Ranked], float], seeds: Sequence[Ranked], draw: NDArray[np.intp] | None
) -> float:
    return float(np.mean([statistic(cases if draw is None else cases.take(draw)) for cases in seeds]))


def _to_estimate(draws: Numbers) -> Estimate | None:
    value, resampled = float(draws[0]), draws[1:]
    if math.isnan(value):
        return None
    low, high = (float(end) for end in np.nanpercentile(resampled, [2.5, 97.5])) if len(resampled) else (value, value)
    return Estimate(round(value, 5), round(value, 5), (round(low, 5), round(high, 5)) if len(resampled) else None)


@dataclass(frozen=True)
class Figures:
    """All figures of one recipe, and what differences are made of."""

    values: Mapping[str, Values]
    draws: Mapping[str, Numbers]

    def estimate(self) -> dict[str, Estimate | None]:
        """Estimate every figure."""
        means = {name: estimate(values) for name, values in self.values.items()}
        return means | {name: _to_estimate(draws) for name, draws in self.draws.items()}

    def compare(self, first: Figures) -> dict[str, Estimate | None]:
        """Estimate the differences to another recipe on the same cases; above 0 is more than the other."""
        means = {
            name: estimate(
                {
                    stem: (group, value - first.values[name][stem][1])
                    for stem, (group, value) in values.items()
                    if stem in first.values[name]
                }
            )
            for name, values in self.values.items()
            # Dice shown is of other cases in every recipe
            if name in first.values and name != "dice_shown"
        }
        ranked = {
            name: _to_estimate(draws - first.draws[name])
            for name, draws in self.draws.items()
            if name in first.draws and len(first.draws[name]) == len(draws)
        }
        return means | ranked


def measure_figures(seeds: Seeds) -> Figures:
    """Measure a recipe whose seeds have all judged the same cases."""
    return Figures(list_values(seeds), draw_rankings(seeds))
