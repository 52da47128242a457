"""Are states that hold over frames steadier than frame by frame, without telling a true finding late?

    python benchmarks/steadiness.py OUT --phantom MODEL [--clips N] [--frames N]
        [--cine MODEL FOLDER] [--videos MODEL FOLDER]

Phantom clips: a lesion comes, stays and goes within 3 seconds at 30 frames per second, with known truth. MODEL is a
file that segments phantoms. FOLDER of --cine holds images/ and a groups.csv with `group` and `slice`: its cines are
sorted by slice, and their structure is in every frame; only the test cases of MODEL's own training are played. FOLDER
of --videos holds video files, in any folder; MODEL was trained on other images, and whether a frame is one of those
that it knows is not asked: what it finds there is chance, the hardest case for flicker.

Each clip is played once, and its states are taken as a stream shows them and frame by frame. A finding is found frame
by frame in three frames in a row or more; in a phantom it counts from its first frame with the whole lesion. It is late
by so many frames as pass until the stream says found. Writes OUT/steadiness.md and .json.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from trained import write_results

from edgeseg.core.decision import FOUND
from edgeseg.core.modelfile import find_model, read_model
from edgeseg.evaluation.score import pick_cases
from edgeseg.frame.images import read_image
from edgeseg.inference.segmenter import Segmenter
from edgeseg.phantom import PhantomClip
from edgeseg.phantom.scene import find_lesion_share
from edgeseg.streaming.states import StateKeeper

SEED = 41
SIZE = (256, 256)
FPS = 30.0
# A finding that frame by frame lasts shorter is flicker, and nobody waits for it.
LASTING_FRAMES = 3
VIDEOS = (".mp4", ".mov", ".mpeg")
NOTES = (
    "# States that hold over frames, against frame by frame",
    "",
    "    python benchmarks/steadiness.py OUT --phantom MODEL --cine MODEL FOLDER --videos MODEL FOLDER",
    "",
    "States of one class in clips at 30 frames per second. A change is one from found, doubtful or nothing to "
    f"another. A finding is found frame by frame in {LASTING_FRAMES} frames in a row or more; it is told late by the "
    "frames that pass until the stream says found, in phantoms counted from the first of its frames with the whole "
    "lesion. The phantoms' lesion comes and goes every three seconds: 40 changes per minute are true, or 80 where it "
    "is doubtful in between. The test cases' structure is in every frame; the "
    "cines are sparse, so a frame differs more from the next than in a stream. Videos of other organs are played as if "
    "their frames were known: all that is found there is wrong. As streamed, a finding ends five "
    "frames after its mask; so four of the 36 frames without the phantom's lesion still say found.",
)
HEADER = (
    "clips of",
    "clips, frames",
    "changes/min, frame by frame",
    "as streamed",
    "findings",
    "told late by 0, 1, 2, more frames",
    "never told",
    "found with the whole lesion, frame by frame",
    "as streamed",
    "found without it, frame by frame",
    "as streamed",
)


@dataclass(frozen=True)
class Played:
    """What a model says in each frame of a clip: found or not, and changes of its state."""

    single: NDArray[np.bool_]
    """Frame by frame."""
    steady: NDArray[np.bool_]
    """As a stream shows it."""
    single_changes: int
    steady_changes: int
    shares: NDArray[np.float64] | None
    """How much of the structure is in the picture, where that is known."""

    def list_delays(self) -> list[int | None]:
        """List by how many frames each finding is told late; None where it is over before it is told."""
        delays: list[int | None] = []
        for begin, end in list_findings(self.single):
            # a lesion that is only coming may be found and lost again
            begin = begin if self.shares is None else find_whole(self.shares, begin, end)
            told = np.flatnonzero(self.steady[begin:end])
            delays.append(int(told[0]) if told.size else None)
        return delays

    def count(self, share: float) -> tuple[int, int, int]:
        """Count the frames with this share of the structure, and in how many it is found: single, steady."""
        chosen = np.zeros(self.single.shape, bool) if self.shares is None else self.shares == share
        return int(chosen.sum()), int(self.single[chosen].sum()), int(self.steady[chosen].sum())


def list_findings(found: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """List first frame and end of every run of found frames that lasts."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], found, [False]]).astype(int)))
    runs = [(int(begin), int(end)) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    return [(begin, end) for begin, end in runs if end - begin >= LASTING_FRAMES]


def find_whole(shares: NDArray[np.float64], begin: int, end: int) -> int:
    """Find the first frame of a finding in which the whole structure is in the picture; its first without any."""
    whole = np.flatnonzero(shares[begin:end] == 1.0)
    return begin + int(whole[0]) if whole.size else begin


def play(segmenter: Segmenter, frames: Iterable[NDArray[Any]], shares: Sequence[float] | None) -> Played:
    """Play a clip.

    Args:
        segmenter: The model; its first class is looked at.
        frames: Of the clip.
        shares: How much of the structure each frame shows; None where frames of another kind are played, whose distance
            from the training is then left out of account.
    """
    keepers = [StateKeeper(segmenter.card.output.classes, is_steady) for is_steady in (False, True)]
    states: list[list[str]] = [[], []]
    for number, frame in enumerate(frames):
        seen = segmenter.segment(frame)
        if shares is None:
            seen = replace(seen, distance=None)
        for keeper, said in zip(keepers, states, strict=True):
            said.append(keeper.take(seen, number / FPS).findings[0].state)
    single, steady = (np.asarray([state == FOUND for state in said], dtype=bool) for said in states)
    changes = [keeper.report().classes[0].changes for keeper in keepers]
    return Played(single, steady, changes[0], changes[1], None if shares is None else np.asarray(shares))


def play_phantoms(model: Path, clips: int, frames: int) -> list[Played]:
    """Play phantoms whose lesion comes and goes."""
    segmenter = open_model(model)
    shares = [find_lesion_share(number / FPS) for number in range(frames)]
    played = []
    for index in range(clips):
        clip = PhantomClip(SEED, index, SIZE, FPS, comes_and_goes=True)
        images = (clip.frame(number).image for number in range(frames))
        played.append(play(segmenter, images, shares))
        print(f"phantom {index + 1} of {clips}", flush=True)
    return played


def play_cines(model: Path, folder: Path) -> list[Played]:
    """Play the cines of a folder's test cases: all of their frames show the structure."""
    segmenter = open_model(model)
    test = {case.stem for case in pick_cases(segmenter.card, folder, "test").cases}
    with (folder / "groups.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["group"], int(row["slice"])))
    cines = [list(cine) for _, cine in groupby([row for row in rows if row["stem"] in test], lambda row: row["group"])]
    return [
        play(segmenter, (read_image(folder / "images" / f"{row['stem']}.png") for row in cine), [1.0] * len(cine))
        for cine in cines
    ]


def play_videos(model: Path, folder: Path) -> list[Played]:
    """Play videos of other organs; what is found in them is chance."""
    segmenter = open_model(model)
    paths = sorted(path for path in folder.rglob("*") if path.suffix in VIDEOS)
    return [play(segmenter, read_video(path), None) for path in paths]


def open_model(path: Path) -> Segmenter:
    """Open a model file or the file of a run."""
    return Segmenter(read_model(find_model(path)), "cpu")


def read_video(path: Path) -> Iterator[NDArray[Any]]:
    """Read a video's frames as grey."""
    video = cv2.VideoCapture(str(path))
    while True:
        is_there, frame = video.read()
        if not is_there:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)


def make_row(name: str, played: Sequence[Played]) -> list[str]:
    """Put the clips of one kind into a row."""
    frames = sum(clip.single.size for clip in played)
    minutes = frames / FPS / 60.0
    delays = [delay for clip in played for delay in clip.list_delays()]
    late = [sum(delay == frames_late for delay in delays) for frames_late in (0, 1, 2)]
    late.append(sum(delay is not None and delay > 2 for delay in delays))
    with_it, without = (
        [sum(counts) for counts in zip(*(c.count(share) for c in played), strict=True)] for share in (1.0, 0.0)
    )
    return [
        name,
        f"{len(played)}, {frames}",
        f"{sum(clip.single_changes for clip in played) / minutes:.0f}",
        f"{sum(clip.steady_changes for clip in played) / minutes:.0f}",
        str(len(delays)),
        ", ".join(map(str, late)),
        str(sum(delay is None for delay in delays)),
        *show_shares(with_it),
        *show_shares(without),
    ]


def show_shares(counts: Sequence[int]) -> tuple[str, str]:
    """Show the share of some frames in which something is found: frame by frame, as streamed."""
    frames, single, steady = counts
    return (f"{single / frames:.1%}", f"{steady / frames:.1%}") if frames else ("n/a", "n/a")


def main() -> None:
    """Play all clips and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--phantom", type=Path, metavar="MODEL", required=True)
    parser.add_argument("--clips", type=int, default=30)
    parser.add_argument("--frames", type=int, default=180)
    parser.add_argument("--cine", type=Path, nargs=2, metavar=("MODEL", "FOLDER"))
    parser.add_argument("--videos", type=Path, nargs=2, metavar=("MODEL", "FOLDER"))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    rows = [make_row("phantoms", play_phantoms(chosen.phantom, chosen.clips, chosen.frames))]
    if chosen.cine is not None:
        rows.append(make_row(f"{chosen.cine[1].name}, test cases", play_cines(*chosen.cine)))
    if chosen.videos is not None:
        rows.append(make_row("other organs", play_videos(*chosen.videos)))
    write_results(chosen.out, "steadiness", NOTES, HEADER, rows)


if __name__ == "__main__":
    main()
