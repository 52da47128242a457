"""Does a mask that is carried onto the newest frame fit it better than one that is merely older?

    python benchmarks/hold.py OUT [--clips N] [--frames N] [--every N] [--cine FOLDER]

Masks come for every N-th frame, as from a network at a fraction of the frame rate, and are ready N frames after it was
captured. Each frame is shown with the newest mask that is ready: as it is, and carried by edgeseg. Dice against the
frame's own truth; the masks that are carried are truths themselves, so that nothing but the delay is measured. Medians
of clips, with a bootstrap interval over clips. FOLDER holds images/, masks/ and a groups.csv with `group` and `slice`:
its cines are sorted by slice. Writes OUT/hold.md and .json.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trained import write_results

from edgeseg.core.stats import summarise_times
from edgeseg.frame.images import read_image
from edgeseg.phantom import PhantomClip
from edgeseg.streaming.tracking import MaskWarper

RESAMPLES = 2000
SEED = 11
SIZE = (256, 256)
HEADER = ("clips of", "clips", "frames shown", "as it is", "carried", "gain", "ms p50", "ms p99")


@dataclass(frozen=True)
class Step:
    """A frame with its true mask: 0 and 1."""

    image: NDArray[Any]
    truth: NDArray[np.uint8]


@dataclass(frozen=True)
class NumberedPicture:
    """How well the masks of one clip's shown frames fit, and what carrying took."""

    still: float
    carried: float
    frames: int
    milliseconds: tuple[float, ...]


def render_clips(clips: int, frames: int) -> Iterator[list[Step]]:
    """Render phantom cines."""
    for index in range(clips):
        clip = PhantomClip(SEED, index, SIZE)
        rendered = [clip.frame(number) for number in range(frames)]
        yield [Step(frame.image, (frame.labels == 1).astype(np.uint8)) for frame in rendered]


def read_cines(folder: Path) -> Iterator[list[Step]]:
    """Read every group of a folder as a cine."""
    with (folder / "groups.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["group"], int(row["slice"])))
    for _, cine in groupby(rows, key=lambda row: row["group"]):
        yield [_read_step(folder, row["stem"]) for row in cine]


def _read_step(folder: Path, stem: str) -> Step:
    image, mask = (read_image(folder / part / f"{stem}.png") for part in ("images", "masks"))
    return Step(image, (mask > 0).astype(np.uint8))


def play(steps: Sequence[Step], every: int) -> NumberedPicture:
    """Show each frame of a clip with the newest mask that is ready by then."""
    warper, still, carried, took = MaskWarper(), [], [], []
    for number in range(every, len(steps)):
        old, new = steps[(number // every - 1) * every], steps[number]
        began = perf_counter()
        moved = warper.warp(old.truth, old.image, new.image)
        took.append(1e3 * (perf_counter() - began))
        still.append(measure_dice(old.truth, new.truth))
        carried.append(measure_dice(moved, new.truth))
    return NumberedPicture(float(np.median(still)), float(np.median(carried)), len(took), tuple(took))


def measure_dice(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Measure the overlap of two masks; two empty ones agree."""
    marked = int(one.sum()) + int(other.sum())
    return 2.0 * int((one & other).sum()) / marked if marked else 1.0


def show_median(values: Sequence[float]) -> str:
    """Write a median over clips with its interval."""
    data = np.asarray(values)
    draws = np.random.default_rng(0).integers(0, data.size, (RESAMPLES, data.size))
    low, high = np.percentile(np.median(data[draws], axis=1), [2.5, 97.5])
    return f"{np.median(data):.4f} ({low:.4f} to {high:.4f})"


def make_row(name: str, played: Sequence[NumberedPicture]) -> list[str]:
    """Put the clips of one kind into a row."""
    times = summarise_times([value for clip in played for value in clip.milliseconds])
    gains = [clip.carried - clip.still for clip in played]
    dice = (show_median([clip.still for clip in played]), show_median([clip.carried for clip in played]))
    frames = sum(clip.frames for clip in played)
    return [name, str(len(played)), str(frames), *dice, show_median(gains), f"{times.p50:.2f}", f"{times.p99:.2f}"]


def main() -> None:
    """Play all clips and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--cine", type=Path)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    rows = [make_row("phantoms", [play(clip, chosen.every) for clip in render_clips(chosen.clips, chosen.frames)])]
    if chosen.cine is not None:
        cines = [cine for cine in read_cines(chosen.cine) if len(cine) > chosen.every]
        rows.append(make_row(chosen.cine.name, [play(cine, chosen.every) for cine in cines]))
    notes = (
        "# A mask that is carried onto the newest frame",
        "",
        "    python benchmarks/hold.py OUT --cine FOLDER",
        "",
        f"A mask for every {chosen.every}. frame, ready {chosen.every} frames later. Dice of the shown mask with the "
        "truth of the shown frame; medians of clips, with 95% intervals over clips.",
    )
    write_results(chosen.out, "hold", notes, HEADER, rows)


if __name__ == "__main__":
    main()
