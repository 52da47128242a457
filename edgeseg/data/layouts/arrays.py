"""NumPy arrays of images and masks, divided by their makers."""

from __future__ import annotations

import math
import os
import tokenize
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.images import for_data, to_frame
from edgeseg.core.limits import CASES, CLASSES, MAPPED_BYTES, check_pixels, check_regular
from edgeseg.data.case import GIVEN_PARTS, Case
from edgeseg.data.layouts.base import UNNAMED_CLASS, Found, compare_names
from edgeseg.data.layouts.labelmap import number_classes
from edgeseg.data.reading import Reading, binary_mask, to_channels

_DAMAGES = (ValueError, EOFError, OSError, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError)
"""What NumPy raises on a header that is none; it reads it as a Python literal."""
_SAVE_AGAIN = "Save the array again with numpy.save."


class ArraysLayout:
    """train_images.npy and train_masks.npy; val_ and test_ where they were given."""

    name = "arrays"
    expects = "train_images.npy (n, height, width[, channels]) and train_masks.npy; also val_ and test_, kept as parts"

    def fits(self, root: Path) -> bool:
        """Look for an array of images."""
        return any(os.path.lexists(root / f"{part}_images.npy") for part in GIVEN_PARTS)

    def find(self, root: Path) -> Found:
        """Number the images of each part; given parts are kept, and a lone train_ is divided like any other data."""
        parts = [part for part in GIVEN_PARTS if os.path.lexists(root / f"{part}_images.npy")]
        found = [_find_part(root, part, part if len(parts) > 1 else "") for part in parts]
        classes = found[0].classes if found else ()
        if any(part.classes != classes for part in found):
            raise DataError(f"Expected masks of the same classes in all parts of {root}, got others.", _SAVE_AGAIN)
        cases = tuple(case for part in found for case in part.cases)
        return Found(cases, classes, tuple(defect for part in found for defect in part.defects))


def read_slice(case: Case, colour: bool, number: int) -> Reading:
    """Read one image of an array, and its masks; three channels are taken as RGB."""
    source = f"{case.image}, image {number}"
    frame = to_channels(to_frame(_open(case.image)[number], source), colour, source)
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
    dtype, shape, fortran, start = _read_array_header(path)
    if len(shape) not in (3, 4):
        raise DataError(f"Expected an array (n, height, width[, channels]) in {path}, got {shape}.", _SAVE_AGAIN)
    for_data(check_pixels, path, shape[2], shape[1])
    if not (0 < shape[0] <= CASES and 0 < math.prod(shape[3:]) <= CLASSES):
        raise DataError(
            f"Expected 1 to {CASES} images of at most {CLASSES} channels in {path}, got the shape {shape}.", _SAVE_AGAIN
        )
    held = path.stat().st_size - start
    if held < math.prod(shape) * dtype.itemsize:
        raise DataError(f"Expected the whole array {dtype} {shape} in {path}, got {held} bytes.", _SAVE_AGAIN)
    order: Literal["F", "C"] = "F" if fortran else "C"
    return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape, order=order)


def _read_array_header(path: Path) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    """Read type, shape, whether the first side varies fastest, and where the numbers begin; nothing is allocated."""
    if not os.path.lexists(path):
        raise DataError(f"Expected an array at {path}, got none.", "Save the masks beside the images.")
    for_data(check_regular, path, MAPPED_BYTES)
    try:
        with path.open("rb") as file:
            major, _ = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            start = file.tell()
    except _DAMAGES as error:
        raise DataError(f"Expected an array of numbers, got the unreadable file {path}.", _SAVE_AGAIN) from error
    if dtype.kind not in "buif":
        raise DataError(f"Expected an array of numbers, got {dtype} in {path}.", _SAVE_AGAIN)
    return dtype, shape, fortran, start
