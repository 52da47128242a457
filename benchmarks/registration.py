"""How near does each method of registration come to a motion that is known, and how long does it take?

    python benchmarks/registration.py OUT [--pairs N] [--data FOLDER] [--learned FILE.tflite]
        [--methods NAME...] [--tables]

Phantom pairs are imaged twice, before and after a known motion, with half of the speckle drawn afresh. Target
registration error in pixels over all points that both images show (median, 95th percentile), share of folding, and
processor time on one thread (median over pairs). FOLDER holds real data sets as edgeseg reads them: cca_carotid (a mask
carried over 3 to 15 frames of its cine), hc18 and busi (an image and a warped copy of itself with other speckle).
itk-elastix takes part where it is installed. Finished rows are kept in OUT/registration.partial.json, so an interrupted
run goes on; --tables writes the tables of what is there. Writes OUT/registration.md and .json.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
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
from edgeseg.frame.images import read_image
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
from edgeseg.registration.linear import center, fit_linear, refine
from edgeseg.registration.preparation import prepare
from edgeseg.registration.quality import measure_dice

SEED = 67
SIZE = (256, 256)
Method = Callable[[NDArray[np.uint8], NDArray[np.uint8]], Field]
# Frames that a mask is carried over, and how many pairs a cine gives for each span.
SPANS = ((3, 5), (6, 10), (11, 15))
PAIRS_OF_A_CINE = 2
REAL_IMAGES = 12
# Of the speckle that a copy is given: its grain in pixels, and its depth.
GRAIN_PX, DEPTH = 1.2, 0.25
POINTS = 11
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
    from edgeseg.registration.learned import open_registration  # type: ignore[import-not-found]

    field: Field = open_registration(Path(file))(fixed, moving)
    return field


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
        "B-spline (SimpleITK)": run_bspline,
    }
    if find_spec("itk") is not None:
        linear["elastix affine"] = partial(run_elastix, maps=("affine",))
        deformable["elastix B-spline"] = partial(run_elastix, maps=("affine", "bspline"))
    if learned is not None:
        deformable["learned"] = partial(run_learned, file=learned)
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
    return np.clip(image * factor, 0, 255).astype(np.uint8)


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


def list_spans(folder: Path, span: tuple[int, int]) -> Iterator[tuple[str, str]]:
    """List pairs of frames of one cine that are so many frames apart: at most some of each cine."""
    with (folder / "groups.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["group"], int(row["slice"])))
    for _, cine in groupby(rows, key=lambda row: row["group"]):
        frames = [(int(row["slice"]), row["stem"]) for row in cine]
        found = [
            (first[1], second[1])
            for number, first in enumerate(frames)
            for second in frames[number + 1 :]
            if span[0] <= second[0] - first[0] <= span[1]
        ]
        yield from found[:: max(1, len(found) // PAIRS_OF_A_CINE)][:PAIRS_OF_A_CINE]


def carry_masks(method: Method, folder: Path, span: tuple[int, int]) -> dict[str, float]:
    """Carry the mask of one frame to a later one, and compare it with that frame's own."""
    scores, seconds = [], []
    for first, second in list_spans(folder, span):
        moving, fixed = (read_image(folder / "images" / f"{stem}.png") for stem in (first, second))
        mask, truth = (read_image(folder / "masks" / f"{stem}.png") for stem in (first, second))
        started = process_time()
        field = method(fixed, moving)
        seconds.append(process_time() - started)
        scores.append(measure_dice(truth, warp_labels(mask, field)) or 0.0)
    return {
        "pairs": len(scores),
        "dice": round(float(np.mean(scores)), 4),
        "p10": round(float(np.percentile(scores, 10)), 4),
        "ms": round(1e3 * float(np.median(seconds)), 2),
    }


class Kept:
    """Rows that are measured already, kept on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.is_file() else {}

    def get(self, key: str, make: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Return a row, measured now if it is not there."""
        if key not in self.rows:
            self.rows[key] = make()
            print(key, self.rows[key], flush=True)
            write_json(self._path, self.rows)
        return self.rows[key]


def measure_all(kept: Kept, methods: dict[str, dict[str, Method]], pairs: int, data: Path | None) -> None:
    """Measure whatever is missing."""
    for motion, chosen in methods.items():
        for level in LEVELS:
            rendered: list[Pair] = []
            for name, method in chosen.items():
                key = f"{motion}/{level}/{name}"
                if key not in kept.rows and not rendered:
                    rendered = list(render_pairs(motion, level, pairs))
                kept.get(key, lambda method=method, rendered=rendered: measure(method, rendered))  # type: ignore[misc]
    if data is not None:
        measure_real(kept, methods, data)


def measure_real(kept: Kept, methods: dict[str, dict[str, Method]], data: Path) -> None:
    """Measure the deformable methods on real images."""
    for name, method in methods["deformable"].items():
        for span in SPANS:
            kept.get(
                f"carotid/{span[1]}/{name}",
                lambda method=method, span=span: carry_masks(method, data / "cca_carotid", span),  # type: ignore[misc]
            )
        for folder in ("hc18", "busi"):
            kept.get(
                f"copies/{folder}/{name}",
                lambda method=method, folder=folder: measure(method, warp_copies(data / folder, REAL_IMAGES)),  # type: ignore[misc]
            )


def build_tables(rows: dict[str, dict[str, float]], methods: dict[str, dict[str, Method]]) -> list[str]:
    """Lay the rows out as Markdown tables; what was not measured is a dash."""
    lines: list[str] = []
    for motion, chosen in methods.items():
        lines += [f"## Phantom pairs, {motion} motion: error in px, median (95%)", ""]
        lines += ["| method | " + " | ".join(f"level {level}" for level in LEVELS) + " | folding | ms |"]
        lines += ["|---|" + "---|" * (len(LEVELS) + 2)]
        for name in chosen:
            keys = [f"{motion}/{level}/{name}" for level in LEVELS]
            found = [rows[key] for key in keys if key in rows]
            if found:
                folding, spent = max(one["folding_percent"] for one in found), np.median([one["ms"] for one in found])
                cells = " | ".join(_show_error(rows.get(key)) for key in keys)
                lines += [f"| {name} | {cells} | {folding:.3f}% | {spent:.1f} |"]
        lines += [""]
    if not any(key.startswith("carotid/") for key in rows):
        return lines
    lines += ["## Real images", "", "Dice of a carotid mask carried over N frames; error in px on warped copies.", ""]
    lines += ["| method | " + " | ".join(f"{low} to {high} frames" for low, high in SPANS) + " | HC18 | BUSI | ms |"]
    lines += ["|---|" + "---|" * (len(SPANS) + 3)]
    for name in methods["deformable"]:
        carried = [rows.get(f"carotid/{high}/{name}") for _, high in SPANS]
        copies = [_show_error(rows.get(f"copies/{folder}/{name}")) for folder in ("hc18", "busi")]
        if carried[0] is not None:
            dice = ["-" if one is None else f"{one['dice']:.3f}" for one in carried]
            lines += [f"| {name} | {' | '.join(dice + copies)} | {carried[0]['ms']:.1f} |"]
    return lines


def _show_error(row: dict[str, float] | None) -> str:
    return "-" if row is None else f"{row['median_px']:.2f} ({row['p95_px']:.1f})"


def main() -> None:
    """Measure, and write both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--learned")
    parser.add_argument("--methods", nargs="*")
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    methods = list_methods(options.learned)
    if options.methods:
        methods = {
            motion: {name: one for name, one in chosen.items() if name in options.methods}
            for motion, chosen in methods.items()
        }
    kept = Kept(options.out / "registration.partial.json")
    if not options.tables:
        measure_all(kept, methods, options.pairs, options.data)
    place = describe_place()
    head = [
        "# Registration",
        "",
        f"`python benchmarks/registration.py OUT --pairs {options.pairs} --data FOLDER`, measured {place}.",
        "",
        "Milliseconds are processor time on one thread, the median over pairs of 256x256 (carotid: 356x376).",
        "",
    ]
    write_text(options.out / "registration.md", "\n".join([*head, *build_tables(kept.rows, methods), ""]))
    write_json(options.out / "registration.json", {"measured": place, "pairs": options.pairs, "rows": kept.rows})


if __name__ == "__main__":
    main()
