"""Is a map of what speaks for a mask true to the network? Deletion and insertion areas on real images, per method.

    python benchmarks/explanation.py OUT --set RUN DATA [INT8] [--set ...] [--cases 40]

RUN is a finished run, DATA the images that it was trained on, INT8 an int8 file of it. Up to --cases test images of
DATA on which the run marks something are explained by every method, on one thread. A map is tested by removing pixels
in its order, and by bringing them back; what is removed is replaced by a strong blur. Deletion is the area under the
score that is left (low is good), insertion under the score that comes back (high is good), both as shares of the whole
image's score; the gap is insertion less deletion. Random, edges (Sobel) and the mask itself (with a soft rim) ask no
network. Intervals are bootstrapped over groups; times are the process' own, so that other work on the machine
hardly changes them. --cases 2 is a short trial. Writes OUT/explanation.md and .json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
from trained import write_results

from edgeseg.core.modelfile import read_model
from edgeseg.core.stats import estimate_mean, rank_correlation, show_interval
from edgeseg.data.dataset import LabelledImage, read_case
from edgeseg.evaluation.score import pick_cases
from edgeseg.explanation.faithfulness import Areas, draw_edges, draw_mask, draw_random_maps, measure_areas
from edgeseg.explanation.occlusion import mask_randomly, occlude
from edgeseg.explanation.targets import Map, Probe, Target, choose_targets
from edgeseg.inference.segmenter import Segmenter
from edgeseg.model.attribution import find_levels, integrate_gradients, seg_grad_cam
from edgeseg.training.run import read_run
from edgeseg.training.start import load_network

CASES = 40
RANDOM, EDGES, MASK = "random", "edges", "mask itself"
# The method whose int8 maps are compared with the float ones.
COMPARED = "RISE, 600 masks"
HEADER = (
    "data",
    "network",
    "map",
    "deletion",
    "insertion",
    "gap",
    "better than edges",
    "than the mask",
    "CPU ms per image",
)
NOTES = (
    "# What speaks for a mask: are the maps true to the network?",
    "",
    "    python benchmarks/explanation.py OUT --set RUN DATA INT8 --set RUN DATA INT8",
    "",
    "Test images on which the network marks something; pixels are removed, or brought back, in the order of the map.",
    "Deletion: the score that is left (low is good). Insertion: the score that comes back (high is good). Gap:",
    "insertion less deletion. Better than edges, than the mask: in how many images the gap is larger than that of the",
    "Sobel gradient, and of the mask itself with a soft rim. Random, edges and mask ask no network. 95% intervals by",
    "bootstrap over groups, one thread.",
)
Draw = Callable[[Probe, Target], Map]


@dataclass
class Row:
    """What one method gave on the images of a set."""

    areas: list[Areas] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)


def list_methods(run: Path | None) -> dict[str, Draw]:
    """List the methods of a file, or those of a run, too, and what asks no network."""
    methods: dict[str, Draw] = {
        RANDOM: lambda probe, _: draw_random_maps(probe.shape)[0],
        EDGES: lambda probe, _: draw_edges(probe),
        MASK: draw_mask,
        COMPARED: lambda probe, target: mask_randomly(probe, [target])[0],
        "occlusion": lambda probe, target: occlude(probe, [target])[0],
    }
    if run is not None:
        network = load_network(run, read_run(run))
        deepest = find_levels(network)[-1:]
        methods |= {
            "integrated gradients": partial(_first, partial(integrate_gradients, network)),
            "Seg-Grad-CAM, decoder": partial(_first, partial(seg_grad_cam, network)),
            "Seg-Grad-CAM, deepest": partial(_first, partial(seg_grad_cam, network, layers=deepest)),
        }
    return methods


def _first(method: Callable[..., list[Map]], probe: Probe, target: Target) -> Map:
    return method(probe=probe, targets=[target])[0]


def list_cases(segmenter: Segmenter, data: Path, wanted: int) -> list[LabelledImage]:
    """List test images on which something is marked, spread over the test part."""
    cases = list(pick_cases(segmenter.card, data, "test").cases)
    order = np.random.default_rng(0).permutation(len(cases))
    found = []
    for number in order:
        image = read_case(cases[number], segmenter.card.input.in_colour)
        if segmenter.segment(image.frame).labels.any():
            found.append(image)
        if len(found) == wanted:
            break
    return found


def explain_set(
    segmenter: Segmenter, images: list[LabelledImage], methods: dict[str, Draw]
) -> tuple[dict[str, Row], list[Map]]:
    """Explain every image by every method; gives the rows and the maps of the compared method."""
    rows, maps = {name: Row() for name in methods}, []
    for number, image in enumerate(images, start=1):
        probe = Probe(segmenter, image.frame)
        target = next(iter(choose_targets(probe)))
        for name, draw in methods.items():
            began = process_time()
            found = draw(probe, target)
            rows[name].milliseconds.append(1e3 * (process_time() - began))
            rows[name].areas.append(measure_areas(probe, target, found))
            if name == COMPARED:
                maps.append(found)
        print(f"{segmenter.card.name}: {number} of {len(images)}", flush=True)
    return rows, maps


def make_rows(data: str, network: str, rows: dict[str, Row], groups: list[str]) -> Iterator[list[str]]:
    """Write the rows of one set and network."""
    gaps = {name: np.array([one.gap for one in row.areas]) for name, row in rows.items()}
    for name, row in rows.items():
        figures = (
            [one.deletion for one in row.areas],
            [one.insertion for one in row.areas],
            gaps[name].tolist(),
        )
        yield [
            data,
            network,
            name,
            *(_show(values, groups) for values in figures),
            *("" if name == other else f"{np.mean(gaps[name] > gaps[other]):.0%}" for other in (EDGES, MASK)),
            f"{median(row.milliseconds):.0f}",
        ]


def _show(values: list[float], groups: list[str]) -> str:
    estimate = estimate_mean(values, groups)
    return f"{estimate.mean:.3f} ({show_interval(estimate.ci95, '.3f')})"


def compare_maps(one: list[Map], other: list[Map]) -> float:
    """Average the rank correlation of two lists of maps."""
    ranks = [
        float(rank_correlation(a.ravel().tolist(), b.ravel().tolist())(np.ones(a.size)))
        for a, b in zip(one, other, strict=True)
    ]
    return float(np.mean(ranks))


def main() -> None:
    """Explain the test images of every set, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--set", dest="sets", type=Path, nargs="+", action="append", required=True)
    parser.add_argument("--cases", type=int, default=CASES)
    chosen = parser.parse_args()
    lines, notes = [], list(NOTES)
    for run, data, *files in chosen.sets:
        segmenter = Segmenter(read_model(run / "model.tflite"))
        images = list_cases(segmenter, data, chosen.cases)
        groups = [image.case.group for image in images]
        label = f"{data.name}, {len(images)} images"
        rows, maps = explain_set(segmenter, images, list_methods(run))
        lines += make_rows(label, "float32", rows, groups)
        for file in files:
            small = Segmenter(read_model(file))
            rows, others = explain_set(small, images, list_methods(None))
            lines += make_rows(label, "int8", rows, groups)
            correlation = compare_maps(maps, others)
            notes += [
                "",
                f"{label}: rank correlation of the int8 file's RISE maps with the float ones {correlation:.3f}.",
            ]
    chosen.out.mkdir(parents=True, exist_ok=True)
    write_results(chosen.out, "explanation", notes, HEADER, lines)


if __name__ == "__main__":
    main()
