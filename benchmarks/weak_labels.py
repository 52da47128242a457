r"""What do boxes, points and scribbles cost against full masks? The same images and test cases, case by case.

    python benchmarks/weak_labels.py DATA OUT [--fold 1 2 3 4 5] [--model micro] [--size 128] [--epochs 25]

Every arm is trained with `edgeseg train` on the training cases of a fold by group, whose masks it sees in part only;
validation and test cases have their full masks in all arms:

- masks: full masks;
- filled: the boxes around the regions of the masks, filled and taken for masks, as many do without another way;
- ellipses: the ellipses inside these boxes, taken for masks;
- boxes, points, scribbles: --labels boxes, points, scribbles;
- mixed: --labels boxes, and every fifth training group keeps its full masks;
- few: those full masks alone, which is what the boxes of `mixed` are to be worth more than.

Trained runs are not trained again, and an interrupted training goes on; one training runs at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from few_labels import choose_labelled, find_folds, link_labelled
from numpy.typing import NDArray
from trained import score_run, show_estimate, train_once, write_results

from edgeseg.core.files import staged_folder
from edgeseg.core.stats import Estimate, estimate_mean, show_interval
from edgeseg.data.dataset import open_dataset, view_case
from edgeseg.data.split import Split
from edgeseg.data.weak_labels import fill_regions, find_regions
from edgeseg.evaluation.score import ScoredCase
from edgeseg.frame.images import read_image, write_image

FOLDS, FULL_SHARE = 5, 0.2
Mask = NDArray[np.uint8]
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
HEADER = ("labels", "cases", "Dice", "against masks, same cases", "Dice below 0.5", "minutes")


def fill_ellipses(mask: Mask) -> Mask:
    """Fill the ellipses inside the boxes around the regions of a mask."""
    filled = np.zeros_like(mask)
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    for left, top, right, bottom in find_regions(mask):
        across = (2 * columns - left - right) / (right - left)
        down = (2 * rows - top - bottom) / (bottom - top)
        filled |= (across**2 + down**2 <= 1).astype(np.uint8)
    return filled


REPLACED: dict[str, Callable[[Mask], Mask]] = {"filled": fill_regions, "ellipses": fill_ellipses}


def make_folder(root: Path, out: Path, split: Split, how: str) -> Path:
    """Make the data folder of a fold and an arm, or take what stands there."""
    if out.is_dir():
        return out
    dataset = open_dataset(root)
    left_out: frozenset[str] = frozenset()
    if how == "few":
        empty = {case.stem: not view_case(case).labels.any() for case in split.train}
        kept = choose_labelled(split.train, empty, FULL_SHARE, 0)
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


def train_arm(data: Path, out: Path, arm: str, number: int, split: Split, course: Sequence[str]) -> tuple[Path, float]:
    """Train an arm on a fold, or take the finished run; returns its folder and the minutes it took."""
    options, how = ARMS[arm]
    folder = make_folder(data, out / "data" / f"{how}-{number}", split, how)
    record = train_once(folder, out / arm / f"fold-{number}", [*course, *options])
    return folder, record["timing"]["seconds"] / 60


def compare(ours: dict[str, ScoredCase], first: dict[str, ScoredCase]) -> Estimate:
    """Estimate the mean difference of Dice, paired by case, over groups."""
    stems = [stem for stem, case in first.items() if not case.empty]
    differences = [ours[stem].mean("dice") - first[stem].mean("dice") for stem in stems]
    return estimate_mean(differences, [first[stem].group for stem in stems])


def describe_arm(arm: str, scored: dict[str, dict[str, ScoredCase]], minutes: float) -> list[str]:
    """Describe an arm in a row of the table."""
    filled = [case for case in scored[arm].values() if not case.empty]
    groups = [case.group for case in filled]
    dice = [case.mean("dice") for case in filled]
    against = ""
    if arm != FIRST and FIRST in scored:
        found = compare(scored[arm], scored[FIRST])
        against = f"{found.mean:+.3f} ({show_interval(found.ci95, '+.3f')})"
    missed = estimate_mean([float(value < 0.5) for value in dice], groups)
    row = [arm, str(len(filled)), show_estimate(estimate_mean(dice, groups)), against, show_estimate(missed, 2)]
    return [*row, f"{minutes:.0f}"]


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
    chosen = parser.parse_args()
    data, out = chosen.data.resolve(), chosen.out.resolve()
    course = [w for name in ("model", "size", "epochs", "batch") for w in (f"--{name}", str(getattr(chosen, name)))]
    splits = find_folds(data, FOLDS)
    scored: dict[str, dict[str, ScoredCase]] = {arm: {} for arm in chosen.arms}
    minutes = dict.fromkeys(chosen.arms, 0.0)
    for number in chosen.fold:
        for arm in chosen.arms:
            own = course
            if arm == "few":
                # as many steps with fewer images
                epochs = round(chosen.epochs / FULL_SHARE)
                own = [
                    str(epochs) if before == "--epochs" else w for before, w in zip(["", *course], course, strict=False)
                ]
            folder, took = train_arm(data, out, arm, number, splits[number - 1], own)
            minutes[arm] += took
            for case in score_run(out / arm / f"fold-{number}", folder):
                scored[arm][case.stem] = case
    folds = ", ".join(map(str, chosen.fold))
    notes = (
        "# Weak labels against full masks",
        "",
        f"    python benchmarks/weak_labels.py DATA OUT --fold {' '.join(map(str, chosen.fold))} {' '.join(course)}",
        "",
        f"`{data.name}`, fold {folds} of {FOLDS} by group; float32 files. All arms see the same training images, and",
        "are validated and tested on full masks. filled: boxes taken for masks. ellipses: the ellipses in them taken",
        "for masks. mixed: boxes, and a fifth of the training groups with full masks; few: that fifth alone, for as",
        "many steps. In brackets 95% intervals over groups; differences are paired by case.",
    )
    rows = [describe_arm(arm, scored, minutes[arm]) for arm in chosen.arms]
    write_results(out, f"weak-labels-{data.name}", notes, HEADER, rows)


if __name__ == "__main__":
    main()
