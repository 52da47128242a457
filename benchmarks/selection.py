"""Do selected images teach more than random ones? Rounds of labelling, with the masks that are there already.

    python benchmarks/selection.py DATA OUT [--folds 1 2 3] [--start 40] [--add 40] [--rounds 3] [--steps 600]

A fold is one repetition: its test cases, other first images, other first weights. A network learns from the first
images; then both ways add as many images of the others, and the same training begins anew:

- random: the next ones of a random order;
- selected: those that `edgeseg data select` would give, with the newest network of this way;
- doubtful, where --ways asks for it: the ones that it doubts most, alike or not;
- spread, likewise: selected as if it doubted all alike.

Validation cases are few, and the same for all. Every case is judged by the networks of the fold that tests on it, so
that differences are paired by case. The same command goes on with what was interrupted; more --folds add to it. The
results of every data set lie in a folder of OUT with its name; OUT/selection.md and the picture beside it show all.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from few_labels import find_folds, link_labelled
from fold_figures import Figures, Judged, measure_figures
from folds import judge_fold
from matplotlib.figure import Figure
from trained import show_estimate, train_once, write_results

from edgeseg.core.files import staged_folder, write_json
from edgeseg.core.schema import from_plain, to_plain
from edgeseg.core.stats import Estimate
from edgeseg.data.dataset import Dataset, open_dataset, read_cases
from edgeseg.data.reading import Case
from edgeseg.data.split import Split
from edgeseg.inference.ensemble import open_segmenter
from edgeseg.inference.segmenter import Segmenter
from edgeseg.prediction.selection import Candidate, FrameLook, FramePool, look_at, measure_doubt, rank_frames

FOLDS, SIZE, BATCH = 5, 128, 8
MODEL, CHOSEN, CASES, COURSE = "model.tflite", "chosen.json", "cases.json", "course.json"
RANDOM, SELECTED, DOUBTFUL, SPREAD = "random", "selected", "doubtful", "spread"
COLOURS = {RANDOM: "#767676", SELECTED: "#0060a8", DOUBTFUL: "#c05000", SPREAD: "#2e8b57"}
NUMBERS = ("start", "add", "rounds", "steps", "validation")
HEADER = ("data", "labelled", "way", "Dice", "against random, same cases", "marked on empty cases", "each fold")


@dataclass(frozen=True)
class Course:
    """How all ways are trained."""

    data: Path
    out: Path
    start: int
    add: int
    rounds: int
    steps: int
    validation: int

    @property
    def counts(self) -> list[int]:
        """List the numbers of labelled images of all rounds."""
        return [self.start + number * self.add for number in range(self.rounds + 1)]

    def list_options(self, labelled: int, fold: int) -> list[str]:
        """List the options of a training: as many steps for every number of images."""
        epochs = max(1, round(self.steps / math.ceil(labelled / BATCH)))
        return ["--size", str(SIZE), "--batch", str(BATCH), "--epochs", str(epochs), "--seed", str(fold)]

    def place(self, fold: int, way: str, labelled: int) -> Path:
        """Name the folder of a training; the first one is that of all ways."""
        return self.out / f"fold-{fold}" / ("start" if labelled == self.start else f"{way}-{labelled}")


@dataclass(frozen=True)
class Fold:
    """The cases of one repetition."""

    number: int
    dataset: Dataset
    pool: tuple[Case, ...]
    """In a random order; the first ones are labelled first."""
    validation: tuple[Case, ...]
    test: tuple[Case, ...]


def open_fold(course: Course, number: int) -> Fold:
    """Divide the cases: test cases of the fold, few validation cases by group, and the pool."""
    split = find_folds(course.data, FOLDS)[number - 1]
    random = np.random.default_rng(number)
    validation: list[Case] = []
    groups = sorted({case.group for case in split.validation})
    for place in random.permutation(len(groups)):
        if len(validation) >= course.validation:
            break
        validation += [case for case in split.validation if case.group == groups[place]]
    taken = {case.stem for case in validation}
    others = [case for case in (*split.train, *split.validation) if case.stem not in taken]
    pool = tuple(others[place] for place in random.permutation(len(others)))
    return Fold(number, open_dataset(course.data), pool, tuple(validation), split.test)


def run_way(course: Course, fold: Fold, way: str) -> None:
    """Run all rounds of one way, or go on with them."""
    labelled = list(fold.pool[: course.start])
    for count in course.counts:
        place = course.place(fold.number, way, count)
        if count > course.start:
            before = course.place(fold.number, way, count - course.add)
            labelled += choose_cases(course, fold, way, labelled, before, place / CHOSEN)
        train_round(course, fold, labelled, place)


def train_round(course: Course, fold: Fold, labelled: Sequence[Case], place: Path) -> None:
    """Train on the labelled cases, and judge the test cases."""
    data, run = place / "data", place / "run"
    if not data.is_dir():
        with staged_folder(data) as folder:
            link_labelled(
                replace(fold.dataset, cases=(*labelled, *fold.validation, *fold.test)),
                folder,
                Split(tuple(labelled), fold.validation, fold.test),
            )
    train_once(data, run, course.list_options(len(labelled), fold.number))
    if not (place / CASES).is_file():
        write_json(place / CASES, {"cases": to_plain(judge_fold([run / MODEL], data))})


def choose_cases(
    course: Course, fold: Fold, way: str, labelled: Sequence[Case], before: Path, kept: Path
) -> list[Case]:
    """Choose the cases of the next round, or read what was chosen."""
    known = {case.stem for case in labelled}
    others = [case for case in fold.pool if case.stem not in known]
    if not kept.is_file():
        stems = [case.stem for case in others[: course.add]]
        if way != RANDOM:
            stems = select_cases(before / "run" / MODEL, others, labelled, course.add, way)
        write_json(kept, {"chosen": stems})
    stems = json.loads(kept.read_text(encoding="utf-8"))["chosen"]
    by_stem = {case.stem: case for case in others}
    return [by_stem[stem] for stem in stems]


def select_cases(model: Path, others: Sequence[Case], labelled: Sequence[Case], count: int, way: str) -> list[str]:
    """Select cases without looking at their masks."""
    segmenter = open_segmenter(model)
    pool, random = FramePool(), np.random.default_rng(len(labelled))
    for image in read_cases(others, segmenter.card.input.in_colour):
        result = segmenter.segment(image.frame)
        # doubts as small as these all weigh the same
        doubt = 1e-4 * random.random() if way == SPREAD else measure_doubt(segmenter, result)
        look = look_at(image.frame, segmenter.card)
        pool.add(Candidate(image.case.stem, 0, image.case.group, doubt, look, result.distance))
    candidates = pool.list_candidates()
    if way == DOUBTFUL:
        ranked = sorted(candidates, key=lambda one: -one.doubt)[:count]
    else:
        ranked = rank_frames(candidates, count, list(list_looks(segmenter, labelled)))
    unlike = sum(one.unlike for one in candidates)
    print(f"selected {len(ranked)} of {len(candidates)}, {unlike} of these unlike the training frames", flush=True)
    return [one.name for one in ranked]


def list_looks(segmenter: Segmenter, cases: Sequence[Case]) -> Iterable[FrameLook]:
    """Describe how labelled images look."""
    for image in read_cases(cases, segmenter.card.input.in_colour):
        yield look_at(image.frame, segmenter.card)


def find_finished(course: Course, ways: Sequence[str]) -> dict[str, list[int]]:
    """Find the folds that every way has finished."""
    finished = {}
    for way in ways:
        places = [
            (fold, [course.place(fold, way, count) / CASES for count in course.counts]) for fold in range(1, FOLDS + 1)
        ]
        finished[way] = [fold for fold, files in places if all(file.is_file() for file in files)]
    return finished


def measure(course: Course, way: str, count: int, folds: Sequence[int]) -> Figures:
    """Measure a way with that many labelled images, over the cases of several folds."""
    return measure_figures([[case for fold in folds for case in read_judged(course, way, count, fold)]])


def read_judged(course: Course, way: str, count: int, fold: int) -> list[Judged]:
    """Read how the test cases of a fold were judged."""
    text = (course.place(fold, way, count) / CASES).read_text(encoding="utf-8")
    return [from_plain(Judged, row) for row in json.loads(text)["cases"]]


def average_rounds(course: Course, way: str, folds: Sequence[int]) -> Figures:
    """Average the Dice of every case over the rounds in which the ways differ."""
    rounds = [measure(course, way, count, folds) for count in course.counts[1:]]
    known = {
        name: [figures.statistics[name] for figures in rounds]
        for name in ("dice", "marked_empty")
        if all(name in figures.statistics for figures in rounds)
    }
    averaged = {name: _average(several) for name, several in known.items()}
    return replace(rounds[0], statistics=averaged)


def _average(statistics: Sequence[Any]) -> Any:
    return lambda weights: float(np.mean([statistic(weights) for statistic in statistics]))


def list_rows(course: Course, finished: dict[str, list[int]]) -> list[list[str]]:
    """List the rows of the table: each number of images and the mean of all rounds, by way."""
    rows = []
    for count in (*course.counts, None):
        for way, folds in finished.items():
            if not folds or (count == course.start and way != RANDOM):
                continue
            ours = average_rounds(course, way, folds) if count is None else measure(course, way, count, folds)
            theirs = average_rounds(course, RANDOM, folds) if count is None else measure(course, RANDOM, count, folds)
            figures, against = ours.estimate(), {} if way == RANDOM else ours.compare(theirs)
            name = "mean of the rounds" if count is None else str(count)
            each = [] if count is None else [f"{_fold_dice(course, way, count, fold):.3f}" for fold in folds]
            cells = [course.data.name, name, "all" if count == course.start else way, _show(figures.get("dice"))]
            empty = _show(figures.get("marked_empty"), digits=2)
            rows.append([*cells, _show(against.get("dice"), signed=True), empty, ", ".join(each)])
    return rows


def _fold_dice(course: Course, way: str, count: int, fold: int) -> float:
    return measure(course, way, count, [fold]).estimate()["dice"].mean


def _show(estimate: Estimate | None, signed: bool = False, digits: int = 3) -> str:
    if estimate is None:
        return ""
    return ("+" if signed and estimate.mean >= 0 else "") + show_estimate(estimate, digits)


def draw_curves(drawn: Sequence[tuple[Course, dict[str, list[int]]]], path: Path) -> None:
    """Draw the Dice against the number of labelled images: every fold thin, their mean thick."""
    figure = Figure(figsize=(5.6 * len(drawn), 4.2), layout="constrained")
    for axes, (course, finished) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        for way, folds in finished.items():
            for fold in folds:
                line = [_fold_dice(course, way, count, fold) for count in course.counts]
                axes.plot(course.counts, line, color=COLOURS[way], linewidth=0.8, alpha=0.4)
            if folds:
                line = [measure(course, way, count, folds).estimate()["dice"].mean for count in course.counts]
                name = f"{way}, {len(folds)} folds"
                axes.plot(course.counts, line, color=COLOURS[way], linewidth=2.4, marker="o", label=name)
        axes.set(xlabel="labelled images", title=course.data.name, xticks=course.counts)
        axes.set_ylabel("Dice of the test cases")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def keep_course(course: Course) -> None:
    """Note how all is trained, and refuse another way in the same folder."""
    path = course.out / COURSE
    ours = {name: getattr(course, name) for name in NUMBERS}
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else ours
    if known != ours:
        raise SystemExit(f"expected the course of {path}, {known}, got {ours}; name another folder")
    write_json(path, ours)


def read_courses(out: Path) -> list[Course]:
    """Read the courses of all data sets."""
    found = sorted(out.glob(f"*/{COURSE}"))
    known = [json.loads(path.read_text(encoding="utf-8")) for path in found]
    return [
        Course(Path(path.parent.name), path.parent, *(numbers[name] for name in NUMBERS))
        for path, numbers in zip(found, known, strict=True)
    ]


def write_all(out: Path) -> None:
    """Write the table and the picture of what is finished."""
    rows, drawn = [], []
    for course in read_courses(out):
        finished = find_finished(course, list(COLOURS))
        known = set(finished[RANDOM])
        finished = {way: [fold for fold in folds if fold in known] for way, folds in finished.items()}
        if known:
            rows += list_rows(course, finished)
            drawn.append((course, finished))
    if not rows:
        return
    sizes = [
        f"- {course.data.name}: about {course.steps} steps for every training, {course.validation} validation images"
        for course, _ in drawn
    ]
    notes = (
        "# Selected or random images",
        "",
        "    python benchmarks/selection.py DATA OUT",
        "",
        f"{SIZE}x{SIZE}, batches of {BATCH}. A fold has its own test cases, first images and first weights, and every",
        "case is judged by its fold. Differences are paired by case, in brackets 95% intervals over groups: one that",
        "holds zero says that these cases cannot tell.",
        "",
        *sizes,
        "",
        "![Dice against the number of labelled images](selection.png)",
    )
    write_results(out, "selection", notes, HEADER, rows)
    draw_curves(drawn, out / "selection.png")


def main() -> None:
    """Run the rounds of every fold and way, and write the table after each fold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--folds", type=int, nargs="+", choices=range(1, FOLDS + 1), default=[1, 2, 3])
    parser.add_argument("--ways", nargs="+", choices=list(COLOURS), default=[RANDOM, SELECTED])
    parser.add_argument("--start", type=int, default=40, help="labelled images of the first training")
    parser.add_argument("--add", type=int, default=40, help="images that every round adds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600, help="of every training")
    parser.add_argument("--validation", type=int, default=40, help="validation images, about")
    chosen = parser.parse_args()
    data, out = chosen.data.resolve(), chosen.out.resolve()
    course = Course(data, out / data.name, chosen.start, chosen.add, chosen.rounds, chosen.steps, chosen.validation)
    keep_course(course)
    for number in chosen.folds:
        fold = open_fold(course, number)
        for way in chosen.ways:
            run_way(course, fold, way)
        write_all(out)


if __name__ == "__main__":
    main()
