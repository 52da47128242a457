r"""What does a second modality add, and where should two be merged? Phantoms with elastography, the same test cases.

    python benchmarks/modalities.py OUT [--cases 200] [--seeds 0 1] [--model micro] [--size 128] [--epochs 25]

Of the lesions 40% are isoechoic (elastography alone shows them), 30% soft (B-mode alone shows them), the others are
seen in both. Arms: the first modality alone, the second alone, both as channels of one encoder (early), and a first
stage for each (late). The files of early and late are judged again with one modality blanked, as when a source fails.

All test cases are of another seed than the training cases. Dice is averaged over the seeds of training for each case;
differences are paired by case. Trained runs are not trained again, and an interrupted training goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from trained import show_estimate, train_once, write_results

from edgeseg.core.files import staged_folder
from edgeseg.core.modelfile import read_model
from edgeseg.core.stats import Estimate, estimate_mean, show_interval
from edgeseg.data.dataset import LabelledImage, open_dataset, read_cases
from edgeseg.evaluation.score import ScoredCase, score_cases
from edgeseg.inference.segmenter import Segmenter
from edgeseg.phantom.second import ELASTOGRAPHY, find_appearance
from edgeseg.phantom.synthesis import SynthOptions, write_phantom_set

FIRST = "bmode"
TRAIN_SEED, TEST_SEED = 11, 12
ARMS: dict[str, tuple[str, ...]] = {
    FIRST: ("--modalities", FIRST),
    ELASTOGRAPHY: ("--modalities", ELASTOGRAPHY),
    "early": ("--fusion", "early"),
    "late": ("--fusion", "late"),
}
FUSED, APPEARANCES = ("early", "late"), ("plain", "isoechoic", "soft")
HEADER = ("arm", "Dice", f"against {FIRST}", "against early", *APPEARANCES, "kB", "ms")
TIMED = 40
Dice = dict[str, float]


def make_phantoms(folder: Path, cases: int, size: int, seed: int) -> Path:
    """Write a set of phantoms, or take the one that stands there."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        print(f"rendering {cases} phantoms", flush=True)
        with staged_folder(folder) as out:
            options = SynthOptions(cases, seed, (size, size), clips=0, second=ELASTOGRAPHY)
            write_phantom_set(out, options)
    return folder


def read_blanked(data: Path, path: Path, blanked: str) -> Iterator[LabelledImage]:
    """Read the test cases as a model takes them, with one modality black."""
    spec = read_model(path).card.input
    for image in read_cases(open_dataset(data).cases, spec):
        if blanked:
            frame = image.frame.copy()
            frame[:, :, spec.modalities.index(blanked)] = 0
            yield dataclasses.replace(image, frame=frame)
        else:
            yield image


def judge(data: Path, path: Path, blanked: str = "") -> Dice:
    """Give the Dice of every test case with a lesion."""
    scored: Sequence[ScoredCase] = score_cases(Segmenter(read_model(path)), read_blanked(data, path, blanked))
    return {case.stem: case.mean("dice") for case in scored if not case.empty}


def average(each: Sequence[Dice]) -> Dice:
    """Average the Dice of every case over the seeds of training."""
    return {stem: float(np.mean([dice[stem] for dice in each])) for stem in each[0]}


def estimate(dice: Dice, stems: Sequence[str] | None = None) -> Estimate:
    """Estimate the mean over cases; every phantom is a group of its own."""
    chosen = list(dice) if stems is None else list(stems)
    return estimate_mean([dice[stem] for stem in chosen], chosen)


def compare(dice: Dice, other: Dice) -> str:
    """Show the difference to another arm, paired by case."""
    found = estimate({stem: dice[stem] - other[stem] for stem in dice})
    return f"{found.mean:+.3f} ({show_interval(found.ci95, '+.3f')})"


def measure_times(files: dict[str, Path]) -> dict[str, float]:
    """Time the network of every file, in turn, on one thread: milliseconds at the median."""
    networks = {name: Segmenter(read_model(path)) for name, path in files.items()}
    taken: dict[str, list[float]] = {name: [] for name in files}
    blanks = {
        name: np.zeros((one.card.input.height, one.card.input.width, one.card.input.channels), np.uint8)
        for name, one in networks.items()
    }
    for name, network in networks.items():
        network.segment(blanks[name])
    for _ in range(TIMED):
        for name, network in networks.items():
            taken[name].append(network.segment(blanks[name]).times.invoke)
    return {name: float(np.median(times)) for name, times in taken.items()}


def main() -> None:
    """Render, train and judge all arms, and write one table of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", type=int, default=200, help="training and validation cases; as many are tested")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--model", default="micro")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--batch", type=int, default=8)
    chosen = parser.parse_args()
    out = chosen.out.resolve()
    data = make_phantoms(out / f"data-{chosen.cases}", chosen.cases, chosen.size, TRAIN_SEED)
    tested = make_phantoms(out / f"test-{chosen.cases}", chosen.cases, chosen.size, TEST_SEED)
    course = [
        word for name in ("model", "size", "epochs", "batch") for word in (f"--{name}", str(getattr(chosen, name)))
    ]
    runs = {arm: [out / arm / f"seed-{seed}" for seed in chosen.seeds] for arm in ARMS}
    # the arms of one seed before the next seed: an interrupted benchmark has whole comparisons
    for number, seed in enumerate(chosen.seeds):
        for arm, options in ARMS.items():
            train_once(data, runs[arm][number], [*options, *course, "--seed", str(seed)])
    files = {arm: [run / "model.tflite" for run in folders] for arm, folders in runs.items()}
    found: dict[str, Dice] = {arm: average([judge(tested, path) for path in paths]) for arm, paths in files.items()}
    for arm in FUSED:
        for blanked in (FIRST, ELASTOGRAPHY):
            found[f"{arm}, {blanked} black"] = average([judge(tested, path, blanked) for path in files[arm]])
    times = measure_times({arm: paths[0] for arm, paths in files.items()})
    rows = [make_row(name, found, files, times) for name in found]
    stems = list(found[FIRST])
    counts = ", ".join(f"{count(stems, kind)} {kind}" for kind in APPEARANCES)
    words = f"--cases {chosen.cases} --seeds {' '.join(map(str, chosen.seeds))} {' '.join(course)}"
    notes = (
        "# A second modality, and where two are merged",
        "",
        f"    python benchmarks/modalities.py OUT {words}",
        "",
        f"Phantoms of B-mode and elastography, {chosen.cases} to train on and {len(stems)} other ones with a lesion to",
        f"test on: {counts}. An isoechoic lesion is not in the B-mode, a soft one not in the elastogram.",
        f"Float32 files; Dice of a case is the mean of {len(chosen.seeds)} seeds. In brackets 95% intervals",
        "over cases; differences are paired by case. Black: that modality was blanked in the test images of the same",
        "files. ms: the network on one thread, all files in turn.",
    )
    write_results(out, "modalities", notes, HEADER, rows)


def count(stems: Sequence[str], kind: str) -> int:
    """Count the cases whose lesion looks so."""
    return len(pick(stems, kind))


def pick(stems: Sequence[str], kind: str) -> list[str]:
    """Pick the cases whose lesion looks so; the number of a case is at the end of its name."""
    return [stem for stem in stems if find_appearance(TEST_SEED, int(stem.rsplit("_", 1)[-1])) == kind]


def make_row(name: str, found: dict[str, Dice], files: dict[str, list[Path]], times: dict[str, float]) -> list[str]:
    """Make the row of one arm."""
    dice = found[name]
    parts = [f"{estimate(dice, pick(list(dice), kind)).mean:.3f}" for kind in APPEARANCES]
    own = [f"{files[name][0].stat().st_size / 1000:,.0f}", f"{times[name]:.2f}"] if name in files else ["", ""]
    against = ["" if name == other else compare(dice, found[other]) for other in (FIRST, "early")]
    return [name, show_estimate(estimate(dice)), *against, *parts, *own]


if __name__ == "__main__":
    main()
