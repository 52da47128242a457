"""Tiny labelled images: bright discs on noise, quick to draw and quick to learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeseg.frame.images import write_image


def write_case(root: Path, stem: str, frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    """Write one labelled image in the plain layout."""
    write_image(root / "images" / f"{stem}.png", frame)
    write_image(root / "masks" / f"{stem}.png", mask)


def draw_case(seed: int, size: tuple[int, int] = (72, 96)) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a noisy frame with a bright disc, and the disc's mask."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    middle = rng.uniform(0.35, 0.65, 2) * size
    disc = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < rng.uniform(12, 20) ** 2
    frame = np.clip(60 + 120 * disc + rng.normal(0, 12, size), 0, 255).astype(np.uint8)
    return frame, np.where(disc, np.uint8(255), np.uint8(0))


def make_disc_data(root: Path, cases: int) -> Path:
    """Make a data folder of bright discs; every fifth image has none."""
    for number in range(cases):
        frame, mask = draw_case(number)
        if number % 5 == 4:
            frame, mask = np.full_like(frame, 60), np.zeros_like(mask)
        write_case(root, f"case_{number:02d}", frame, mask)
    return root
