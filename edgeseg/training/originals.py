"""Where a training's images are: in memory at full size where they fit, else on the network's grid in the cache."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.cache import OFF, VARIABLE, find_cache, open_cache
from edgeseg.core.errors import TrainingError
from edgeseg.core.progress import progress_bar
from edgeseg.core.redact import show_name
from edgeseg.core.spec import AUTO, MASKS, InputSpec
from edgeseg.data.dataset import Dataset, LabelledImage, fingerprint_dataset, read_cases
from edgeseg.data.store import describe_key
from edgeseg.data.stored import open_stored
from edgeseg.training.memory import read_free_mb
from edgeseg.training.options import OWN_LABELS, LabelChoice

# Images of more megabytes than this are not kept in memory, nor are those that take more than this share of what is
# free: the training itself needs memory, too. The variable says another number of megabytes.
MOST_MB, MOST_SHARE = 2048.0, 0.5
BUDGET = "EDGESEG_IMAGE_MB"
# Cases read to estimate the size of all.
SAMPLES = 5
_LOG = logging.getLogger(__name__)
# By their names.
Images = Mapping[str, LabelledImage]


@dataclass(frozen=True)
class OriginalsPlan:
    """The images that are to be read, and what is needed of them."""

    dataset: Dataset
    colour: bool | InputSpec
    """Whether to read frames in colour, or the network's input that they are read for."""
    labels: LabelChoice = OWN_LABELS
    layout: str = ""
    """The layout as it was given, with its options."""
    fingerprint: str = ""
    """Of all images and masks, where it is known."""

    def find_hindrance(self) -> str:
        """Say why the images cannot be kept on disk; empty where they can."""
        if not isinstance(self.colour, InputSpec):
            return "only trainings of one site keep images on disk"
        if any(case.labels != MASKS for case in self.dataset.cases) or self.labels.kind not in (AUTO, MASKS):
            return "images with boxes, points or scribbles must fit into memory"
        return f"the cache is off ({VARIABLE}={OFF})" if find_cache() is None else ""


@dataclass(frozen=True)
class _Estimate:
    """What a few images say of all."""

    least: float
    """Megabytes, if all are as small as the smallest of them."""
    needed: float
    """Megabytes, if all are as large as these on average."""
    deep: bool
    """Whether one of the few has 16 bits."""


def read_images(plan: OriginalsPlan, most: float | None = None, free: float | None = None) -> Images:
    """Read all images into memory or, where they are too many, onto the grid on disk.

    Args:
        plan: The images.
        most: Megabytes that may be kept in memory; None takes EDGESEG_IMAGE_MB, or the default.
        free: Megabytes that are free; None reads them from this machine, where it reports them.
    """
    most = read_budget() if most is None else most
    free = read_free_mb() if free is None else free
    most = min(most, most if free is None else MOST_SHARE * free)
    estimate = _estimate(plan)
    images = _read_all(plan, most) if estimate.needed <= most else None
    if images is not None:
        return images
    hindrance = plan.find_hindrance()
    if not hindrance:
        return _store_all(plan, estimate)
    if free is not None and estimate.least > free:
        raise TrainingError(
            f"Expected at least {estimate.least:,.0f} MB of free memory for the {len(plan.dataset.cases)} images and "
            f"their masks, got {free:,.0f} MB: {hindrance}.",
            "Take smaller images or fewer of them, or a machine with more memory.",
        )
    images = _read_all(plan, math.inf)
    assert images is not None
    return images


def read_budget() -> float:
    """Read how many megabytes of images may be kept in memory."""
    text = os.environ.get(BUDGET, "").strip()
    if not text:
        return MOST_MB
    if not text.isdecimal():
        raise TrainingError(f"Expected whole megabytes in {BUDGET}, got {text[:20]!r}.", f"The default is {MOST_MB:g}.")
    return float(text)


def _estimate(plan: OriginalsPlan) -> _Estimate:
    cases = plan.dataset.cases
    samples = list(read_cases(cases[:: -(-len(cases) // SAMPLES)], plan.colour))
    sizes, count = [_count_mb(image) for image in samples], len(cases)
    return _Estimate(count * min(sizes), count * sum(sizes) / len(sizes), any(image.deep for image in samples))


def _count_mb(image: LabelledImage) -> float:
    return (image.frame.nbytes + sum(mask.nbytes for mask in image.masks)) / 2**20


def _read_all(plan: OriginalsPlan, most: float) -> dict[str, LabelledImage] | None:
    """Read all images into memory; None when they turn out to take more megabytes than they may."""
    cases, images, read = plan.dataset.cases, {}, 0.0
    with progress_bar("Reading images", len(cases)) as advance:
        for image in read_cases(cases, plan.colour, advance):
            images[image.case.stem] = image
            read += _count_mb(image)
            if read > most:
                return None
    return images


def _store_all(plan: OriginalsPlan, estimate: _Estimate) -> Images:
    place, spec, cases = find_cache(), plan.colour, plan.dataset.cases
    assert place is not None
    assert isinstance(spec, InputSpec)
    grids = open_cache(place, plan.dataset.root)
    fingerprint = plan.fingerprint or fingerprint_dataset(plan.dataset)
    key = describe_key(plan.dataset, fingerprint, plan.layout, spec)
    if not estimate.deep:
        # in one go; the white of 16 bits is chosen when all images have been looked at
        key = key.on_grid(spec, deep=False)
    _announce(place, len(cases), estimate.needed, len(cases) * sum(key.row_bytes.values()) / 2**20)
    return open_stored(grids, key, cases)


def _announce(place: Path, count: int, needed: float, size: float) -> None:
    _LOG.info(
        "%d images take %s MB of memory: they are kept on the network's grid in %s (%s MB, for you alone). To remove "
        "them: edgeseg data cache --clear",
        count,
        f"{needed:,.0f}",
        show_name(str(place)),
        f"{size:,.0f}",
    )
