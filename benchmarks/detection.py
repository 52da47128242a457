"""Single findings: FROC and average precision, counting, splitting, numbers over frames, and milliseconds.

    python benchmarks/detection.py OUT [--folds DATA FOLDS] [--int8 FILE ...] [--masks FOLDER ...] [--model MODEL]
        [--images N] [--clips N] [--frames N]

FOLDS is a finished `train --folds` on DATA: every image is judged by the network that has not seen its group. FOLDER of
--masks holds masks that people drew, in which each region is one structure: how often is one cut? MODEL segments
phantoms. Everything else is drawn: phantoms with 0 to 5 lesions, apart and touching, as images and as clips; their
exact masks are taken as a perfect network's, and spoiled in known ways. Writes OUT/detection.md and .json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from trained import describe_place, show_estimate

from edgeseg.core.decision import FOUND
from edgeseg.core.files import write_json
from edgeseg.core.modelfile import read_model
from edgeseg.core.schema import to_plain
from edgeseg.core.spec import ClassSpec
from edgeseg.core.stats import Estimate
from edgeseg.data.dataset import read_cases
from edgeseg.evaluation.detection import DetectionFigures, IdentityJudge, measure_detection
from edgeseg.evaluation.out_of_fold import pick_judged
from edgeseg.evaluation.score import pick_cases, score_segmentation
from edgeseg.frame.images import list_images, read_image
from edgeseg.inference.ensemble import open_segmenter
from edgeseg.inference.following import Follower
from edgeseg.inference.instances import NECK, find_instances, list_regions, split_region
from edgeseg.inference.segmenter import Segmenter
from edgeseg.phantom import PhantomClip

COMMAND = "python benchmarks/detection.py OUT --folds DATA FOLDS --int8 FILE... --masks FOLDER... --model MODEL"
SEED, FPS, COUNTS = 53, 30.0, range(6)
LESION = (ClassSpec("lesion", (255, 176, 0)),)
NECKS = (0.45, 0.55, 0.65, 0.75, 0.85)
# Regions of fewer pixels are specks of a pen.
LEAST_PIXELS = 100
TIMED = 100
Labels = NDArray[np.uint8]


def judge_folds(data: Path, folds: Path) -> DetectionFigures | None:
    """Judge every image by the network that has not seen its group."""
    segmenter = open_segmenter(folds, "cpu", 1, True)
    scored = []
    for image in read_cases(pick_judged(segmenter, data).cases, segmenter.card.input.in_colour):
        judge = segmenter.for_case(image.case.stem)
        scored.append(score_segmentation(judge.segment(image.frame), image, judge.card))
    return measure_detection([one.detections for one in scored], [one.group for one in scored])


def judge_fold_files(data: Path, files: Sequence[Path]) -> DetectionFigures | None:
    """Judge with one file of each fold, such as its int8 file."""
    scored = []
    for path in files:
        segmenter = Segmenter(read_model(path))
        cases = pick_cases(segmenter.card, data, "test").cases
        images = read_cases(cases, segmenter.card.input.in_colour)
        scored += [score_segmentation(segmenter.segment(one.frame), one, segmenter.card) for one in images]
    return measure_detection([one.detections for one in scored], [one.group for one in scored])


def measure_cuts(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Count which regions that people drew as one are cut, by the neck."""
    rows = []
    for folder in folders:
        regions = []
        for path in list_images(folder):
            mask = np.asarray(read_image(path, False) > 0, np.uint8)
            regions += [one for one, _ in list_regions(mask, splits=False)[0] if one.sum() >= LEAST_PIXELS]
        cut = {str(neck): sum(len(split_region(one, neck)) > 1 for one in regions) for neck in NECKS}
        rows.append({"masks": f"{folder.parent.name}/{folder.name}", "regions": len(regions), "cut": cut})
    return rows


def measure_pairs(images: int) -> dict[str, float]:
    """Say which share of touching pairs is split into exactly two, by the neck."""
    pairs = []
    for index in range(images):
        numbers = PhantomClip(SEED, index, lesions=2, touching=True).frame(0).numbers
        regions = list_regions(np.asarray(numbers > 0, np.uint8), splits=False)[0]
        if numbers.max() == 2 and len(regions) == 1:
            pairs.append(regions[0][0])
    split = {str(neck): float(np.mean([len(split_region(one, neck)) == 2 for one in pairs])) for neck in NECKS}
    return split | {"pairs": len(pairs)}


def count_phantoms(images: int, model: Segmenter | None) -> list[dict[str, Any]]:
    """Count lesions in images with 0 to 5: with the exact masks, joined into one, and with a network."""
    rows = []
    for touching in (False, True):
        for count in COUNTS[2 * touching :]:
            errors: dict[str, list[int]] = {"exact masks": [], "exact masks, unsplit": [], "network": []}
            for index in range(images):
                frame = PhantomClip(SEED, index, lesions=count, touching=touching).frame(0)
                there = int(np.unique(frame.numbers).size) - 1
                mask = np.asarray(frame.numbers > 0, np.uint8)
                for name, splits in (("exact masks", True), ("exact masks, unsplit", False)):
                    errors[name].append(len(find_instances(mask, LESION, splits=splits).instances) - there)
                if model is not None:
                    seen = model.segment(frame.image)
                    name = model.card.output.classes[0].name
                    found = sum(one.state == FOUND and one.name == name for one in seen.instances)
                    errors["network"].append(found - there)
            rows.append(
                {"lesions": count, "touching": touching}
                | {
                    name: {"mean_absolute": float(np.mean(np.abs(own))), "exact": float(np.mean(np.array(own) == 0))}
                    for name, own in errors.items()
                    if own
                }
            )
    return rows


def keep(truth: Labels, rng: np.random.Generator) -> Labels:  # noqa: ARG001 - all spoilers are called alike
    """Leave masks as they are."""
    return np.asarray(truth > 0, np.uint8)


def drop(truth: Labels, rng: np.random.Generator) -> Labels:
    """Lose each lesion in one frame of ten."""
    lost = [number for number in range(1, int(truth.max()) + 1) if rng.random() < 0.1]
    return np.asarray((truth > 0) & ~np.isin(truth, lost), np.uint8)


def drop_frames(truth: Labels, rng: np.random.Generator) -> Labels:
    """Lose all lesions in one frame of ten."""
    return np.zeros_like(truth) if rng.random() < 0.1 else keep(truth, rng)


def punch(truth: Labels, rng: np.random.Generator) -> Labels:
    """Make holes, which may cut lesions apart."""
    mask = keep(truth, rng)
    points = np.argwhere(mask)
    for y, x in points[rng.integers(0, len(points), 6)].tolist() if len(points) else ():
        cv2.circle(mask, (x, y), int(rng.integers(2, 6)), 0, cv2.FILLED)
    return mask


def shake(truth: Labels, rng: np.random.Generator) -> Labels:
    """Move each lesion by up to 4 pixels and let it grow or shrink by up to 2."""
    mask = np.zeros_like(truth)
    for number in range(1, int(truth.max()) + 1):
        own = np.asarray(truth == number, np.uint8)
        shift = np.array([[1, 0, rng.integers(-4, 5)], [0, 1, rng.integers(-4, 5)]], np.float32)
        own = np.asarray(cv2.warpAffine(own, shift, own.shape[::-1], flags=cv2.INTER_NEAREST), np.uint8)
        size = int(rng.integers(-2, 3))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(size) + 1, 2 * abs(size) + 1))
        mask |= np.asarray(cv2.dilate(own, kernel) if size > 0 else cv2.erode(own, kernel), np.uint8)
    return mask


SPOILERS: dict[str, Callable[[Labels, np.random.Generator], Labels]] = {
    "exact": keep,
    "each lesion lost in 10% of the frames": drop,
    "all lost in 10% of the frames": drop_frames,
    "6 holes in every frame": punch,
    "shifted by up to 4 px, 2 px larger or smaller": shake,
}


def follow_clips(clips: int, frames: int) -> list[dict[str, Any]]:
    """Follow lesions over clips with exact and spoiled masks."""
    truths = [(list(_draw(index, touching, frames)), touching) for touching in (False, True) for index in range(clips)]
    rows = []
    for touching in (False, True):
        for name, spoil in SPOILERS.items():
            rng = np.random.default_rng(SEED)
            told = []
            for truth, own in truths:
                if own != touching:
                    continue
                follower, judge = Follower(), IdentityJudge()
                for number, labels in enumerate(truth):
                    seen = find_instances(spoil(labels, rng), LESION)
                    size = labels.shape[0], labels.shape[1]
                    judge.take(labels, follower.follow(seen, number / FPS, size).instances)
                told.append(judge.report())
            covered = [one.covered for one in told if one.covered is not None]
            rows.append(
                {
                    "masks": name,
                    "touching": touching,
                    "clips": len(told),
                    "frames": frames,
                    "lesions": sum(one.truths for one in told),
                    "numbers": sum(one.numbers for one in told),
                    "switches": sum(one.switches for one in told),
                    "covered": float(np.mean(covered)),
                }
            )
    return rows


def _draw(index: int, touching: bool, frames: int) -> Iterator[Labels]:
    clip = PhantomClip(SEED, index, fps=FPS, lesions=2 + index % 4, touching=touching)
    for number in range(frames):
        yield clip.frame(number).numbers


def time_masks() -> dict[str, float]:
    """Time finding and following on masks of 640x480, one thread; medians in milliseconds."""
    cv2.setNumThreads(1)
    blank = np.zeros((480, 640), np.uint8)
    masks = {"nothing": blank}
    for count in (1, 3, 5):
        mask = blank.copy()
        for place in range(count):
            cv2.ellipse(mask, (90 + 115 * place, 120 + 60 * place), (50, 35), 20 * place, 0, 360, 1, cv2.FILLED)
        masks[f"{count} apart"] = mask
    pair = blank.copy()
    for x in (200, 318):
        cv2.circle(pair, (x, 200), 60, 1, cv2.FILLED)
    masks["2 touching"] = pair
    masks["all of the frame"] = np.ones_like(blank)
    specks = blank.copy()
    specks[np.random.default_rng(0).integers(0, 480, 12000), np.random.default_rng(1).integers(0, 640, 12000)] = 1
    masks["10,000 specks"] = specks
    return {name: _time(mask) for name, mask in masks.items()}


def _time(mask: Labels) -> float:
    follower, times = Follower(), []
    for number in range(TIMED):
        began = perf_counter()
        follower.follow(find_instances(mask, LESION), number / FPS, (480, 640))
        times.append(1e3 * (perf_counter() - began))
    return round(float(np.median(times)), 3)


def show(estimate: Estimate | None) -> str:
    """Show an estimate."""
    return "n/a" if estimate is None else show_estimate(estimate, 3)


def write_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Write a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return ["", *(f"| {' | '.join(map(str, line))} |" for line in lines), ""]


def describe_detection(found: dict[str, DetectionFigures]) -> list[str]:
    """Describe FROC and average precision."""
    lines = ["## Lesions of real images, every image judged by the network that has not seen its group"]
    names = ("sensitivity", "false_positives", "average_precision_50", "average_precision", "count_error")
    names += ("count_exact",)
    head = ("files", "true, marked", "hit", "false positives per image", "AP at IoU 0.5", "AP at 0.5 to 0.95")
    head += ("counting error", "counted exactly")
    rows = [
        [name, f"{one.truths}, {one.findings}", *(show(getattr(one, key)) for key in names)]
        for name, one in found.items()
    ]
    lines += write_table(head, rows)
    lines.append("Sensitivity by false positives per image (FROC), whatever the operating point:")
    rates = (0.05, 0.1, 0.2, 0.3, 0.5)
    curve = [[name, *(_read_curve(one, rate) for rate in rates)] for name, one in found.items()]
    return lines + write_table(("files", *map(str, rates)), curve)


def _read_curve(figures: DetectionFigures, rate: float) -> str:
    return f"{max((one.sensitivity for one in figures.froc if one.false_positives <= rate), default=0.0):.3f}"


def main() -> None:
    """Measure everything and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--folds", nargs=2, type=Path, metavar=("DATA", "FOLDS"))
    parser.add_argument("--int8", nargs="+", type=Path, default=[], metavar="FILE", help="of each fold, in order")
    parser.add_argument("--masks", nargs="+", type=Path, default=[])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=90)
    chosen = parser.parse_args()
    found: dict[str, DetectionFigures] = {}
    if chosen.folds is not None:
        data, folds = chosen.folds
        judged = {"float32": judge_folds(data, folds)}
        if chosen.int8:
            judged["int8"] = judge_fold_files(data, chosen.int8)
        found = {name: one for name, one in judged.items() if one is not None}
    print("judged", flush=True)
    model = None if chosen.model is None else Segmenter(read_model(chosen.model))
    cuts, pairs = measure_cuts(chosen.masks), measure_pairs(3 * chosen.images)
    print("split", flush=True)
    counts = count_phantoms(chosen.images, model)
    print("counted", flush=True)
    followed, times = follow_clips(chosen.clips, chosen.frames), time_masks()
    lines = [
        "# Single findings",
        "",
        f"Measured on {describe_place()}.",
        "",
        f"    {COMMAND}",
        "",
    ]
    if found:
        lines += describe_detection(found)
    lines.append(f"## Splitting: what is cut, by the widest neck that is (chosen: {NECK})")
    lines += write_table(
        ("regions", *map(str, NECKS)),
        [
            *([f"{one['masks']}, drawn as one: cut of {one['regions']}", *one["cut"].values()] for one in cuts),
            [
                f"touching pairs of phantoms, split into two: of {pairs['pairs']:.0f}",
                *(f"{pairs[str(neck)]:.0%}" for neck in NECKS),
            ],
        ],
    )
    lines.append(f"## Counting: {chosen.images} phantoms each, mean absolute error and share counted exactly")
    names = ("exact masks", "exact masks, unsplit", "network")
    lines += write_table(
        ("lesions", *(name for name in names if name in counts[0])),
        [
            [
                f"{one['lesions']}{', touching' if one['touching'] else ''}",
                *(f"{one[n]['mean_absolute']:.2f}, {one[n]['exact']:.0%}" for n in names if n in one),
            ]
            for one in counts
        ],
    )
    lines.append(f"## Numbers over frames: clips of {chosen.frames} frames with 2 to 5 lesions")
    lines += write_table(
        ("masks", "clips", "lesions", "numbers given", "switches", "frames with a number"),
        [
            [
                f"{one['masks']}{', touching' if one['touching'] else ''}",
                *(one["clips"], one["lesions"], one["numbers"], one["switches"], f"{one['covered']:.1%}"),
            ]
            for one in followed
        ],
    )
    lines.append("## Milliseconds per frame, 640x480, one thread: finding, measuring and following")
    lines += write_table(list(times), [[f"{value:.2f}" for value in times.values()]])
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "detection.md").write_text("\n".join(lines), encoding="utf-8")
    write_json(
        chosen.out / "detection.json",
        {
            "measured": describe_place(),
            "detection": to_plain(found),
            "splitting": {"neck": NECK, "cut": cuts, "pairs": pairs},
            "counting": counts,
            "following": followed,
            "milliseconds": times,
        },
    )


if __name__ == "__main__":
    main()
