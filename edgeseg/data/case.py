"""One labelled image: its files, its group and how it is read; what splits, training and evaluation hand around."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgeseg.data.reading import Reading, read_pair

GIVEN_PARTS = ("train", "val", "test")
SQUARE = 0.01
"""By which share the sides of a pixel may differ."""


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
    read: CaseReader = field(default=read_pair, compare=False, repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """List the files that the case is read from."""
        return (self.image, *self.masks, *self.others)

    def __post_init__(self) -> None:
        if self.part not in ("", *GIVEN_PARTS):
            raise ValueError(f"expected the part to be one of {', '.join(GIVEN_PARTS)} or empty, got {self.part!r}")
        if self.pixel_size_mm is not None and self.pixel_size_mm <= 0:
            raise ValueError(f"expected a pixel size above 0 mm, got {self.pixel_size_mm}")


def square_pixel(width_mm: float, height_mm: float) -> float | None:
    """Give the size of a pixel that is as wide as high; others have no one size."""
    return width_mm if width_mm > 0 and abs(width_mm - height_mm) <= SQUARE * width_mm else None
