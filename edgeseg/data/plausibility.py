"""Labelled images that can be trained on and yet look wrong: `data check` and the start of a training tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeseg.data.dataset import Dataset, LabelledImage
from edgeseg.data.defects import DataWarning

FRAMED = 0.9
"""An inverted mask covers the image's border; heads, hearts and livers that fill an image leave some of it."""
FILLED = 0.8
"""In published sets, heads fill 30 to 50% of an image and hearts some 30%; even cropped organs leave a fifth."""
FEW_GROUPS = 20
"""Of so many groups, 3 are tested on and 2 validate (15% and 12%): with fewer, single patients decide."""


CROPPED = "Images are cropped to the ultrasound region that their headers name, as in a stream of such files."


@dataclass(frozen=True)
class Marks:
    """What the masks of one case cover: the share of the image, and the share of its border, for each class."""

    stem: str
    group: str
    shares: tuple[float, ...]
    framed: tuple[float, ...]


def measure_marks(image: LabelledImage) -> Marks:
    """Measure what the masks of a case cover."""
    pixels = image.masks[0].size
    return Marks(image.case.stem, image.case.group, tuple(count / pixels for count in image.marked), image.framed)


def find_warnings(dataset: Dataset, marks: Sequence[Marks]) -> tuple[DataWarning, ...]:
    """Find what looks wrong about readable cases, and add what was found when they were listed."""
    covered = [
        warning
        for number, spec in enumerate(dataset.classes)
        if (warning := _judge_class(spec.name, number, marks)) is not None
    ]
    groups = len({mark.group for mark in marks})
    few = [_few_groups(len(marks), groups)] if 0 < groups < FEW_GROUPS else []
    return (*dataset.warnings, *_tell_regions(dataset), *covered, *few)


def _judge_class(name: str, number: int, marks: Sequence[Marks]) -> DataWarning | None:
    showing = [mark for mark in marks if mark.shares[number] > 0]
    if not showing:
        return None
    share = float(np.median([mark.shares[number] for mark in showing]))
    if np.median([mark.framed[number] for mark in showing]) >= FRAMED:
        stems = tuple(mark.stem for mark in showing if mark.framed[number] >= FRAMED)
        return DataWarning(
            "inverted-masks",
            f"The masks of {name} look inverted: they cover the border of {len(stems)} of {len(showing)} images "
            f"and {share:.0%} of the pixels.",
            "Masks are 0 outside and 255 inside. Look at the contact sheet: --sheet F.png",
            stems,
        )
    if share < FILLED:
        return None
    stems = tuple(mark.stem for mark in showing if mark.shares[number] >= FILLED)
    return DataWarning(
        "filling-masks",
        f"The masks of {name} cover {share:.0%} of the pixels of an image, in the median.",
        "Look at the contact sheet (--sheet F.png): a network that marks everything would look good on such data.",
        stems,
    )


def _few_groups(cases: int, groups: int) -> DataWarning:
    return DataWarning(
        "few-groups",
        f"{cases} images in {groups} groups are few: so few are validated and tested on that single ones decide.",
        f"Give at least {FEW_GROUPS} patients or clips, or judge by cross-validation (train --folds).",
    )


def _tell_regions(dataset: Dataset) -> list[DataWarning]:
    """Say where some images are cropped to their header's region and others are not."""
    cropped = [case.stem for case in dataset.cases if case.region is not None]
    if not cropped or len(cropped) == len(dataset.cases):
        return []
    return [
        DataWarning(
            "mixed-regions",
            f"{len(cropped)} of {len(dataset.cases)} images are cropped to the ultrasound region that their headers "
            "name, the others name none and are used whole.",
            "Look at the contact sheet (--sheet F.png): screens with and without their frame do not mix well.",
            tuple(case.stem for case in dataset.cases if case.region is None),
        )
    ]
