"""How near does each method of registration come to a motion that is known, and how long does it take?

    python benchmarks/registration.py OUT [--pairs N] [--data FOLDER] [--learned FILE.tflite] [--train-groups FILE]
        [--run RUN] [--methods NAME...] [--tables]
    python benchmarks/registration.py FOLDER --picture    draws FOLDER/register.png, a phantom pair before and after

Phantom pairs are imaged twice, before and after a known motion, with half of the speckle drawn afresh. Target
registration error in pixels over all points that both images show (median, 95th percentile), share of folding, and
processor time on one thread (median over pairs). FOLDER holds real data sets as edgeseg reads them: cca_carotid (a mask
carried over 3 to 15 frames of its cine), hc18 and busi (an image and a warped copy of itself with other speckle).

A learned network (--learned) is compared with the others on cines that it has not learned from: --train-groups names
the groups that it has, one a line. With --run, the run that it came from, it is also compared on the clips which that
run kept apart. SimpleITK (`pip install -e ".[medical]"`) and itk-elastix (`pip install itk-elastix`) take part
where they are installed.

Finished rows are kept in OUT/registration.partial.json, so an interrupted run goes on; --tables writes the tables of
what is there. Writes OUT/registration.md and .json. Ten minutes on two cores without elastix, twenty more with it.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from time import process_time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from trained import describe_place

from edgeseg.core.files import write_json, write_text
from edgeseg.frame.images import read_image, write_image
from edgeseg.phantom.pairs import LEVELS, draw_deformation, render_pair
from edgeseg.registration.bsplines import fit_bsplines
from edgeseg.registration.deformable import DEFAULT_PASSES, FlowPass, fit_deformable
from edgeseg.registration.displacement import (
    Field,
    find_inside,
    folding_share,
    matrix_to_field,
    no_motion,
    warp_image,
    warp_labels,
)
from edgeseg.registration.flow import DisFlow, smooth
from edgeseg.registration.learned import LearnedRegistration, open_registration
from edgeseg.registration.linear import center, fit_linear, refine
from edgeseg.registration.preparation import prepare
from edgeseg.registration.quality import draw_checkerboard, measure_dice

SEED = 67
SIZE = (256, 256)
Cines = dict[str, list[tuple[int, str]]]
Method = Callable[[NDArray[np.uint8], NDArray[np.uint8]], Field]
# Frames that a mask is carried over, and how many pairs a cine gives for each span.
SPANS = ((3, 5), (6, 10), (11, 15))
PAIRS_OF_A_CINE = 2
REAL_IMAGES = 12
LEARNED = "learned"
# What is compared with a learned network on images that it has not learned from.
BESIDE_LEARNED = ("none", "affine, auto", "DIS (default)", "B-spline (SimpleITK)", "elastix B-spline", LEARNED)
# Of the speckle that a copy is given: its grain in pixels, and its depth.
GRAIN_PX, DEPTH = 1.2, 0.25
POINTS = 11
# Weight of a truth from which on it is known.
KNOWN_WEIGHT = 0.9
# Of the picture: which phantom, and fields along its side.
PICTURED, FIELDS = 401, 6
ELASTIX_KNOTS_PX = 32.0


@dataclass(frozen=True)
class Pair:
    """Two images with the displacement that is right, where `seen` is set."""

    fixed: NDArray[np.uint8]
    moving: NDArray[np.uint8]
    truth: Field
    seen: NDArray[np.bool_]


def run_linear(fixed: NDArray[np.uint8], moving: NDArray[np.uint8], method: str) -> Field:
    """Affine registration as edgeseg does it."""
    one, other = prepare(fixed), prepare(moving)
    return matrix_to_field(fit_linear(one, other, "affine", method).matrix, one.size)


def run_plain_ecc(fixed: NDArray[np.uint8], moving: NDArray[np.uint8]) -> Field:
    """ECC on the pyramid, on images whose gain is not evened out."""
    one, other = (prepare(image) for image in (fixed, moving))
    plain = [type(image)(image.grey, image.valid, *2 * (image.grey / np.float32(40),)) for image in (one, other)]
    return matrix_to_field(refine(plain[0], plain[1], center(one.size, other.size), "affine"), one.size)


def run_dis(fixed: NDArray[np.uint8], moving: NDArray[np.uint8], passes: tuple[FlowPass, ...]) -> Field:
    """The device's deformable path."""
    one, other = prepare(fixed), prepare(moving)
    return fit_deformable(one, other, fit_linear(one, other, "affine", "coarse").matrix, passes)


def run_plain_dis(fixed: NDArray[np.uint8], moving: NDArray[np.uint8], preset: str) -> Field:
    """DIS on the images as they are, smoothed."""
    return smooth(DisFlow(preset).find(fixed, moving), 4.0)


def run_bspline(fixed: NDArray[np.uint8], moving: NDArray[np.uint8]) -> Field:
    """B-splines through SimpleITK."""
    one, other = prepare(fixed), prepare(moving)
    return fit_bsplines(one, other, fit_linear(one, other).matrix).field


def run_elastix(fixed: NDArray[np.uint8], moving: NDArray[np.uint8], maps: Sequence[str]) -> Field:
    """Elastix with its own default parameters."""
    import itk

    parameters = itk.ParameterObject.New()
    for name in maps:
        more = (4, ELASTIX_KNOTS_PX) if name == "bspline" else (4,)
        parameters.AddParameterMap(parameters.GetDefaultParameterMap(name, *more))
    one, other = (itk.image_view_from_array(image.astype(np.float32)) for image in (fixed, moving))
    _, found = itk.elastix_registration_method(one, other, parameter_object=parameters, number_of_threads=1)
    return np.ascontiguousarray(np.asarray(itk.transformix_deformation_field(one, found))[..., :2], dtype=np.float32)


def run_learned(fixed: NDArray[np.uint8], moving: NDArray[np.uint8], file: str) -> Field:
    """A network that was trained by `edgeseg train --task register`."""
    return open_once(file)(fixed, moving)


@lru_cache(maxsize=1)
def open_once(file: str) -> LearnedRegistration:
    """Open a registering file; what that takes is no part of a registration."""
    return open_registration(Path(file))


def list_methods(learned: str | None) -> dict[str, dict[str, Method]]:
    """The methods for affine and for deformable motion."""
    linear: dict[str, Method] = {
        "none": lambda fixed, _: no_motion(SIZE if fixed is None else (fixed.shape[0], fixed.shape[1])),
        "ECC, gain as it is": run_plain_ecc,
        "ECC": partial(run_linear, method="ecc"),
        "features (ORB)": partial(run_linear, method="features"),
        "fit to flow": partial(run_linear, method="coarse"),
        "affine, auto": partial(run_linear, method="auto"),
    }
    deformable: dict[str, Method] = {
        "none": linear["none"],
        "affine, auto": linear["affine, auto"],
        "DIS fast, gain as it is": partial(run_plain_dis, preset="fast"),
        "DIS medium, gain as it is": partial(run_plain_dis, preset="medium"),
        "DIS, one pass": partial(run_dis, passes=(FlowPass("fast", 2, 10.0),)),
        "DIS (default)": partial(run_dis, passes=DEFAULT_PASSES),
        "DIS, full resolution": partial(run_dis, passes=(*DEFAULT_PASSES, FlowPass("fast", 0, 8.0, both_ways=True))),
    }
    if find_spec("SimpleITK") is not None:
        deformable["B-spline (SimpleITK)"] = run_bspline
    if find_spec("itk") is not None:
        linear["elastix affine"] = partial(run_elastix, maps=("affine",))
        deformable["elastix B-spline"] = partial(run_elastix, maps=("affine", "bspline"))
    if learned is not None:
        deformable[LEARNED] = partial(run_learned, file=learned)
    return {"affine": linear, "deformable": deformable}


def render_pairs(motion: Any, level: int, count: int) -> Iterator[Pair]:
    """Phantom pairs of one level."""
    for index in range(count):
        pair = render_pair(SEED, 100 * level + index, SIZE, motion, level)
        yield Pair(pair.fixed.image, pair.moving.image, pair.displacement, pair.seen)


def warp_copies(folder: Path, count: int) -> Iterator[Pair]:
    """Real images, each with a copy of itself that was warped and given other speckle."""
    files = sorted((folder / "images").glob("*.png"))
    for number, path in enumerate(files[:: max(1, len(files) // count)][:count]):
        image = read_image(path)
        size = image.shape[0], image.shape[1]
        rng = np.random.default_rng([SEED, number])
        field = draw_deformation(rng, size, 8.0 * max(size) / 256, 64.0 * max(size) / 256)
        # the copy is the fixed image, so that the field that made it is the right one
        fixed, moving = (_add_speckle(part, rng) for part in (warp_image(image, field, None), image))
        yield Pair(fixed, moving, field, find_inside(field, size))


def _add_speckle(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    grain = cv2.GaussianBlur(rng.standard_normal(image.shape).astype(np.float32), (0, 0), GRAIN_PX)
    factor = 1 + DEPTH * grain / grain.std()
    return np.asarray(np.clip(image * factor, 0, 255), dtype=np.uint8)


def measure(method: Method, pairs: Iterator[Pair] | list[Pair]) -> dict[str, float]:
    """Measure a method on pairs."""
    errors, seconds, folds = [], [], []
    for pair in pairs:
        started = process_time()
        field = method(pair.fixed, pair.moving)
        seconds.append(process_time() - started)
        wrong = (field - pair.truth)[pair.seen][::POINTS]
        errors.append(np.hypot(wrong[:, 0], wrong[:, 1]))
        folds.append(folding_share(field))
    pooled = np.concatenate(errors)
    return {
        "median_px": round(float(np.median(pooled)), 3),
        "p95_px": round(float(np.percentile(pooled, 95)), 3),
        "worst_pair_px": round(max(float(np.median(one)) for one in errors), 3),
        "folding_percent": round(100 * float(np.mean(folds)), 4),
        "ms": round(1e3 * float(np.median(seconds)), 2),
    }


def read_cines(folder: Path) -> Cines:
    """Read the frames of every cine, as number and stem."""
    with (folder / "groups.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["group"], int(row["slice"])))
    return {
        group: [(int(row["slice"]), row["stem"]) for row in cine]
        for group, cine in groupby(rows, key=lambda row: row["group"])
    }


def read_held(folder: Path, list_of_groups: Path) -> Cines:
    """Read the cines that are not on a list of groups; a name that no cine has would be a slip."""
    cines, learned = read_cines(folder), list_of_groups.read_text(encoding="utf-8").split()
    unknown = sorted(set(learned) - set(cines))
    if unknown:
        raise SystemExit(f"expected names of groups of {folder} in {list_of_groups}, got {', '.join(unknown[:3])}")
    return {group: frames for group, frames in cines.items() if group not in learned}


def list_spans(frames: list[tuple[int, str]], span: tuple[int, int]) -> list[tuple[str, str]]:
    """List some pairs of frames of one cine that are so many frames apart."""
    found = [
        (first[1], second[1])
        for number, first in enumerate(frames)
        for second in frames[number + 1 :]
        if span[0] <= second[0] - first[0] <= span[1]
    ]
    return found[:: max(1, len(found) // PAIRS_OF_A_CINE)][:PAIRS_OF_A_CINE]


def carry_masks(method: Method, folder: Path, cines: Cines, span: tuple[int, int]) -> dict[str, float]:
    """Carry the mask of one frame to a later one, and compare it with that frame's own."""
    scores, seconds, groups = [], [], []
    for group, frames in cines.items():
        for first, second in list_spans(frames, span):
            moving, fixed = (read_image(folder / "images" / f"{stem}.png") for stem in (first, second))
            mask, truth = (read_image(folder / "masks" / f"{stem}.png") for stem in (first, second))
            started = process_time()
            field = method(fixed, moving)
            seconds.append(process_time() - started)
            scores.append(measure_dice(truth, warp_labels(mask, field)) or 0.0)
            groups.append(group)
    return {
        "pairs": len(scores),
        "cines": len(set(groups)),
        "dice": round(float(np.mean(scores)), 4),
        "p10": round(float(np.percentile(scores, 10)), 4),
        "ms": round(1e3 * float(np.median(seconds)), 2),
    }


def measure_kept_clips(method: Method, run: Path) -> dict[str, float]:
    """Measure a method on the pairs that validated a registering run: deformed frames of clips that were kept apart."""
    from edgeseg.core.stats import estimate_mean

    pairs = open_pairs(run)
    means, errors, seconds, clips = [], [], [], []
    for inputs, truth, clip in zip(pairs.inputs, pairs.truths, pairs.clip, strict=True):
        fixed, moving = (np.ascontiguousarray(inputs[..., channel]) for channel in (0, 1))
        started = process_time()
        field = method(fixed, moving)
        seconds.append(process_time() - started)
        known = truth[..., 2] > KNOWN_WEIGHT
        if known.any():
            small = np.asarray(cv2.resize(field, truth.shape[1::-1], interpolation=cv2.INTER_AREA))
            errors.append(np.hypot(*np.moveaxis(small - truth[..., :2], -1, 0))[known])
            means.append(float(errors[-1].mean()))
            clips.append(clip)
    found, pooled = estimate_mean(means, clips), np.concatenate(errors)
    low, high = found.ci95 or (found.mean, found.mean)
    return {
        "clips": len(set(clips)),
        "mean_px": round(found.mean, 3),
        "low_px": round(low, 3),
        "high_px": round(high, 3),
        "median_px": round(float(np.median(pooled)), 3),
        "p95_px": round(float(np.percentile(pooled, 95)), 3),
        "ms": round(1e3 * float(np.median(seconds)), 2),
    }


@lru_cache(maxsize=1)
def open_pairs(run: Path) -> Any:
    """Read the clips of a run again; this needs the packages of training."""
    from edgeseg.training.registration import read_registering_run, reopen_pairs

    return reopen_pairs(run, read_registering_run(run))[1]


class Kept:
    """Rows that are measured already, kept on disk."""

    def __init__(self, path: Path, pairs: int) -> None:
        self._path, self._pairs = path, pairs
        kept: Any = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"pairs": pairs, "rows": {}}
        if kept.get("pairs") != pairs:
            raise SystemExit(f"expected --pairs {kept.get('pairs')} as {path} was begun with, or an empty folder")
        self.rows: dict[str, dict[str, float]] = kept["rows"]

    def get(self, key: str, make: Callable[[], dict[str, float]]) -> None:
        """Measure a row if it is not there."""
        if key not in self.rows:
            self.rows[key] = make()
            print(key, self.rows[key], flush=True)
            write_json(self._path, {"pairs": self._pairs, "rows": self.rows})


Methods = dict[str, dict[str, Method]]


def measure_phantoms(kept: Kept, methods: Methods, pairs: int) -> None:
    """Measure whatever is missing on phantoms."""
    for motion, chosen in methods.items():
        for level in LEVELS:
            missing = [name for name in chosen if f"{motion}/{level}/{name}" not in kept.rows]
            rendered = list(render_pairs(motion, level, pairs)) if missing else []
            for name in missing:
                kept.get(f"{motion}/{level}/{name}", partial(measure, chosen[name], rendered))


def measure_real(kept: Kept, methods: Methods, data: Path, train_groups: Path | None) -> None:
    """Measure the deformable methods on real images."""
    carotid = data / "cca_carotid"
    places: dict[str, Cines] = {"carotid": read_cines(carotid)}
    if train_groups is not None:
        places["held"] = read_held(carotid, train_groups)
    for name, method in methods["deformable"].items():
        for place, cines in places.items():
            # a learned network knows the other cines, and the rest is measured on them all
            if name in BESIDE_LEARNED if place == "held" else name != LEARNED:
                for span in SPANS:
                    kept.get(f"{place}/{span[1]}/{name}", partial(carry_masks, method, carotid, cines, span))
        for folder in ("hc18", "busi"):
            kept.get(
                f"copies/{folder}/{name}",
                lambda method=method, folder=folder: measure(method, warp_copies(data / folder, REAL_IMAGES)),  # type: ignore[misc]
            )


def measure_run(kept: Kept, methods: Methods, run: Path) -> None:
    """Measure what stands beside a learned network on the clips that its run kept apart."""
    for name, method in methods["deformable"].items():
        if name in BESIDE_LEARNED:
            kept.get(f"kept/{name}", partial(measure_kept_clips, method, run))


def build_tables(rows: dict[str, dict[str, float]], methods: Methods) -> list[str]:
    """Lay the rows out as Markdown tables; what was not measured is a dash."""
    lines: list[str] = []
    for motion, chosen in methods.items():
        lines += build_phantom_table(rows, motion, list(chosen))
    return lines + build_real_table(rows, list(methods["deformable"])) + build_learned_tables(rows)


def build_phantom_table(rows: dict[str, dict[str, float]], motion: str, names: list[str]) -> list[str]:
    """The errors on phantoms, by level."""
    lines = [f"## Phantom pairs, {motion} motion: error in px, median (95%)", ""]
    lines += ["| method | " + " | ".join(f"level {level}" for level in LEVELS) + " | folding | ms |"]
    lines += ["|---|" + "---|" * (len(LEVELS) + 2)]
    for name in names:
        keys = [f"{motion}/{level}/{name}" for level in LEVELS]
        found = [rows[key] for key in keys if key in rows]
        if found:
            folding, spent = max(one["folding_percent"] for one in found), np.median([one["ms"] for one in found])
            cells = " | ".join(_show_error(rows.get(key)) for key in keys)
            lines += [f"| {name} | {cells} | {folding:.3f}% | {spent:.1f} |"]
    return [*lines, ""]


def build_real_table(rows: dict[str, dict[str, float]], names: list[str]) -> list[str]:
    """What the methods do on real images."""
    if not any(key.startswith(("carotid/", "copies/")) for key in rows):
        return []
    lines = ["## Real images", "", "Dice of a carotid mask carried over N frames; error in px on warped copies.", ""]
    lines += ["| method | " + " | ".join(f"{low} to {high} frames" for low, high in SPANS) + " | HC18 | BUSI | ms |"]
    lines += ["|---|" + "---|" * (len(SPANS) + 3)]
    for name in names:
        carried = [rows.get(f"carotid/{high}/{name}") for _, high in SPANS]
        copies = [rows.get(f"copies/{folder}/{name}") for folder in ("hc18", "busi")]
        cells = [_show_dice(one) for one in carried] + [_show_error(one) for one in copies]
        lines += [f"| {name} | {' | '.join(cells)} | {_show_ms(carried[0])} |"]
    return [*lines, ""]


def build_learned_tables(rows: dict[str, dict[str, float]]) -> list[str]:
    """A learned network and the others, on images that it has not learned from."""
    lines: list[str] = []
    held = [name for name in BESIDE_LEARNED if any(f"held/{high}/{name}" in rows for _, high in SPANS)]
    if held:
        cines = max(int(row["cines"]) for key, row in rows.items() if key.startswith("held/"))
        lines += [f"## Carotid cines that the network has not learned from ({cines}): Dice of a carried mask", ""]
        lines += ["| method | " + " | ".join(f"{low} to {high} frames" for low, high in SPANS) + " | ms |"]
        lines += ["|---|" + "---|" * (len(SPANS) + 1)]
        for name in held:
            found = [rows.get(f"held/{high}/{name}") for _, high in SPANS]
            lines += [f"| {name} | {' | '.join(_show_dice(one) for one in found)} | {_show_ms(found[0])} |"]
        lines += [""]
    kept = [name for name in BESIDE_LEARNED if f"kept/{name}" in rows]
    if kept:
        clips = int(rows[f"kept/{kept[0]}"]["clips"])
        lines += [f"## Deformed frames of {clips} clips that were kept apart: error in px of a grid of the network", ""]
        lines += ["| method | mean (95% interval) | median (95%) | ms |", "|---|---|---|---|"]
        for name in kept:
            row = rows[f"kept/{name}"]
            mean = f"{row['mean_px']:.2f} ({row['low_px']:.2f} to {row['high_px']:.2f})"
            lines += [f"| {name} | {mean} | {_show_error(row)} | {row['ms']:.1f} |"]
        lines += [""]
    return lines


def _show_error(row: dict[str, float] | None) -> str:
    return "-" if row is None else f"{row['median_px']:.2f} ({row['p95_px']:.1f})"


def _show_dice(row: dict[str, float] | None) -> str:
    return "-" if row is None else f"{row['dice']:.3f}"


def _show_ms(row: dict[str, float] | None) -> str:
    return "-" if row is None else f"{row['ms']:.1f}"


def draw_picture(path: Path) -> None:
    """Draw a phantom pair as checkerboards, before and after deformable registration."""
    pair = render_pair(SEED, PICTURED, SIZE, "deformable", max(LEVELS))
    fixed, moving = pair.fixed.image, pair.moving.image
    moved = np.asarray(warp_image(moving, run_dis(fixed, moving, DEFAULT_PASSES)), dtype=np.uint8)
    gap = np.full((SIZE[0], 8), 255, np.uint8)
    before, after = (draw_checkerboard(fixed, other, FIELDS) for other in (moving, moved))
    write_image(path, np.hstack([before, gap, after]))


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--learned")
    parser.add_argument("--train-groups", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--methods", nargs="*")
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--picture", action="store_true")
    options = parser.parse_args()
    if options.learned is None and (options.train_groups or options.run):
        parser.error("--train-groups and --run go with --learned")
    return options


def choose_methods(options: argparse.Namespace) -> Methods:
    """The methods that were asked for."""
    methods = list_methods(options.learned)
    if options.methods:
        known = {name for chosen in methods.values() for name in chosen}
        if set(options.methods) - known:
            raise SystemExit(f"expected methods of {', '.join(sorted(known))}")
        return {
            motion: {name: one for name, one in chosen.items() if name in options.methods}
            for motion, chosen in methods.items()
        }
    return methods


def main() -> None:
    """Measure, and write the tables."""
    options = read_arguments()
    cv2.setNumThreads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.picture:
        draw_picture(options.out / "register.png")
        return
    methods = choose_methods(options)
    kept = Kept(options.out / "registration.partial.json", options.pairs)
    if not options.tables:
        measure_phantoms(kept, methods, options.pairs)
        if options.data is not None:
            measure_real(kept, methods, options.data, options.train_groups)
        if options.run is not None:
            measure_run(kept, methods, options.run)
    place = describe_place()
    given = [("--data FOLDER", options.data), ("--learned FILE", options.learned)]
    given += [("--train-groups FILE", options.train_groups), ("--run RUN", options.run)]
    command = " ".join(
        ["python benchmarks/registration.py OUT", f"--pairs {options.pairs}", *(n for n, o in given if o)]
    )
    head = ["# Registration", "", f"`{command}`, measured {place}.", ""]
    head += ["Milliseconds are processor time on one thread, the median over pairs of 256x256 (carotid: 356x376).", ""]
    write_text(options.out / "registration.md", "\n".join([*head, *build_tables(kept.rows, methods)]))
    write_json(options.out / "registration.json", {"measured": place, "pairs": options.pairs, "rows": kept.rows})


if __name__ == "__main__":
    main()
