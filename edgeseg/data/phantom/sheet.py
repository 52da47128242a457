"""Many phantoms at a glance: a person should judge them before a network does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.data.phantom.scene import LABELS, PhantomFrame, render_case
from edgeseg.data.phantom.synth import write_image
from edgeseg.data.sheet import lay_tiles, outline_mask

OUTLINES_BGR = {"lesion": (96, 220, 96), "vessel": (60, 150, 255)}
SHEET_SEED = 7
SHEET_COLUMNS = 6
SHEET_ROWS = 3


def contact_sheet(frames: Sequence[PhantomFrame], columns: int) -> NDArray[np.uint8]:
    """Lay frames out as tiles (BGR) with lesion and vessel outlined."""
    if not frames or columns < 1:
        raise DataError(
            f"Expected at least one frame and one column, got {len(frames)} and {columns}.",
            "Render some cases first.",
        )
    return lay_tiles([outline_labels(frame) for frame in frames], columns)


def outline_labels(frame: PhantomFrame) -> NDArray[np.uint8]:
    """Return the image in colour with a thin outline around each label."""
    tile = np.asarray(cv2.cvtColor(frame.image, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    for name, colour in OUTLINES_BGR.items():
        outline_mask(tile, (frame.labels == LABELS.index(name)).astype(np.uint8), colour)
    return tile


def main(arguments: Sequence[str]) -> int:
    """Write a contact sheet to the path given as the only argument."""
    if len(arguments) != 1:
        print("usage: python -m edgeseg.data.phantom.sheet OUT.png", file=sys.stderr)
        return 2
    frames = [render_case(SHEET_SEED, case, (192, 192)) for case in range(SHEET_COLUMNS * SHEET_ROWS)]
    write_image(Path(arguments[0]), contact_sheet(frames, SHEET_COLUMNS))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
