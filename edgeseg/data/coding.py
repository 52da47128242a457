"""What the values of mask files mean: one class, numbers of classes, grey levels or colours; anything else is refused.

People save the same labels as 0 and 1, as 0 and 255, as grey levels that an eye can tell apart, or in fixed colours.
JPEG and resizing invent values along borders, which must not become classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.limits import CLASSES
from edgeseg.data.defects import (
    DefectError,
    blurred_colours,
    blurred_values,
    drawn_in_transparency,
    jpeg_masks,
    stray_colours,
    stray_labels,
    stray_values,
)
from edgeseg.data.reading import Case, CaseReader, Mask, Reading, check_size, find_values, read_mask
from edgeseg.frame.images import has_transparency, is_jpeg, read_bytes, read_image

# Fixed colours, or grey levels without numbers, that may be classes; borders that a program blurred have far more.
MOST_COLOURS = 32
# Grey levels of classes that are chosen for an eye lie at least so far apart.
_GREY_STEP = 8
# What programs save for "inside".
_INSIDE = {1, 255, 65535}
# A patch of 3x3 pixels: a value that never fills one lies on blurred borders only.
_PATCH = np.ones((3, 3), np.uint8)
_BITS = 16


@dataclass(frozen=True)
class Coding:
    """The value of each class in mask files; a single class without a value is everything that is not 0."""

    values: tuple[int, ...] = ()
    coloured: bool = False
    """Whether values are colours, of 16 bits for each of red, green and blue."""

    @property
    def classes(self) -> int:
        """Count the classes."""
        return max(len(self.values), 1)

    def read(self, path: Path, frame: NDArray[Any]) -> tuple[Mask, ...]:
        """Read a mask file of its frame's size as one mask for each class."""
        values = read_values(path, self.coloured)
        check_size(values, frame, str(path))
        if not self.values:
            return (_split_inside(values, path),)
        masks = tuple((values == value).astype(np.uint8) for value in self.values)
        known = sum(int(np.count_nonzero(mask)) for mask in masks) + int(np.count_nonzero(values == 0))
        if known < values.size:
            raise _refuse_values(find_values(values) - {*self.values, 0}, self.coloured, path)
        return masks

    def describe(self) -> str:
        """Write the value of each class, in their order."""
        return ", ".join(show_value(value, self.coloured) for value in self.values)


def read_coded(case: Case, colour: bool, coding: Coding) -> Reading:
    """Read an image and its mask files, whose masks of one class are joined."""
    frame = read_image(case.image, colour)
    files = [coding.read(path, frame) for path in case.masks]
    return frame, tuple(np.bitwise_or.reduce(several) for several in zip(*files, strict=True))


def read_joined(case: Case, colour: bool, counts: tuple[int, ...]) -> Reading:
    """Read an image, and for each class a number of mask files, which are joined."""
    frame = read_image(case.image, colour)
    files = iter(case.masks)
    classes = [[read_mask(path, frame) for path in islice(files, count)] for count in counts]
    return frame, tuple(np.bitwise_or.reduce(several) for several in classes)


def read_above(case: Case, colour: bool, threshold: int) -> Reading:
    """Read an image and one mask file for each class, marked where it is brighter than a threshold."""
    frame = read_image(case.image, colour)
    masks = [read_image(path) for path in case.masks]
    for path, mask in zip(case.masks, masks, strict=True):
        check_size(mask, frame, str(path))
    return frame, tuple((mask > threshold).astype(np.uint8) for mask in masks)


def make_reader(coding: Coding) -> CaseReader:
    """Return the function that reads cases whose masks are coded in this way."""
    return partial(read_coded, coding=coding)


def read_values(path: Path, coloured: bool = False) -> NDArray[Any]:
    """Read the values of a mask: grey as they are, or every colour as one number."""
    image = read_image(path, colour=True)
    if coloured:
        return _pack_colours(image)
    return image[:, :, 0] if _is_grey(image) else read_image(path)


def show_value(value: int, coloured: bool) -> str:
    """Write a value for people: a number, or a colour as on a web page."""
    if not coloured:
        return str(value)
    parts = [(value >> shift) & 0xFFFF for shift in (2 * _BITS, _BITS, 0)]
    return "#" + "".join(f"{part:02x}" for part in parts)


def _is_grey(image: NDArray[Any]) -> bool:
    return bool(np.array_equal(image[:, :, 0], image[:, :, 1]) and np.array_equal(image[:, :, 0], image[:, :, 2]))


def _pack_colours(image: NDArray[Any]) -> NDArray[np.int64]:
    blue, green, red = (image[:, :, channel].astype(np.int64) for channel in range(3))
    return red << 2 * _BITS | green << _BITS | blue


def _split_inside(values: NDArray[Any], path: Path) -> Mask:
    """Mark what is not 0; a mask of one class has one value there."""
    found = find_values(values) - {0}
    if len(found) > 1:
        raise _refuse_values(found, False, path)
    if values.min() == values.max() and has_transparency(read_bytes(path)):
        raise drawn_in_transparency(str(path))
    return np.asarray(values != 0, dtype=np.uint8)


def _refuse_values(found: set[int], coloured: bool, path: Path) -> DefectError:
    if is_jpeg(path):
        return jpeg_masks(str(path))
    if coloured:
        return stray_colours(str(path), [show_value(value, True) for value in sorted(found)])
    return stray_values(str(path), sorted({0, *found}))


@dataclass
class ValueSurvey:
    """The values of many mask files: which there are, and which fill a patch somewhere."""

    values: set[int] = field(default_factory=set)
    solid: set[int] = field(default_factory=set)
    coloured: bool = False
    most: int = 0
    """The most values beside 0 in one file."""

    def add(self, path: Path) -> None:
        """Read a file.

        Raises:
            DataError: It cannot be read, or is a JPEG with more than two values.
        """
        image = read_image(path, colour=True)
        coloured = not _is_grey(image)
        values = _pack_colours(image) if coloured or self.coloured else image[:, :, 0]
        found = find_values(_drop_repeats(values) if values.dtype == np.int64 else values)
        if len(found) > 2 and is_jpeg(path):
            raise jpeg_masks(str(path))
        if coloured and not self.coloured:
            self._turn_to_colours()
        self.values |= found
        self.most = max(self.most, len(found - {0}))
        if len(found) <= MOST_COLOURS + 1:
            for value in found - self.solid:
                if cv2.erode((values == value).astype(np.uint8), _PATCH, borderValue=0).any():
                    self.solid.add(value)

    def _turn_to_colours(self) -> None:
        """Write the grey values that were found so far as colours."""
        self.values = {_pack_grey(value) for value in self.values}
        self.solid = {_pack_grey(value) for value in self.solid}
        self.coloured = True


def _pack_grey(value: int) -> int:
    return value << 2 * _BITS | value << _BITS | value


def _drop_repeats(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keep the first of equal neighbours: colours cannot be counted as bytes are, and sorting all takes long."""
    flat = values.ravel()
    return flat[np.concatenate(([True], flat[1:] != flat[:-1]))]


def find_coding(survey: ValueSurvey, where: Path, numbered: bool = False) -> Coding:
    """Find what the values of all mask files of a folder mean.

    Args:
        survey: The values.
        where: The folder, for messages.
        numbered: Whether a single value that may be the number of a class is one, and so must be 1.

    Raises:
        DefectError: The values are no classes.
    """
    found = sorted(survey.values - {0})
    if survey.coloured:
        return _find_colours(found, survey, where)
    if len(found) <= 1 and not (numbered and found and 1 < found[0] <= CLASSES):
        return Coding()
    if survey.most == 1 and _INSIDE.issuperset(found):
        return Coding()
    if found == list(range(1, len(found) + 1)) and len(found) <= CLASSES:
        return Coding(tuple(found))
    steps = np.diff([0, *found])
    if 1 < len(found) <= MOST_COLOURS and int(steps.min()) >= _GREY_STEP and survey.solid.issuperset(found):
        return Coding(tuple(found))
    if not numbered or len(found) > MOST_COLOURS:
        raise blurred_values(str(where), sorted(survey.values))
    raise stray_labels(str(where), sorted(survey.values), "K" if len(found) <= CLASSES else f"{CLASSES}")


def _find_colours(found: list[int], survey: ValueSurvey, where: Path) -> Coding:
    if len(found) > MOST_COLOURS or not survey.solid.issuperset(found):
        raise blurred_colours(str(where), len(found), MOST_COLOURS)
    if 0 not in survey.values:
        raise stray_colours(str(where), [show_value(value, True) for value in found])
    return Coding(tuple(found), coloured=True)
