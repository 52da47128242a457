"""Write any layout as the plain one: images, masks and groups.csv with all that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.images import write_image
from edgeseg.core.progress import Advance, ignore
from edgeseg.data.dataset import Dataset, read_cases
from edgeseg.data.groups import GROUPS, write_groups
from edgeseg.data.layouts.base import class_folder


def import_dataset(dataset: Dataset, out: Path, on_case: Advance = ignore) -> None:
    """Write a dataset in the plain layout into an existing folder.

    Args:
        dataset: What to write; brightness, bit depth and colour are kept.
        out: The folder.
        on_case: Told each case's name when it was written.
    """
    folders = [out / class_folder(spec.name) for spec in dataset.classes]
    for image in read_cases(dataset.cases, colour=True):
        name = f"{image.case.stem}.png"
        write_image(out / "images" / name, without_needless_colour(image.frame))
        for folder, mask in zip(folders, image.masks, strict=True):
            write_image(folder / name, mask * np.uint8(255))
        on_case(image.case.stem)
    write_groups(out / GROUPS, dataset.cases)


def without_needless_colour(frame: NDArray[Any]) -> NDArray[Any]:
    """Drop colour channels that all say the same."""
    grey = frame[:, :, 0]
    return grey if np.array_equal(frame, np.repeat(grey[:, :, np.newaxis], 3, axis=2)) else frame
