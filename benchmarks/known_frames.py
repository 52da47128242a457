"""Are frames told that are not like those of the training, and are those of the next patient left alone?

    python benchmarks/known_frames.py OUT --clips FOLDER --photographs FOLDER DATA...

Each DATA (images/, masks/, groups.csv) is the training's set in turn: five folds by group, so that every image is
judged once by a description that has not seen its group. Against those distances: probes without contact, other organs
(the other sets and the clips), screens, photographs, noise, the same images with a strong shift of gain, and clips that
stand still. No network is needed: the features come from its input. Photographs: those that come with scikit-image,
scikit-learn and matplotlib. AUC with a bootstrap interval over groups (images, clips, photographs, drawn frames).
Writes OUT/known-frames.md and .json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from numpy.typing import NDArray
from trained import write_results

from edgeseg.core.spec import InputSpec
from edgeseg.core.stats import Estimate, area_under_curve, estimate_mean, estimate_statistic, summarise_times
from edgeseg.data.dataset import open_dataset, read_case
from edgeseg.evaluation.known_frames import FALSE_RATE, change_setting, fit_known_frames, list_settings
from edgeseg.frame.features import FrameJudge, cut_padding, describe_pixels
from edgeseg.frame.images import read_image
from edgeseg.frame.preprocess import Pixels, frame_to_pixels, place_frame
from edgeseg.streaming.pipeline import FreezeDetector
from edgeseg.streaming.sources.base import Frame

SPEC = InputSpec(256, 256)
# How many settings a training looks at.
COUNT = len(list_settings(np.zeros((8, 8, 1), np.uint8)))
FOLDS, DRAWN, CUTS, FRAMES_OF_CLIP = 5, 120, 5, 8
STRONG_GAINS = (0.35, 2.5)
# Changes of 20% that must pass: gain, gamma, contrast.
ORDINARY = ((0.8, 1.0, 1.0), (1.2, 1.0, 1.0), (1.0, 1.0, 0.8), (1.0, 1.0, 1.2))
VIDEOS = (".mp4", ".mov", ".mpeg")
HEADER = ("trained on", "frames", "number", "AUC", "beyond the threshold")
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Described:
    """Features of frames (frames, settings, features), and the group of each frame."""

    groups: tuple[str, ...]
    features: Values


@dataclass(frozen=True)
class Distances:
    """Distances as multiples of the threshold, and the group of each frame."""

    groups: tuple[str, ...]
    values: Values

    @property
    def beyond(self) -> Estimate:
        """Estimate the share beyond the threshold."""
        return estimate_mean([float(value > 1.0) for value in self.values], self.groups)


def describe(frames: Iterator[tuple[str, Pixels]], show: Callable[[Pixels], Sequence[Pixels]]) -> Described:
    """Describe frames, each in the settings that `show` lists."""
    groups, rows = [], []
    for group, frame in frames:
        pixels = cut_padding(frame_to_pixels(frame, SPEC), place_frame(SPEC, *frame.shape[:2]))
        groups.append(group)
        rows.append([describe_pixels(shown) for shown in show(pixels)])
    return Described(tuple(groups), np.array(rows))


def read_set(folder: Path) -> Iterator[tuple[str, Pixels]]:
    """Read the images of a data folder, with their groups."""
    for case in open_dataset(folder).cases:
        yield case.group, read_case(case).frame


def read_photographs(folder: Path) -> Iterator[tuple[str, Pixels]]:
    """Read photographs, each whole and in cuts."""
    rng = np.random.default_rng(1)
    for path in sorted(folder.iterdir()):
        image = read_image(path)
        height, width = image.shape[:2]
        yield path.name, image
        for share in rng.uniform(0.4, 0.9, CUTS - 1):
            rows, columns = int(height * share), int(width * share)
            y, x = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
            yield path.name, image[y : y + rows, x : x + columns]


def read_clip(path: Path) -> list[Pixels]:
    """Read all frames of a video."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(np.asarray(read[1], np.uint8))
    return frames


def list_clips(folder: Path) -> list[Path]:
    """List the videos below a folder."""
    return sorted(path for path in folder.rglob("*") if path.suffix in VIDEOS)


def read_clips(folder: Path) -> Iterator[tuple[str, Pixels]]:
    """Take a few frames out of every video."""
    for path in list_clips(folder):
        frames = read_clip(path)
        for number in np.linspace(0, len(frames) - 1, FRAMES_OF_CLIP).astype(int):
            yield path.name, frames[number]


def draw_no_contact() -> Iterator[tuple[str, Pixels]]:
    """Draw probes in the air: reverberation of the near field over dark, and black frames."""
    for number in range(DRAWN):
        rng = np.random.default_rng([2, number])
        if number % 10 == 0:
            yield f"{number}", np.full((480, 640), rng.integers(0, 12), np.uint8)
            continue
        depth = np.arange(360)[:, None]
        rings = 0.6 + 0.4 * np.cos(2 * np.pi * depth / rng.uniform(6, 24))
        echo = rng.uniform(80, 250) * np.exp(-depth / rng.uniform(8, 50)) * rings
        speckle = cv2.GaussianBlur(rng.rayleigh(0.8, (360, 400)), (0, 0), rng.uniform(0.8, 2))
        floor = rng.uniform(0, 8) * cv2.GaussianBlur(rng.rayleigh(0.8, (360, 400)), (0, 0), 1)
        yield f"{number}", np.clip(echo * (0.5 + 0.5 * speckle) + floor, 0, 255).astype(np.uint8)


def draw_screens() -> Iterator[tuple[str, Pixels]]:
    """Draw desktops and menus: boxes, lines and text."""
    for number in range(DRAWN):
        rng = np.random.default_rng([3, number])
        height, width = ((480, 640), (600, 800), (768, 1024), (1080, 1920))[number % 4]
        image = np.full((height, width), rng.integers(0, 256), np.uint8)
        for _ in range(rng.integers(2, 14)):
            x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
            end = (x + int(rng.integers(30, width // 2)), y + int(rng.integers(15, height // 2)))
            cv2.rectangle(image, (x, y), end, int(rng.integers(0, 256)), -1 if rng.random() < 0.6 else 1)
        for _ in range(rng.integers(6, 50)):
            text = "".join(rng.choice(list("abcdefghij ABC123:/"), rng.integers(4, 30)))
            place = (int(rng.integers(0, width)), int(rng.integers(0, height)))
            size, grey = float(rng.uniform(0.3, 1)), int(rng.integers(0, 256))
            cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, grey, 1, cv2.LINE_AA)
        yield f"{number}", image


def draw_noise() -> Iterator[tuple[str, Pixels]]:
    """Draw Gaussian noise, salt and pepper, and television static, sharp and blurred."""
    for number in range(DRAWN):
        rng = np.random.default_rng([4, number])
        static = rng.integers(0, 256, (480, 640)).astype(np.uint8)
        if number % 4 == 0:
            static = np.clip(rng.normal(rng.uniform(30, 150), rng.uniform(15, 60), static.shape), 0, 255)
        elif number % 4 == 1:
            share, chance = rng.uniform(0.02, 0.3), rng.random(static.shape)
            static = np.where(chance < share, 0, np.where(chance > 1 - share, 255, rng.integers(0, 200)))
        elif number % 4 == 2:
            static = cv2.GaussianBlur(static, (0, 0), float(rng.uniform(0.6, 3)))
        yield f"{number}", np.asarray(static, np.uint8)


def assign_folds(groups: Sequence[str]) -> NDArray[np.int64]:
    """Give every group a fold."""
    names, numbers = np.unique(list(groups), return_inverse=True)
    return np.asarray(np.random.default_rng(0).permutation(names.size)[numbers] % FOLDS)


class FoldJudges:
    """A judge for each fold, fitted to the other folds."""

    def __init__(self, known: Described) -> None:
        self._folds = assign_folds(known.groups)
        groups = np.array(known.groups)
        self._fitted = [
            fit_known_frames(known.features[self._folds != fold], list(groups[self._folds != fold]))
            for fold in range(FOLDS)
        ]
        self._judges = [FrameJudge(one) for one in self._fitted]

    def judge_own(self, own: Described, setting: int = 0) -> Distances:
        """Judge the set's own frames, each by the fold that has not seen it."""
        return self._judge(own, setting, self._folds)

    def judge_others(self, others: Described) -> Distances:
        """Judge other frames, each by one of the folds."""
        return self._judge(others, 0, np.arange(len(others.groups)) % FOLDS)

    def _judge(self, frames: Described, setting: int, folds: NDArray[np.int64]) -> Distances:
        values = [
            self._judges[fold].measure_length(row[setting]) / self._fitted[fold].threshold
            for fold, row in zip(folds, frames.features, strict=True)
        ]
        return Distances(frames.groups, np.array(values))


def join(distances: Sequence[Distances]) -> Distances:
    """Put distances together."""
    groups = tuple(f"{number}/{group}" for number, one in enumerate(distances) for group in one.groups)
    return Distances(groups, np.concatenate([one.values for one in distances]))


def make_row(name: str, kind: str, own: Distances, others: Distances) -> list[str]:
    """Compare other frames with a set's own."""
    positive = [False] * len(own.values) + [True] * len(others.values)
    groups = [f"own/{group}" for group in own.groups] + [f"other/{group}" for group in others.groups]
    curve = estimate_statistic(area_under_curve([*own.values, *others.values], positive), groups)
    return [name, kind, str(len(others.values)), show(curve), show(others.beyond)]


def show(estimate: Estimate | None) -> str:
    """Show a share with its interval."""
    if estimate is None:
        return "n/a"
    low, high = estimate.ci95 or (float("nan"), float("nan"))
    return f"{estimate.mean:.3f} ({low:.3f} to {high:.3f})"


def compare_set(name: str, sets: dict[str, Described], kinds: dict[str, Described]) -> Iterator[list[str]]:
    """Make the rows of one set."""
    known = sets[name]
    judges = FoldJudges(Described(known.groups, known.features[:, :COUNT]))
    own = judges.judge_own(known)
    yield [name, "its own, other groups", str(len(own.values)), "", show(own.beyond)]
    ordinary = [judges.judge_own(known, COUNT + number) for number in range(len(ORDINARY))]
    yield [name, "its own, gain and contrast 20% off", str(4 * len(own.values)), "", show(join(ordinary).beyond)]
    first = COUNT + len(ORDINARY) + len(STRONG_GAINS)
    for number, kind in enumerate(ACQUIRED):
        yield [name, f"its own, {kind}", str(len(own.values)), "", show(judges.judge_own(known, first + number).beyond)]
    for kind in ("no contact", "screen", "photograph", "noise"):
        yield make_row(name, kind, own, judges.judge_others(kinds[kind]))
    organs = {other: judges.judge_others(frames) for other, frames in sets.items() if other != name}
    organs["clips"] = judges.judge_others(kinds["clips"])
    yield make_row(name, "other organ, all together", own, join(list(organs.values())))
    for other, distances in organs.items():
        yield make_row(name, f"other organ: {other}", own, distances)
    first = COUNT + len(ORDINARY)
    strong = [judges.judge_own(known, first + number) for number in range(len(STRONG_GAINS))]
    yield make_row(name, "strong shift of gain, all together", own, join(strong))
    for gain, distances in zip(STRONG_GAINS, strong, strict=True):
        yield make_row(name, f"gain x{gain:g}", own, distances)


def show_settings(pixels: Pixels) -> list[Pixels]:
    """Show a frame in the settings of the training, in ordinary ones, and with strong shifts of gain."""
    strong = [change_setting(pixels, gain) for gain in STRONG_GAINS]
    acquired = [change(pixels) for change in ACQUIRED.values()]
    return [*list_settings(pixels), *(change_setting(pixels, *one) for one in ORDINARY), *strong, *acquired]


def compress_jpeg(pixels: Pixels) -> Pixels:
    """Compress an image as a JPEG of quality 40."""
    packet = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
    return np.asarray(cv2.imdecode(packet, cv2.IMREAD_GRAYSCALE), np.uint8)[:, :, None]


def halve(pixels: Pixels) -> Pixels:
    """Show an image at half its resolution."""
    height, width = pixels.shape[:2]
    half = cv2.resize(pixels, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(half, (width, height)), np.uint8)[:, :, None]


def magnify(pixels: Pixels) -> Pixels:
    """Show the middle 70% of an image."""
    height, width = pixels.shape[:2]
    y, x = int(0.15 * height), int(0.15 * width)
    return pixels[y : height - y, x : width - x]


def add_noise(pixels: Pixels) -> Pixels:
    """Add the noise of a bad converter, of 8 grey levels."""
    noise = np.random.default_rng(0).normal(0, 8, pixels.shape)
    return np.asarray(np.clip(pixels + noise, 0, 255), np.uint8)


def add_border(pixels: Pixels) -> Pixels:
    """Put black beside an image, as on a screen that is not cropped."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((height // 12,) * 2, (width // 12,) * 2, (0, 0)))


# Acquired otherwise, with the same organ.
ACQUIRED: dict[str, Callable[[Pixels], Pixels]] = {
    "JPEG of quality 40": compress_jpeg,
    "half the resolution": halve,
    "mirrored": lambda pixels: pixels[:, ::-1],
    "magnified to 70%": magnify,
    "noise of 8 grey levels": add_noise,
    "black border of 8%": add_border,
}


def play(frames: Sequence[Pixels], rate: float) -> float:
    """Play frames, and return the longest time that they stood still, as multiples of what counts as frozen."""
    detector, longest = FreezeDetector(), 0.0
    for number, image in enumerate(frames):
        detector.look(Frame(image, number, number / rate))
        longest = max(longest, detector.stillness)
    return longest


def compare_frozen(folder: Path) -> list[str]:
    """Play clips as they are, by a grabber at twice their rate, and with a picture that stands still in the middle."""
    moving, still, groups = [], [], []
    for path in list_clips(folder):
        frames = read_clip(path)[:150]
        doubled = [frame for frame in frames for _ in range(2)]
        middle = len(frames) // 2
        moving += [play(frames, 25.0), play(doubled, 50.0)]
        groups += [path.name] * 2
        still.append(play([*frames[:middle], *[frames[middle].copy() for _ in range(50)], *frames[middle:]], 25.0))
    positive = [False] * len(moving) + [True] * len(still)
    curve = estimate_statistic(
        area_under_curve([*moving, *still], positive), [*groups, *(path.name for path in list_clips(folder))]
    )
    found, false = (sum(value >= 1.0 for value in values) for values in (still, moving))
    return [
        "any",
        "picture that stands still",
        str(len(still)),
        show(curve),
        f"{found} of {len(still)}, {false} of {len(moving)} moving",
    ]


def time_judge(known: Described) -> str:
    """Time the distance of a grey 256x256 frame, in microseconds."""
    judge = FrameJudge(fit_known_frames(known.features[:, :COUNT], known.groups))
    pixels = np.random.default_rng(0).integers(0, 255, (256, 256, 1)).astype(np.uint8)
    times = []
    for _ in range(3000):
        began = perf_counter()
        judge(pixels)
        times.append(1e3 * (perf_counter() - began))
    summary = summarise_times(times[500:])
    return f"{1e3 * summary.p50:.0f} (median), {1e3 * summary.p95:.0f} (95%)"


def main() -> None:
    """Describe all frames once, and compare every set with them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--photographs", type=Path, required=True)
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    sets = {folder.name: describe(read_set(folder), show_settings) for folder in chosen.data}
    kinds = {
        name: describe(frames, lambda pixels: [pixels])
        for name, frames in {
            "no contact": draw_no_contact(),
            "screen": draw_screens(),
            "photograph": read_photographs(chosen.photographs),
            "noise": draw_noise(),
            "clips": read_clips(chosen.clips),
        }.items()
    }
    rows = [row for name in sets for row in compare_set(name, sets, kinds)]
    rows.append(compare_frozen(chosen.clips))
    microseconds = time_judge(next(iter(sets.values())))
    notes = (
        "# Frames unlike those of the training",
        "",
        "    python benchmarks/known_frames.py OUT --clips FOLDER --photographs FOLDER DATA...",
        "",
        f"Threshold: {FALSE_RATE:.0%} of the training and validation images, judged out of group. Five folds by group. "
        f"95% intervals over groups. One frame of 256x256 takes {microseconds} microseconds.",
    )
    write_results(chosen.out, "known-frames", notes, HEADER, rows)


if __name__ == "__main__":
    main()
