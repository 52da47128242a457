r"""What do boxes, points and scribbles cost against full masks? The same images and test cases, case by case.

    python benchmarks/weak_labels.py DATA OUT [--fold 1 2 3 4 5] [--arms masks boxes ...] [--epochs 25] [--estimate]

Every arm is trained with `edgeseg train` on the training cases of a fold by group, whose masks it sees in part only;
validation and test cases have their full masks in all arms:

- masks: full masks;
- filled: the boxes around the regions of the masks, filled and taken for masks, as many do without another way;
- ellipses: the ellipses inside these boxes, taken for masks;
- boxes, points, scribbles: --labels boxes, points, scribbles;
- mixed: --labels boxes, and every fourth training group keeps its full masks;
- few: those full masks alone, which is what the boxes of `mixed` are to be worth more than.

The second column compares what `filled` and `ellipses` learn from with the masks of the test cases, without a network.

Trained runs are not trained again, and an interrupted training goes on; one training runs at a time. Before each, and
with --estimate alone, the minutes that the others will take are estimated from those that stand in OUT.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from few_labels import find_folds, link_labelled
from numpy.typing import NDArray
from trained import score_run, show_estimate, train_once, write_results

from edgeseg.core.files import staged_folder
from edgeseg.core.stats import Estimate, estimate_mean, show_interval
from edgeseg.data.dataset import open_dataset, view_case
from edgeseg.data.reading import Case
from edgeseg.data.split import Split
from edgeseg.data.weak_labels import draw_ellipses, fill_regions, surround
from edgeseg.evaluation.score import ScoredCase
from edgeseg.frame.images import read_image, write_image
from edgeseg.training.options import LabelChoice
from edgeseg.training.weak_supervision import draw_groups

FOLDS, FULL_SHARE = 5, 0.25
Mask = NDArray[np.uint8]
# A case's group, and the Dice of what stands for its masks.
ScoredLabel = tuple[str, float]
# The options of each arm, and what its training masks are replaced by.
ARMS: dict[str, tuple[tuple[str, ...], str]] = {
    "masks": ((), "linked"),
    "filled": ((), "filled"),
    "ellipses": ((), "ellipses"),
    "boxes": (("--labels", "boxes"), "linked"),
    "points": (("--labels", "points"), "linked"),
    "scribbles": (("--labels", "scribbles"), "linked"),
    "mixed": (("--labels", "boxes", "--full-masks", str(FULL_SHARE)), "linked"),
    "few": ((), "few"),
}
FIRST = "masks"
HEADER = ("labels", "labels against masks", "cases", "Dice", "against masks, same cases", "Dice below 0.5", "minutes")


def fill_ellipses(mask: Mask) -> Mask:
    """Fill the ellipses inside the boxes around the regions of a mask."""
    return draw_ellipses(surround(mask), mask.shape)[0].astype(np.uint8)


REPLACED: dict[str, Callable[[Mask], Mask]] = {"filled": fill_regions, "ellipses": fill_ellipses}


def make_folder(root: Path, out: Path, split: Split, how: str) -> Path:
    """Make the data folder of a fold and an arm, or take what stands there."""
    if out.is_dir():
        return out
    dataset = open_dataset(root)
    left_out: frozenset[str] = frozenset()
    if how == "few":
        shows = {case.group: False for case in split.train}
        for case in split.train:
            shows[case.group] |= bool(view_case(case).labels.any())
        kept = draw_groups(shows, LabelChoice("boxes", FULL_SHARE))
        left_out = frozenset(case.stem for case in split.train if case.group not in kept)
    with staged_folder(out) as folder:
        link_labelled(dataset, folder, split, left_out)
        if how in REPLACED:
            for path in (mask for case in split.train for mask in case.masks):
                linked = folder / path.relative_to(dataset.root)
                linked.unlink()
                mask = (read_image(path) > 0).astype(np.uint8)
                write_image(linked, REPLACED[how](mask) * np.uint8(255))
    return out


def plan_course(chosen: argparse.Namespace, arm: str) -> list[str]:
    """List the options of an arm's training; `few` takes as many steps with fewer images."""
    epochs = round(chosen.epochs / FULL_SHARE) if arm == "few" else chosen.epochs
    course = {"--model": chosen.model, "--size": chosen.size, "--epochs": epochs, "--batch": chosen.batch}
    return [*(str(word) for pair in course.items() for word in pair), *ARMS[arm][0]]


def name_run(chosen: argparse.Namespace, arm: str, number: int) -> Path:
    """Name the folder of a run, by all that its training was asked for."""
    course = f"{chosen.model}-{chosen.size}px-{chosen.epochs}-epochs-of-{chosen.batch}"
    return Path(chosen.out).resolve() / course / arm / f"fold-{number}"


def estimate_minutes(chosen: argparse.Namespace) -> str:
    """Say how many trainings are left, and how long they will take if those that stand there are like them."""
    runs = [name_run(chosen, arm, number) for number in chosen.fold for arm in chosen.arms]
    done = [read_minutes(run) for run in runs if (run / "run.json").is_file()]
    left = len(runs) - len(done)
    minutes = f", about {left * np.mean(done):.0f} minutes" if done else ""
    return f"{len(done)} of {len(runs)} trainings are there, {left} are left{minutes}."


def read_minutes(run: Path) -> float:
    """Read how long a finished run took."""
    return float(json.loads((run / "run.json").read_text(encoding="utf-8"))["timing"]["seconds"] / 60)


def measure_labels(cases: Iterable[Case], how: str) -> dict[str, ScoredLabel]:
    """Compare what stands for masks with the masks themselves, by case; without those in which nothing is marked."""
    found = {}
    for case in cases:
        masks = [mask for mask in ((read_image(path) > 0).astype(np.uint8) for path in case.masks) if mask.any()]
        if masks:
            found[case.stem] = case.group, float(np.mean([measure_dice(REPLACED[how](mask), mask) for mask in masks]))
    return found


def measure_dice(first: Mask, second: Mask) -> float:
    """Measure the Dice of two masks of which one is not empty."""
    return float(2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second)))


def compare(ours: dict[str, ScoredCase], first: dict[str, ScoredCase]) -> Estimate:
    """Estimate the mean difference of Dice, paired by case, over groups."""
    stems = [stem for stem, case in first.items() if not case.empty]
    differences = [ours[stem].mean("dice") - first[stem].mean("dice") for stem in stems]
    return estimate_mean(differences, [first[stem].group for stem in stems])


def describe_arm(
    arm: str, scored: dict[str, dict[str, ScoredCase]], labels: dict[str, ScoredLabel], minutes: float
) -> list[str]:
    """Describe an arm in a row of the table."""
    filled = [case for case in scored[arm].values() if not case.empty]
    groups = [case.group for case in filled]
    dice = [case.mean("dice") for case in filled]
    against = ""
    if arm != FIRST and FIRST in scored:
        found = compare(scored[arm], scored[FIRST])
        against = f"{found.mean:+.3f} ({show_interval(found.ci95, '+.3f')})"
    drawn = [(value, group) for group, value in labels.values()]
    labelled = show_estimate(estimate_mean(*zip(*drawn, strict=True))) if drawn else ""
    missed = estimate_mean([float(value < 0.5) for value in dice], groups)
    row = [arm, labelled, str(len(filled)), show_estimate(estimate_mean(dice, groups)), against]
    return [*row, show_estimate(missed, 2), f"{minutes:.0f}"]


def main() -> None:
    """Train the arms on every fold that is asked for, and write one table of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fold", type=int, nargs="+", default=[1], choices=range(1, FOLDS + 1))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--model", default="micro")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--estimate", action="store_true", help="train nothing, and say what is left to do")
    chosen = parser.parse_args()
    if chosen.estimate:
        print(estimate_minutes(chosen))
        return
    data, out = chosen.data.resolve(), chosen.out.resolve()
    splits = find_folds(data, FOLDS)
    scored: dict[str, dict[str, ScoredCase]] = {arm: {} for arm in chosen.arms}
    labels: dict[str, dict[str, ScoredLabel]] = {arm: {} for arm in chosen.arms}
    minutes = dict.fromkeys(chosen.arms, 0.0)
    for number in chosen.fold:
        split = splits[number - 1]
        for arm in chosen.arms:
            print(estimate_minutes(chosen), flush=True)
            how, run = ARMS[arm][1], name_run(chosen, arm, number)
            folder = make_folder(data, out / "data" / f"{how}-{number}", split, how)
            train_once(folder, run, plan_course(chosen, arm))
            minutes[arm] += read_minutes(run)
            scored[arm] |= {case.stem: case for case in score_run(run, folder)}
            labels[arm] |= measure_labels(split.test, how) if how in REPLACED else {}
    course = " ".join(f"--{name} {getattr(chosen, name)}" for name in ("model", "size", "epochs", "batch"))
    folds = " ".join(map(str, chosen.fold))
    notes = (
        "# Weak labels against full masks",
        "",
        f"    python benchmarks/weak_labels.py DATA OUT --fold {folds} {course}",
        "",
        f"`{data.name}`, fold {folds} of {FOLDS} by group; float32 files. All arms see the same training images, and",
        "are validated and tested on full masks. filled: boxes taken for masks. ellipses: the ellipses in them taken",
        "for masks; the second column says how well both overlap the masks of the test cases. mixed: boxes, and a",
        "quarter of the training groups with full masks; few: that quarter alone, for as many steps. In brackets 95%",
        "intervals over groups; differences are paired by case.",
    )
    rows = [describe_arm(arm, scored, labels[arm], minutes[arm]) for arm in chosen.arms]
    write_results(out, f"weak-labels-{data.name}", notes, HEADER, rows)


if __name__ == "__main__":
    main()
