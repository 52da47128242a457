"""NumPy arrays of images and masks, divided by their makers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.images import to_frame
from edgeseg.data.case import GIVEN_PARTS, Case
from edgeseg.data.layouts.base import UNNAMED_CLASS, Found, compare_names
from edgeseg.data.layouts.labelmap import number_classes
from edgeseg.data.reading import Reading, binary_mask, to_channels

_SAVE_AGAIN = "Save the array again with numpy.save."


class ArraysLayout:
    """train_images.npy and train_masks.npy; val_ and test_ where they were given."""

    name = "arrays"
    expects = "train_images.npy (n, height, width[, channels]) and train_masks.npy; also val_ and test_, kept as parts"

    def fits(self, root: Path) -> bool:
        """Look for an array of images."""
        return any((root / f"{part}_images.npy").is_file() for part in GIVEN_PARTS)

    def find(self, root: Path) -> Found:
        """Number the images of each part; given parts are kept, and a lone train_ is divided like any other data."""
        parts = [part for part in GIVEN_PARTS if (root / f"{part}_images.npy").is_file()]
        found = [_find_part(root, part, part if len(parts) > 1 else "") for part in parts]
        classes = found[0].classes if found else ()
        if any(part.classes != classes for part in found):
            raise DataError(f"Expected masks of the same classes in all parts of {root}, got others.", _SAVE_AGAIN)
        cases = tuple(case for part in found for case in part.cases)
        return Found(cases, classes, tuple(defect for part in found for defect in part.defects))


def read_slice(case: Case, colour: bool, number: int) -> Reading:
    """Read one image of an array, and its masks; three channels are taken as RGB."""
    frame = to_channels(to_frame(_open(case.image)[number], f"{case.image}, image {number}"), colour)
    masks = np.atleast_3d(_open(case.masks[0])[number])
    where = f"{case.masks[0]}, mask {number}"
    return frame, tuple(binary_mask(masks[:, :, k], frame, where) for k in range(masks.shape[2]))


def _find_part(root: Path, part: str, given: str) -> Found:
    images, masks = (root / f"{part}_{kind}.npy" for kind in ("images", "masks"))
    shape = _open(masks).shape
    counts = len(_open(images)), shape[0]
    stems = [f"{part}_{number:05d}" for number in range(max(counts))]
    cases = tuple(
        Case(stem, images, (masks,), stem, part=given, read=partial(read_slice, number=number))
        for number, stem in enumerate(stems[: min(counts)])
    )
    channels = shape[3] if len(shape) == 4 else 1
    classes = number_classes(channels) if channels > 1 else (UNNAMED_CLASS,)
    return Found(cases, classes, compare_names(stems[: counts[0]], stems[: counts[1]], masks))


def _open(path: Path) -> NDArray[Any]:
    """Map an array into memory, so that one image is read without the others."""
    if not path.is_file():
        raise DataError(f"Expected an array at {path}, got none.", "Save the masks beside the images.")
    try:
        values: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"Expected an array of numbers, got the unreadable file {path}.", _SAVE_AGAIN) from error
    if values.ndim not in (3, 4):
        raise DataError(f"Expected an array (n, height, width[, channels]) in {path}, got {values.shape}.", _SAVE_AGAIN)
    return values
