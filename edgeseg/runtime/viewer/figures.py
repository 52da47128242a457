"""What is told of one picture, and travels with it: which frame it is, and how large what is marked in it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeseg.core.spec import ClassSpec
from edgeseg.runtime.areas import measure_areas
from edgeseg.runtime.picture import Picture


@dataclass(frozen=True)
class ClassFigures:
    """One class: its colour as CSS writes it, and its area in the mask that is shown."""

    name: str
    colour: str
    area_px: int
    area_mm2: float | None


@dataclass(frozen=True)
class PictureFigures:
    """What is told of one picture."""

    stream: str
    """Differs from stream to stream."""
    number: int
    """Of the frame that is shown."""
    name: str
    """Of its file, where it has one."""
    mask_number: int
    """Of the frame that the network drew the mask for; an older one where the mask was carried onto this frame."""
    frame_px: tuple[int, int]
    """Width and height."""
    classes: tuple[ClassFigures, ...]


def measure_picture(
    picture: Picture, classes: Sequence[ClassSpec], mm_per_px: float | None, stream: str = ""
) -> PictureFigures:
    """Measure the mask of a picture as it is shown."""
    height, width = picture.labels.shape
    areas = measure_areas(picture.labels, classes, mm_per_px)
    return PictureFigures(
        stream=stream,
        number=picture.number,
        name=picture.name,
        mask_number=picture.mask_number,
        frame_px=(width, height),
        classes=tuple(
            ClassFigures(area.name, write_colour(spec), area.area_px, area.area_mm2)
            for spec, area in zip(classes, areas, strict=True)
        ),
    )


def write_colour(spec: ClassSpec) -> str:
    """Write a colour as CSS does."""
    return "#{:02x}{:02x}{:02x}".format(*spec.colour)
