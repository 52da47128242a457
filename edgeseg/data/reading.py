"""Turn files and arrays into frames and masks, and refuse what would be read wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.images import read_image
from edgeseg.data.defects import stray_labels, stray_values, unlike_modalities, wrong_size

if TYPE_CHECKING:
    from edgeseg.data.case import Case

Frame = NDArray[Any]
Mask = NDArray[np.uint8]
Reading = tuple[Frame, tuple[Mask, ...]]


def read_pair(case: Case, colour: bool) -> Reading:
    """Read an image and one mask file for each class."""
    frame = read_image(case.image, colour)
    return frame, tuple(read_mask(path, frame) for path in case.masks)


def read_modalities(case: Case, colour: bool) -> Reading:
    """Read the modalities of a case as the channels of one colour frame, and one mask file for each class."""
    if not colour:
        raise DataError(
            f"Expected a network for colour, whose channels are the modalities {', '.join(case.modalities)}, "
            "got one for grey, which would mix them.",
            "Train with --colour rgb.",
        )
    channels = [read_image(path) for path in (case.image, *case.others)]
    for path, channel in zip(case.others, channels[1:], strict=True):
        if _describe_grid(channel) != _describe_grid(channels[0]):
            raise unlike_modalities(str(path), _describe_grid(channels[0]), _describe_grid(channel))
    frame = np.stack(channels[::-1], axis=-1)
    return frame, tuple(read_mask(path, frame) for path in case.masks)


def _describe_grid(image: Frame) -> str:
    return f"{image.shape[1]}x{image.shape[0]} of {8 * image.dtype.itemsize} bit"


def read_mask(path: Path, frame: Frame) -> Mask:
    """Read a mask of its frame's size as 0 and 1."""
    return binary_mask(read_image(path), frame, str(path))


def binary_mask(values: NDArray[Any], frame: Frame, where: str) -> Mask:
    """Turn 0 and one other value into 0 and 1.

    Args:
        values: The mask as it was stored.
        frame: The frame whose size it must have.
        where: Where it was stored, for messages.
    """
    _check_size(values, frame, where)
    marked = values[values != 0]
    if marked.size and marked.min() != marked.max():
        raise stray_values(where, np.unique(values))
    return np.asarray(values != 0, dtype=np.uint8)


def split_labels(labels: NDArray[Any], frame: Frame, classes: int, where: str) -> tuple[Mask, ...]:
    """Turn a label map into one mask for each class."""
    _check_size(labels, frame, where)
    if labels.size and not 0 <= labels.min() <= labels.max() <= classes:
        raise stray_labels(where, np.unique(labels), str(classes))
    return tuple((labels == number).astype(np.uint8) for number in range(1, classes + 1))


def _check_size(values: NDArray[Any], frame: Frame, where: str) -> None:
    if values.shape != frame.shape[:2]:
        raise wrong_size(where, frame.shape[:2], values.shape)


def to_channels(frame: Frame, colour: bool) -> Frame:
    """Give a grey or RGB frame as grey or, on request, as BGR."""
    grey = frame.ndim == 2 or frame.shape[2] == 1
    flat = frame.reshape(frame.shape[:2]) if grey else frame
    if grey:
        return np.asarray(cv2.cvtColor(flat, cv2.COLOR_GRAY2BGR)) if colour else flat
    return np.asarray(cv2.cvtColor(flat, cv2.COLOR_RGB2BGR if colour else cv2.COLOR_RGB2GRAY))
