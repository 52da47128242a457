"""`data check`: read every file of a data folder once, and collect defects, warnings and near-duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.card import SplitSpec
from edgeseg.core.parallel import map_ahead
from edgeseg.core.progress import Advance, ignore
from edgeseg.core.schema import to_plain
from edgeseg.core.spec import MASKS, InputSpec
from edgeseg.data.contradictions import (
    Contradiction,
    PackedMasks,
    find_contradictions,
    pack_masks,
    warn_of_contradictions,
)
from edgeseg.data.dataset import (
    Dataset,
    LabelledImage,
    Survey,
    find_empty_classes,
    find_full_classes,
    read_case,
    view_case,
)
from edgeseg.data.defects import DataWarning, DefectError, marked_outside
from edgeseg.data.duplicates import DuplicatePair, Duplicates, join_groups, make_thumbnail, search_duplicates
from edgeseg.data.layouts.base import or_defect
from edgeseg.data.reading import Case, find_values
from edgeseg.data.split import split_cases
from edgeseg.frame.images import SUFFIXES, choose_white, read_image

# Share of the image's border that an inverted mask covers; heads, hearts and livers that fill an image cover less.
INVERTED_BORDER_SHARE = 0.9
# Share of the image above which a mask is suspicious: in published sets, heads fill 30 to 50% and hearts some 30%.
FILLED_SHARE = 0.8
# Of 20 groups, 3 are tested and 2 validated on (15% and 12%): with fewer, single patients decide.
FEW_GROUPS = 20
CROPPED = "Images are cropped to the ultrasound region that their headers name, as in a stream of such files."
READY, DEFECTS, LEAK = "ready", "defects", "leak"
# Whether data can be split does not depend on these shares.
ANY_SPLIT = SplitSpec(seed=0, validation=0.2, test=0.2)
# Bits of an image whose white must be chosen.
DEEP = 16


@dataclass(frozen=True)
class Marks:
    """The share of the image and of its border that each class of a case covers."""

    stem: str
    group: str
    shares: tuple[float, ...]
    border_shares: tuple[float, ...]


def measure_marks(image: LabelledImage) -> Marks:
    """Measure the shares that the masks of a case cover."""
    return Marks(image.case.stem, image.case.group, image.shares, image.border_shares)


def find_warnings(dataset: Dataset, marks: Sequence[Marks]) -> tuple[DataWarning, ...]:
    """Find suspicious properties of readable cases; warnings of the listing come first."""
    covered = [
        warning
        for number, spec in enumerate(dataset.classes)
        if (warning := _judge_class(spec.name, number, marks)) is not None
    ]
    groups = len({mark.group for mark in marks})
    few = [_few_groups(len(marks), groups)] if 0 < groups < FEW_GROUPS else []
    return (*dataset.warnings, *_find_mixed_regions(dataset), *covered, *few)


def _judge_class(name: str, number: int, marks: Sequence[Marks]) -> DataWarning | None:
    showing = [mark for mark in marks if mark.shares[number] > 0]
    if not showing:
        return None
    share = float(np.median([mark.shares[number] for mark in showing]))
    if np.median([mark.border_shares[number] for mark in showing]) >= INVERTED_BORDER_SHARE:
        stems = tuple(mark.stem for mark in showing if mark.border_shares[number] >= INVERTED_BORDER_SHARE)
        return DataWarning(
            "inverted-masks",
            f"The masks of {name} look inverted: they cover the border of {len(stems)} of {len(showing)} images "
            f"and {share:.0%} of the pixels.",
            "Masks are 0 outside and 255 inside. Look at the contact sheet: --sheet F.png",
            stems,
        )
    if share < FILLED_SHARE:
        return None
    stems = tuple(mark.stem for mark in showing if mark.shares[number] >= FILLED_SHARE)
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


def _find_mixed_regions(dataset: Dataset) -> list[DataWarning]:
    """Warn if some images are cropped to their DICOM ultrasound region and others are not."""
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


@dataclass(frozen=True)
class CaseFacts:
    """Properties of a readable case; `marked` counts the pixels of each class."""

    case: Case
    height: int
    width: int
    bits: int
    low: int
    high: int
    marked: tuple[int, ...]
    values: tuple[int, ...]
    """The values in its mask files, or in its label map if they are no image files."""
    thumbnail: NDArray[np.float32]
    marks: Marks
    packed: PackedMasks
    """Its masks on a common small grid, to be compared with those of near-duplicates."""
    overlapping: bool = False
    """Whether a pixel belongs to several classes."""
    outside: bool = False
    """Whether something is marked outside the DICOM ultrasound region."""


@dataclass(frozen=True)
class ClassBalance:
    """How often a class occurs in the data."""

    name: str
    cases: int
    case_share: float
    pixel_share: float


@dataclass(frozen=True)
class CheckReport:
    """The result of reading every file of a data folder once."""

    dataset: Dataset
    facts: tuple[CaseFacts, ...]
    defects: tuple[DefectError, ...]
    duplicates: Duplicates
    warnings: tuple[DataWarning, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()

    @property
    def pairs(self) -> tuple[DuplicatePair, ...]:
        """List the near-duplicates, the most alike first; of very many only those."""
        return self.duplicates.pairs

    @property
    def leaks(self) -> list[DuplicatePair]:
        """List those of them that may leak from test into training."""
        return [pair for pair in self.pairs if pair.leaks]

    def join_groups(self) -> tuple[Case, ...]:
        """Merge the groups that near-duplicates connect, of the pairs that are not listed as well."""
        return join_groups([fact.case for fact in self.facts], self.duplicates.bridges)

    @property
    def verdict(self) -> str:
        """Return the verdict: ready, defects or leak."""
        return DEFECTS if self.defects else LEAK if self.duplicates.across else READY

    @property
    def balance(self) -> list[ClassBalance]:
        """Compute for each class the share of cases and of pixels that show it."""
        pixels = sum(facts.height * facts.width for facts in self.facts)
        names = [spec.name for spec in self.dataset.classes]
        return [self._weigh(name, number, max(pixels, 1)) for number, name in enumerate(names)]

    @property
    def white(self) -> int | None:
        """Return the white of a training on all 16-bit images; None without any."""
        brightest = [facts.high for facts in self.facts if facts.bits == DEEP]
        return choose_white(brightest) if brightest else None

    def _weigh(self, name: str, number: int, pixels: int) -> ClassBalance:
        marked = [facts.marked[number] for facts in self.facts]
        cases = sum(count > 0 for count in marked)
        return ClassBalance(name, cases, round(cases / max(len(marked), 1), 5), round(sum(marked) / pixels, 6))

    def to_json(self) -> dict[str, Any]:
        """Convert the report to a JSON table."""
        facts = self.facts
        sizes = [fact.case.pixel_size_mm for fact in facts if fact.case.pixel_size_mm is not None]
        return {
            "layout": self.dataset.layout,
            "verdict": self.verdict,
            "sentence": describe_verdict(self),
            "cases": len(facts),
            "groups": len({fact.case.group for fact in facts}),
            "parts": count_values(fact.case.part for fact in facts if fact.case.part),
            "empty": sum(not any(fact.marked) for fact in facts),
            "labels": count_values(fact.case.labels for fact in facts),
            "overlapping": sum(fact.overlapping for fact in facts),
            "sizes": count_values(f"{fact.width}x{fact.height}" for fact in facts),
            "bits": count_values(str(fact.bits) for fact in facts),
            "white": self.white,
            "header_regions": sum(fact.case.region is not None for fact in facts),
            "label_values": count_values(str(value) for fact in facts for value in fact.values),
            "darkest": span([fact.low for fact in facts]),
            "brightest": span([fact.high for fact in facts]),
            "pixel_size_mm": {"known": len(sizes), **(span(sizes) or {})},
            "classes": to_plain(self.balance),
            "near_duplicates": {
                "within": self.duplicates.within,
                "across": self.duplicates.across,
                "pairs": [pair.to_json() for pair in self.pairs],
            },
            "contradictory_labels": [one.to_json() for one in self.contradictions],
            "defects": [defect.to_json() for defect in self.defects],
            "warnings": to_plain(self.warnings),
        }


def describe_verdict(report: CheckReport) -> str:
    """Say in one sentence whether to train on the data, and what to do if not."""
    if report.verdict == LEAK:
        return describe_leak(report.duplicates.across, any(fact.case.part for fact in report.facts))
    if report.verdict == DEFECTS:
        count = len(report.defects)
        told = "1 defect, which stops" if count == 1 else f"{count} defects, each of which stops"
        return f"Not to train on: {told} a training."
    if report.warnings:
        kinds = ", ".join(dict.fromkeys(warning.kind for warning in report.warnings))
        return f"Ready to train on, but look at the warnings first: {kinds}."
    return "Ready to train on."


def describe_leak(pairs: int, given_parts: bool) -> str:
    """Say that training and test may share images, and what to do.

    Args:
        pairs: Number of near-duplicate pairs in different groups or parts.
        given_parts: Whether the publishers of the data chose the parts.
    """
    if given_parts:
        return (
            f"Not to train on yet: {pairs} pairs of near-duplicates stand in different given parts. Import the data "
            "and remove the column part from groups.csv, so that they are divided by group."
        )
    return (
        f"Not to train on yet: {pairs} pairs of near-duplicates stand in different groups, which lets training "
        "and test share them. Write groups that hold them together with --write-groups F.csv, and put the file into "
        "the data folder as groups.csv."
    )


def count_values(values: Iterable[str]) -> dict[str, int]:
    """Count values, the most frequent first."""
    return dict(Counter(values).most_common())


def span(values: list[int] | list[float]) -> dict[str, float] | None:
    """Compute minimum, median and maximum; None without values."""
    if not values:
        return None
    low, median, high = (round(float(value), 6) for value in np.percentile(values, [0, 50, 100]))
    return {"low": low, "median": median, "high": high}


def check_survey(survey: Survey, on_case: Advance = ignore) -> CheckReport:
    """Read all cases of a survey and report on them.

    Args:
        survey: The folder's cases, and the defects of its listing.
        on_case: Called with each case's name when it was read.
    """
    results = []
    for case, result in zip(survey.dataset.cases, map_ahead(_read_facts, survey.dataset.cases), strict=True):
        results.append(result)
        on_case(case.stem)
    facts = tuple(result for result in results if isinstance(result, CaseFacts))
    unreadable = [result for result in results if isinstance(result, DefectError)]
    defects = (*survey.defects, *unreadable, *(_check_classes(survey.dataset, facts) if facts else ()))
    warnings = find_warnings(survey.dataset, [fact.marks for fact in facts])
    outside = [fact.case.stem for fact in facts if fact.outside]
    if outside:
        warnings = (*warnings, marked_outside(outside))
    duplicates = search_duplicates([fact.case for fact in facts], _Thumbnails(facts))
    # a box contradicts no outline
    full = {fact.case.stem: fact.packed for fact in facts if fact.case.labels == MASKS}
    comparable = [pair for pair in duplicates.pairs if {pair.first.stem, pair.second.stem} <= full.keys()]
    found = find_contradictions(comparable, full, survey.dataset.classes)
    warnings = (*warnings, *warn_of_contradictions(found), *_find_same_modalities(facts))
    return CheckReport(survey.dataset, facts, defects, duplicates, warnings, found)


def _find_same_modalities(facts: Sequence[CaseFacts]) -> list[DataWarning]:
    """Find cases of which two modalities are the same picture, as after a copy into the wrong folder."""
    same = []
    for case in (fact.case for fact in facts if fact.case.modalities):
        frame = read_case(case, InputSpec(16, 16, modalities=case.modalities)).frame
        planes = [frame[:, :, number].tobytes() for number in range(len(case.modalities))]
        same += [case.stem] if len({*planes}) < len(planes) else []
    if not same:
        return []
    return [
        DataWarning(
            "same-modalities",
            f"Two modalities are the same picture in {len(same)} of {len(facts)} cases: one adds nothing to the other.",
            "Look whether images were copied into the wrong folder.",
            tuple(same),
        )
    ]


def _check_classes(dataset: Dataset, facts: Sequence[CaseFacts]) -> list[DefectError]:
    """Find the defects that a training refuses after reading everything, in its order."""
    empty = find_empty_classes(dataset, (fact.marked for fact in facts))
    full = find_full_classes(dataset, ((fact.marked, fact.height * fact.width) for fact in facts))
    return [*empty, *full, *_try_split(facts)]


def _read_facts(case: Case) -> CaseFacts | DefectError:
    return or_defect(_describe_case, case)


def _describe_case(case: Case) -> CaseFacts:
    return describe_image(view_case(case))


def describe_image(image: LabelledImage) -> CaseFacts:
    """Measure the properties of a case in memory."""
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
        packed=pack_masks(image.masks),
        overlapping=image.overlapping,
        outside=_marks_outside(image),
    )


def list_values(image: LabelledImage) -> tuple[int, ...]:
    """List the values in a case's masks, as its files have them."""
    pictures = [path for path in image.case.masks if path.suffix.lower() in SUFFIXES]
    masks = [read_image(path) for path in pictures] or [image.labels]
    return tuple(sorted(set().union(*(find_values(mask) for mask in masks))))


def _marks_outside(image: LabelledImage) -> bool:
    """Say whether something is marked outside the DICOM ultrasound region, which is cut off."""
    if image.case.region is None:
        return False
    whole = [np.count_nonzero(read_image(path)) for path in image.case.masks]
    return any(all_pixels > kept for all_pixels, kept in zip(whole, image.marked, strict=True))


def _try_split(facts: Sequence[CaseFacts]) -> list[DefectError]:
    empty = {fact.case.stem: not any(fact.marked) for fact in facts}
    if all(empty.values()):
        return []  # reported as an empty class
    try:
        split_cases([fact.case for fact in facts], empty, ANY_SPLIT)
    except DefectError as error:
        return [error]
    return []


class _Thumbnails:
    """The thumbnails of cases, without a second copy of all of them."""

    def __init__(self, facts: Sequence[CaseFacts]) -> None:
        self._rows = [fact.thumbnail for fact in facts]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        return np.stack([self._rows[number] for number in np.arange(len(self))[key]])
