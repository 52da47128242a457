"""Look at labelled images before a training does: read every file once and collect all that is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from edgeseg.core.card import SplitSpec
from edgeseg.core.images import SUFFIXES, read_image
from edgeseg.core.progress import Advance, ignore
from edgeseg.data.case import Case
from edgeseg.data.check_report import CaseFacts, CheckReport
from edgeseg.data.dataset import (
    Dataset,
    LabelledImage,
    Survey,
    find_empty_classes,
    find_full_classes,
    view_case,
)
from edgeseg.data.defects import DefectError, marked_outside
from edgeseg.data.duplicates import DuplicatePair, find_duplicates, make_thumbnail
from edgeseg.data.layouts.base import or_defect
from edgeseg.data.plausibility import find_warnings, measure_marks
from edgeseg.data.reading import find_values
from edgeseg.data.split import split_cases

ANY_SPLIT = SplitSpec(seed=0, validation=0.2, test=0.2)
"""Whether data can be divided does not depend on the shares."""


def check_survey(survey: Survey, on_case: Advance = ignore) -> CheckReport:
    """Read all cases of a survey and report on them.

    Args:
        survey: The folder's cases, and the defects of its listing.
        on_case: Told each case's name when it was read.
    """
    results = [or_defect(partial(_read_facts, on_case=on_case), case) for case in survey.dataset.cases]
    facts = tuple(result for result in results if isinstance(result, CaseFacts))
    unreadable = [result for result in results if isinstance(result, DefectError)]
    defects = (*survey.defects, *unreadable, *(_check_classes(survey.dataset, facts) if facts else ()))
    warnings = find_warnings(survey.dataset, [fact.marks for fact in facts])
    outside = [fact.case.stem for fact in facts if fact.outside]
    if outside:
        warnings = (*warnings, marked_outside(outside))
    return CheckReport(survey.dataset, facts, defects, tuple(_compare(facts)), warnings)


def _check_classes(dataset: Dataset, facts: Sequence[CaseFacts]) -> list[DefectError]:
    """Find what a training refuses once it has read everything, in its order."""
    empty = find_empty_classes(dataset, (fact.marked for fact in facts))
    full = find_full_classes(dataset, ((fact.marked, fact.height * fact.width) for fact in facts))
    return [*empty, *full, *_try_split(facts)]


def _read_facts(case: Case, on_case: Advance) -> CaseFacts:
    on_case(case.stem)
    return describe_image(view_case(case))


def describe_image(image: LabelledImage) -> CaseFacts:
    """Measure a case in memory."""
    frame = image.frame
    return CaseFacts(
        case=image.case,
        height=frame.shape[0],
        width=frame.shape[1],
        bits=frame.dtype.itemsize * 8,
        low=int(frame.min()),
        high=int(frame.max()),
        marked=image.marked,
        values=list_values(image),
        thumbnail=make_thumbnail(frame),
        marks=measure_marks(image),
        overlapping=image.overlapping,
        outside=_marks_outside(image),
    )


def list_values(image: LabelledImage) -> tuple[int, ...]:
    """List the values in a case's masks, as its files have them."""
    pictures = [path for path in image.case.masks if path.suffix.lower() in SUFFIXES]
    masks = [read_image(path) for path in pictures] or [image.labels]
    return tuple(sorted(set().union(*(find_values(mask) for mask in masks))))


def _marks_outside(image: LabelledImage) -> bool:
    """Say whether something is marked outside the region that a header names, where nobody looks."""
    if image.case.region is None:
        return False
    whole = [np.count_nonzero(read_image(path)) for path in image.case.masks]
    return any(all_pixels > kept for all_pixels, kept in zip(whole, image.marked, strict=True))


def _try_split(facts: Sequence[CaseFacts]) -> list[DefectError]:
    empty = {fact.case.stem: not any(fact.marked) for fact in facts}
    if all(empty.values()):
        return []  # told as a class that nothing shows
    try:
        split_cases([fact.case for fact in facts], empty, ANY_SPLIT)
    except DefectError as error:
        return [error]
    return []


def _compare(facts: Sequence[CaseFacts]) -> list[DuplicatePair]:
    if not facts:
        return []
    return find_duplicates([fact.case for fact in facts], np.stack([fact.thumbnail for fact in facts]))
