"""One labelled image: its files, its group and how it is read; what splits, training and evaluation hand around."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgeseg.core.spec import Region
from edgeseg.data.reading import Reading, read_pair

GIVEN_PARTS = ("train", "val", "test")
SQUARE = 0.01
"""By which share the sides of a pixel may differ."""
PIXEL_MM = (1e-4, 100.0)
"""From a tenth of a micrometre, finer than acoustic microscopes, to a pixel as large as a torso is thick."""
CIRCUMFERENCE_MM = (1.0, 10_000.0)
"""A head that is measured: from a fetus of a few weeks (some 20 mm) to well beyond any animal's."""


class CaseReader(Protocol):
    """Reads a case: the frame, and a mask of its size for each class."""

    def __call__(self, case: Case, colour: bool) -> Reading:
        """Read the files of a case."""


@dataclass(frozen=True)
class Case:
    """One labelled image: the files it is made of, and the group it must not be parted from."""

    stem: str
    image: Path
    masks: tuple[Path, ...]
    """The files that its masks are made from; how many make one class is the reader's business."""
    group: str
    others: tuple[Path, ...] = ()
    """Further files that the image or its masks are read from."""
    modalities: tuple[str, ...] = ()
    """Names of the modalities that are the channels of its frame, red first; grey would mix them."""
    part: str = ""
    """The part that the data's makers put it in, where they did."""
    pixel_size_mm: float | None = None
    """Millimetres per pixel at the image's own size, where it is known and the same in both directions."""
    head_circumference_mm: float | None = None
    """What was measured by hand, where it is known: a physical check for a segmentation."""
    region: Region | None = None
    """Which part of the stored pixels is the ultrasound picture, where a header says so; only that part is read."""
    read: CaseReader = field(default=read_pair, compare=False, repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """List the files that the case is read from."""
        return (self.image, *self.masks, *self.others)

    def __post_init__(self) -> None:
        if self.part not in ("", *GIVEN_PARTS):
            raise ValueError(f"expected the part to be one of {', '.join(GIVEN_PARTS)} or empty, got {self.part!r}")
        if self.pixel_size_mm is not None and not is_within(self.pixel_size_mm, PIXEL_MM):
            raise ValueError(f"expected a pixel size {describe_range(PIXEL_MM)} mm, got {self.pixel_size_mm}")


def square_pixel(width_mm: float, height_mm: float) -> float | None:
    """Give the size of a pixel that is as wide as high and can be true; others have no one size."""
    square = is_within(width_mm, PIXEL_MM) and abs(width_mm - height_mm) <= SQUARE * width_mm
    return width_mm if square else None


def is_within(value: float, limits: tuple[float, float]) -> bool:
    """Say whether a length lies within limits; one that is no number does not."""
    return limits[0] <= value <= limits[1]


def describe_range(limits: tuple[float, float]) -> str:
    """Write limits for a message."""
    return f"from {limits[0]:g} to {limits[1]:g}"
