"""Cases, and how their files become frames and masks; what would be read wrongly is refused."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.spec import LABEL_KINDS, MASKS, InputSpec, Region
from edgeseg.data.defects import (
    MASK_VALUES,
    DefectError,
    drawn_in_transparency,
    jpeg_masks,
    stray_labels,
    stray_values,
    unlike_modalities,
    wrong_size,
)
from edgeseg.data.weak_labels import WeakLabels
from edgeseg.frame.images import SUFFIXES, has_transparency, is_jpeg, read_bytes, read_image
from edgeseg.frame.modalities import decode_sign, describe_grid

Frame = NDArray[Any]
Mask = NDArray[np.uint8]
CHANNELS = (1, 3, 4)
_COLOURS = 3
Reading = tuple[Frame, tuple[Mask, ...]]
GIVEN_PARTS = ("train", "val", "test")
# Relative difference of width and height up to which a pixel is square.
_SQUARE = 0.01
# From a tenth of a micrometre, finer than acoustic microscopes, to a pixel as large as a torso is thick.
PIXEL_MM = (1e-4, 100.0)
# A head that is measured: from a fetus of a few weeks (some 20 mm) to well beyond any animal's.
CIRCUMFERENCE_MM = (1.0, 10_000.0)


def read_pair(case: Case, colour: bool) -> Reading:
    """Read an image and one mask file for each class."""
    frame = read_image(case.image, colour)
    return frame, tuple(read_mask(path, frame) for path in case.masks)


def read_modalities(case: Case, colour: bool) -> Reading:
    """Read the modalities of a case as the channels of one colour frame, and one mask file for each class."""
    frame = join_channels(case, colour)
    return frame, tuple(read_mask(path, frame) for path in case.masks)


def join_channels(case: Case, colour: bool, read: Callable[[Path], Frame] = read_image) -> Frame:
    """Read the modalities of a case as the channels of one frame.

    In colour, three become red, green and blue; of two or four, the first is shown.

    Args:
        case: The case.
        colour: Whether a colour frame is wanted.
        read: Reads the grey image of one modality.
    """
    if not colour and not case.stacked:
        raise _refuse_mixing(case)
    files = (case.image, *case.others)
    channels = [
        _read_channel(path, name in case.signed, read) for path, name in zip(files, case.modalities, strict=True)
    ]
    for path, channel in zip(case.others, channels[1:], strict=True):
        if describe_grid(channel) != describe_grid(channels[0]):
            raise unlike_modalities(str(path), describe_grid(channels[0]), describe_grid(channel))
    if colour:
        return np.stack(channels[::-1] if len(channels) == _COLOURS else channels[:1] * _COLOURS, axis=-1)
    return channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)


def _read_channel(path: Path, signed: bool, read: Callable[[Path], Frame]) -> Frame:
    # a volume has no colours: its values are the channel
    if signed and path.suffix.lower() in SUFFIXES:
        return decode_sign(read_image(path, colour=True))
    return read(path)


def _refuse_mixing(case: Case) -> DataError:
    return DataError(
        f"Expected a network for the modalities {', '.join(case.modalities)}, got one for grey, which would mix them.",
        "Train on this folder: its modalities become channels. For three of them also with --colour rgb.",
    )


def fit_case(case: Case, spec: InputSpec) -> Case:
    """Choose from a case the modalities that a network takes, in its order.

    Raises:
        DataError: The case lacks one, or has several where the network takes an ordinary image.
    """
    if not case.modalities:
        if spec.is_stack:
            raise DataError(
                f"Expected the modalities {', '.join(spec.modalities)} of every case, got ordinary images.",
                "Put the other modalities beside them: images_NAME/ with the same file names.",
            )
        return case
    if not spec.modalities:
        if spec.in_colour:
            return case
        raise _refuse_mixing(case)
    files = dict(zip(case.modalities, (case.image, *case.others), strict=True))
    lacking = [name for name in spec.modalities if name not in files]
    if lacking:
        raise DataError(
            f"Expected the modalities {', '.join(spec.modalities)}, got {', '.join(case.modalities)}.",
            "Name the folders or channels as the model does, or train again.",
        )
    first, *others = (files[name] for name in spec.modalities)
    return replace(
        case, image=first, others=tuple(others), modalities=spec.modalities, signed=spec.signed, stacked=True
    )


def read_mask(path: Path, frame: Frame) -> Mask:
    """Read a mask of its frame's size as 0 and 1."""
    values = read_image(path)
    if values.min() == values.max() and has_transparency(read_bytes(path)):
        raise drawn_in_transparency(str(path))
    try:
        return binary_mask(values, frame, str(path))
    except DefectError as error:
        if error.kind == MASK_VALUES and is_jpeg(path):
            raise jpeg_masks(str(path)) from error
        raise


def binary_mask(values: NDArray[Any], frame: Frame, where: str) -> Mask:
    """Convert a mask of 0 and one other value to 0 and 1.

    Args:
        values: The stored mask.
        frame: The frame whose size it must have.
        where: The file, for messages.
    """
    check_size(values, frame, where)
    _check_numbers(values, where)
    marked = values != 0
    value = values.flat[int(marked.argmax())]
    if not np.isfinite(value) or np.any(marked & (values != value)):
        raise stray_values(where, np.unique(values))
    return np.asarray(marked, dtype=np.uint8)


def find_values(values: NDArray[Any]) -> set[int]:
    """Find the distinct integers in a mask or label map."""
    if values.dtype == np.uint8:
        # counting bytes is ten times faster than np.unique, which sorts them
        return {int(value) for value in np.flatnonzero(np.bincount(values.ravel(), minlength=256))}
    return {int(value) for value in np.unique(values)}


def split_labels(labels: NDArray[Any], frame: Frame, classes: int, where: str) -> tuple[Mask, ...]:
    """Split a label map into one mask for each class."""
    check_size(labels, frame, where)
    _check_numbers(labels, where)
    whole = labels.dtype.kind != "f" or not np.any(labels % 1)
    if labels.size and not (whole and 0 <= labels.min() <= labels.max() <= classes):
        raise stray_labels(where, np.unique(labels), str(classes))
    return tuple((labels == number).astype(np.uint8) for number in range(1, classes + 1))


def check_size(values: NDArray[Any], frame: Frame, where: str) -> None:
    """Refuse a mask that has not its frame's size."""
    if values.shape != frame.shape[:2]:
        raise wrong_size(where, frame.shape[:2], values.shape)


def _check_numbers(values: NDArray[Any], where: str) -> None:
    if values.dtype.kind not in "buif":
        raise DataError(f"Expected numbers in the mask {where}, got {values.dtype}.", "Save masks as uint8.")


def crop(image: NDArray[Any], region: Region | None) -> NDArray[Any]:
    """Crop a frame or mask to a header's region; a copy, so that the rest is freed."""
    if region is None:
        return image
    return image[region.y : region.y + region.height, region.x : region.x + region.width].copy()


def to_channels(frame: Frame, colour: bool, where: str = "it") -> Frame:
    """Convert a grey or RGB frame to grey, or to BGR."""
    if frame.ndim not in (2, 3) or (frame.ndim == 3 and frame.shape[2] not in CHANNELS):
        raise DataError(
            f"Expected a grey or RGB image in {where}, got the shape {frame.shape}.",
            "Save images as (height, width) or (height, width, 3).",
        )
    grey = frame.ndim == 2 or frame.shape[2] == 1
    flat = frame.reshape(frame.shape[:2]) if grey else frame
    if grey:
        return np.asarray(cv2.cvtColor(flat, cv2.COLOR_GRAY2BGR)) if colour else flat
    return np.asarray(cv2.cvtColor(flat, cv2.COLOR_RGB2BGR if colour else cv2.COLOR_RGB2GRAY))


class CaseReader(Protocol):
    """A function that reads a case: the frame, and a mask of its size for each class."""

    def __call__(self, case: Case, colour: bool) -> Reading:
        """Read the files of a case."""


class WeakReader(Protocol):
    """A function that reads the weak labels of a case, given the height and width of its image."""

    def __call__(self, case: Case, size: tuple[int, int]) -> WeakLabels | None:
        """Read the labels; None where the masks are full after all."""


@dataclass(frozen=True)
class Case:
    """One labelled image: its files, and its group (patient, exam or clip), which a split never divides."""

    stem: str
    image: Path
    masks: tuple[Path, ...]
    """The files of its masks; `read` knows how they make up the classes."""
    group: str
    others: tuple[Path, ...] = ()
    """Further files of the image or its masks."""
    modalities: tuple[str, ...] = ()
    """Names of the modalities in the channels of its frame, red first; empty for an ordinary image."""
    signed: tuple[str, ...] = ()
    """Those of them that are decoded as signed colour."""
    stacked: bool = False
    """Whether a network with these modalities reads it, in the network's order (`fit_case`)."""
    part: str = ""
    """The part (train, val, test) that the publishers of the data chose; empty if they did not."""
    label: str = ""
    """What the whole frame is said to show, such as benign or malignant; empty if nobody said."""
    pixel_size_mm: float | None = None
    """Millimetres per pixel at the image's own size, if known and equal in both directions."""
    head_circumference_mm: float | None = None
    """Measured by hand, if known: a physical check of a segmentation."""
    region: Region | None = None
    """The DICOM ultrasound region (tissue) of the stored pixels, if the header has one; only this part is read."""
    read: CaseReader = field(default=read_pair, compare=False, repr=False)
    labels: str = MASKS
    """What is drawn: masks (outlines, or nothing to find), boxes, points or scribbles."""
    read_weak: WeakReader | None = field(default=None, compare=False, repr=False)
    """Reads what boxes, points or scribbles leave open; None for masks."""

    @property
    def files(self) -> tuple[Path, ...]:
        """List the files that the case is read from."""
        return (self.image, *self.masks, *self.others)

    def __post_init__(self) -> None:
        if self.part not in ("", *GIVEN_PARTS):
            raise ValueError(f"expected the part to be one of {', '.join(GIVEN_PARTS)} or empty, got {self.part!r}")
        if self.labels not in LABEL_KINDS or (self.labels == MASKS) != (self.read_weak is None):
            raise ValueError(f"expected one of {', '.join(LABEL_KINDS)}, and a reader of weak labels for all but masks")
        if self.pixel_size_mm is not None and not is_within(self.pixel_size_mm, PIXEL_MM):
            raise ValueError(f"expected a pixel size {describe_range(PIXEL_MM)} mm, got {self.pixel_size_mm}")


def square_pixel(width_mm: float, height_mm: float) -> float | None:
    """Return the size of a square pixel of plausible size; None for others."""
    square = is_within(width_mm, PIXEL_MM) and abs(width_mm - height_mm) <= _SQUARE * width_mm
    return width_mm if square else None


def plain_name(stem: str) -> str:
    """Bring an image's name to the form in which names from files and tables are compared."""
    # macOS stores accents decomposed (NFD), most spreadsheets write them composed (NFC)
    return unicodedata.normalize("NFC", stem.strip())


def is_within(value: float, limits: tuple[float, float]) -> bool:
    """Say whether a length lies within limits; NaN does not."""
    return limits[0] <= value <= limits[1]


def describe_range(limits: tuple[float, float]) -> str:
    """Write limits for a message."""
    return f"from {limits[0]:g} to {limits[1]:g}"
