"""How far does plain thresholding get? A network is worth its cost only above this.

Usage: python benchmarks/threshold_baseline.py DATA

DATA holds images/ and masks/ with the same file names. Every approach blurs the image, thresholds it
and keeps one blob; the script prints the mean Dice of each over the images with a lesion. Only numpy
and OpenCV are needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
WORKING_SIZE = (128, 128)
LOWEST_FAN_GREY = 4


def list_approaches() -> Iterator[tuple[str, Callable[[Gray], Gray]]]:
    """Yield every approach by name: side of the threshold, threshold, blur and choice of blob."""
    for dark, cut, blur, pick in product((True, False), ("otsu", 0.15, 0.25, 0.35, 0.45, "local"), (2, 4), PICKS):
        name = f"{'dark' if dark else 'bright'} {cut} blur={blur} pick={pick}"
        yield name, lambda image, args=(dark, cut, blur, pick): segment(image, *args)


def segment(image: Gray, dark: bool, cut: str | float, blur: int, pick: str) -> Gray:
    """Threshold a blurred image inside the scanned area and keep one blob."""
    smooth = np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.uint8)
    scanned = np.asarray(
        cv2.morphologyEx((image > LOWEST_FAN_GREY).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((25, 25)))
    )
    limit = find_limit(smooth, scanned > 0, cut)
    region = (smooth < limit) if dark else (smooth > limit)
    region = cv2.morphologyEx((region & (scanned > 0)).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5)))
    return PICKS[pick](np.asarray(region, np.uint8))


def find_limit(smooth: Gray, scanned: NDArray[np.bool_], cut: str | float) -> Gray | float:
    """Return the grey level that divides dark from bright, for the image or for each pixel."""
    values = smooth[scanned]
    if values.size == 0:
        return 0.0
    if cut == "otsu":
        return float(cv2.threshold(values.reshape(-1, 1), 0, 255, cv2.THRESH_OTSU)[0])
    if cut == "local":
        return np.asarray(cv2.GaussianBlur(smooth, (0, 0), 20), np.uint8)
    return float(np.quantile(values, cut))


def keep_largest(region: Gray) -> Gray:
    """Keep the largest blob."""
    return keep_best(region, lambda area, _: area)


def keep_central(region: Gray) -> Gray:
    """Keep the blob that is large and near the middle."""
    return keep_best(region, lambda area, offset: area * float(np.exp(-((offset / 0.25) ** 2))))


def keep_inner(region: Gray) -> Gray:
    """Keep the largest blob that does not touch the border."""
    filled = np.pad(region, 1, constant_values=0)
    framed = np.pad(1 - np.zeros_like(region), 1, constant_values=1)
    framed[2:-2, 2:-2] = filled[2:-2, 2:-2]
    cv2.floodFill(framed, None, (0, 0), 0)
    return keep_largest(np.asarray(framed[1:-1, 1:-1], np.uint8))


def keep_best(region: Gray, score: Callable[[float, float], float]) -> Gray:
    """Keep the blob with the highest score of its area and its distance from the middle."""
    count, labels, stats, centers = cv2.connectedComponentsWithStats(region)
    if count < 2:
        return np.zeros_like(region)
    middle = np.array(region.shape[::-1]) / 2
    offsets = np.linalg.norm((centers - middle) / region.shape[0], axis=1)
    scores = [score(float(stats[blob, cv2.CC_STAT_AREA]), float(offsets[blob])) for blob in range(1, count)]
    return np.asarray(labels == 1 + int(np.argmax(scores)), np.uint8)


PICKS: dict[str, Callable[[Gray], Gray]] = {
    "all": lambda region: region,
    "largest": keep_largest,
    "central": keep_central,
    "inner": keep_inner,
}


def measure_dice(found: Gray, truth: Gray) -> float:
    """Return the Dice overlap of two masks."""
    return float(2 * np.sum(found & truth) / max(np.sum(found) + np.sum(truth), 1))


def load_pairs(data: Path) -> list[tuple[Gray, Gray]]:
    """Load the images that have a lesion, with their masks, at the working size."""
    pairs = []
    for path in sorted((data / "images").iterdir()):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        mask = cv2.imread(str(data / "masks" / path.name), cv2.IMREAD_GRAYSCALE)
        if image is None or mask is None:
            raise SystemExit(f"Expected an image and a mask named {path.name} in {data}.")
        if mask.any():
            small = cv2.resize(image, WORKING_SIZE, interpolation=cv2.INTER_AREA)
            truth = cv2.resize(mask, WORKING_SIZE, interpolation=cv2.INTER_NEAREST) > 0
            pairs.append((np.asarray(small, np.uint8), truth.astype(np.uint8)))
    return pairs


def main() -> None:
    """Print the mean Dice of every approach, best last."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python benchmarks/threshold_baseline.py DATA")
    pairs = load_pairs(Path(sys.argv[1]))
    means = []
    for name, find in list_approaches():
        means.append((float(np.mean([measure_dice(find(image), truth) for image, truth in pairs])), name))
    for mean, name in sorted(means)[-8:]:
        print(f"{mean:.3f}  {name}")
    print(f"best thresholding over {len(pairs)} images with a lesion: Dice {max(means)[0]:.3f}")


if __name__ == "__main__":
    main()
