"""Labels in doubt: cases whose label a confident network contradicts that had not seen them, or a near-duplicate's.

A wrong label costs a training more than a hard one, and a person finds it in seconds once told where to look
(Northcutt et al., "Confident Learning", 2021). Nothing is changed or left out here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.decision import FOUND
from edgeseg.core.files import write_rows
from edgeseg.core.progress import Advance, ignore
from edgeseg.core.spec import ClassSpec, OutputSpec
from edgeseg.data.contradictions import LABELS, Contradiction, PackedMasks, find_contradictions, pack_masks
from edgeseg.data.dataset import LabelledImage
from edgeseg.data.duplicates import make_thumbnail, search_duplicates
from edgeseg.data.reading import Case
from edgeseg.data.sheets import (
    PER_PAGE,
    Legend,
    Tile,
    can_write,
    count_pages,
    name_page,
    number_case,
    write_pages,
)
from edgeseg.evaluation.overlays import PREDICTION, TRUTH, GetImage, make_tile, mark_case
from edgeseg.frame.postprocess import SCORE_ONE
from edgeseg.inference.segmenter import Segmentation, Segmenter

LOOK_FIRST, LOOK_FIRST_SHEET = "look-first.csv", "look-first.png"
ELSEWHERE, MISSED, UNLABELLED = "marked elsewhere", "nothing marked", "marked, label empty"
CONTRADICTION = "contradicts a near-duplicate"
COLUMNS = ("rank", "stem", "group", "class", "reason", "confidence", "near_duplicate", "overlap", "doubt")
# A network that is less sure than this says nothing against a label.
LEAST_DOUBT = 0.5
# How likely a label is wrong that a near-duplicate's contradicts. Below 1: what a network says as well must count.
_WRONG_LABEL, _WRONG_MASK = 0.5, 0.9


@dataclass(frozen=True)
class Disagreement:
    """A class of one case of which network and label say the opposite."""

    name: str
    reason: str
    confidence: float
    """How sure the network is: of its mask, or that there is none."""


@dataclass(frozen=True)
class LabelDoubt:
    """A case whose label a person should look at."""

    case: Case
    disagreement: Disagreement | None = None
    contradiction: Contradiction | None = None

    @property
    def doubt(self) -> float:
        """Rate the doubt from 0 to 1: the label is right only if the network and the near-duplicate's label are not."""
        against = 0.0 if self.disagreement is None else self.disagreement.confidence
        twin = 0.0 if self.contradiction is None else _rate(self.contradiction)
        return 1.0 - (1.0 - against) * (1.0 - twin)

    @property
    def near_duplicate(self) -> str:
        """Name the other case of the contradiction; empty without one."""
        if self.contradiction is None:
            return ""
        return next((stem for stem in self.contradiction.stems if stem != self.case.stem), "")

    def to_row(self, rank: int) -> tuple[str, ...]:
        """List the cells of its row in look-first.csv."""
        against, twin = self.disagreement, self.contradiction
        reasons = ([against.reason] if against else []) + ([CONTRADICTION] if twin else [])
        names = ([against.name] if against else []) + ([twin.name] if twin else [])
        confidence = "" if against is None else f"{against.confidence:.3f}"
        overlap = "" if twin is None else f"{twin.overlap:.3f}"
        row = ("; ".join(reasons), confidence, self.near_duplicate, overlap, f"{self.doubt:.3f}")
        return (str(rank), self.case.stem, self.case.group, names[0], *row)


def _rate(contradiction: Contradiction) -> float:
    """Rate a contradiction from 0 to 1; of two frame labels one is wrong, of two masks both may be."""
    if contradiction.kind == LABELS:
        return _WRONG_LABEL
    return _WRONG_MASK * (1.0 - contradiction.overlap)


@dataclass
class LabelReview:
    """Collects what a review of labels needs of every case, so that images need not stay in memory."""

    output: OutputSpec
    cases: list[Case] = field(default_factory=list)
    thumbnails: list[NDArray[np.float32]] = field(default_factory=list)
    packed: dict[str, PackedMasks] = field(default_factory=dict)
    disagreements: dict[str, Disagreement] = field(default_factory=dict)

    def add(self, image: LabelledImage, result: Segmentation) -> None:
        """Note a case, and what a network that has not seen it says of it."""
        self.cases.append(image.case)
        self.thumbnails.append(make_thumbnail(image.frame))
        self.packed[image.case.stem] = pack_masks(image.masks)
        found = find_disagreements(image, result, self.output)
        if found:
            self.disagreements[image.case.stem] = max(found, key=lambda one: one.confidence)

    def rank(self) -> tuple[LabelDoubt, ...]:
        """Rank the doubtful labels, the most doubtful first."""
        twins = self._find_twins()
        doubts = [
            LabelDoubt(case, self.disagreements.get(case.stem), twins.get(case.stem))
            for case in self.cases
            if case.stem in self.disagreements or case.stem in twins
        ]
        sure = [one for one in doubts if one.doubt >= LEAST_DOUBT]
        return tuple(sorted(sure, key=lambda one: (-one.doubt, one.case.stem)))

    def _find_twins(self) -> dict[str, Contradiction]:
        """Find the worst contradiction of each case."""
        if not self.cases:
            return {}
        pairs = search_duplicates(self.cases, np.stack(self.thumbnails)).pairs
        worst: dict[str, Contradiction] = {}
        for one in find_contradictions(pairs, self.packed, self.output.classes):
            for stem in one.stems:
                worst.setdefault(stem, one)
        return worst


def find_disagreements(image: LabelledImage, result: Segmentation, output: OutputSpec) -> list[Disagreement]:
    """Compare a label with what a network says: masks that do not touch, and found ones where nothing is labelled.

    Args:
        image: The case.
        result: Of a network that has not seen it.
        output: Of its card.
    """
    found = [
        _compare(number, spec, truth, result, output)
        for number, (spec, truth) in enumerate(zip(output.classes, image.masks, strict=True))
    ]
    return [one for one in found if one is not None]


def _compare(
    number: int, spec: ClassSpec, truth: NDArray[np.uint8], result: Segmentation, output: OutputSpec
) -> Disagreement | None:
    finding, mask = result.findings[number], result.labels == number + 1
    if not truth.any():
        # a doubtful mask is no statement against the label
        return Disagreement(spec.name, UNLABELLED, finding.confidence or 0.0) if finding.state == FOUND else None
    if np.any(mask & (truth > 0)):
        return None
    if mask.any():
        return Disagreement(spec.name, ELSEWHERE, finding.confidence or 0.0)
    return Disagreement(spec.name, MISSED, 1.0 - _presence(number, finding.probability, result, output))


def _presence(number: int, probability: float | None, result: Segmentation, output: OutputSpec) -> float:
    """Give the probability that a class is there: the finding output's, or the highest score."""
    if probability is not None:
        return probability
    return float(result.scores[:, :, number + output.draws_background].max()) / SCORE_ONE


def review_labels(
    segmenter: Segmenter, images: Iterable[LabelledImage], on_case: Advance = ignore
) -> tuple[LabelDoubt, ...]:
    """Find the labels in doubt, the most doubtful first.

    Args:
        segmenter: An ensemble that judges out of fold, or a model that has not seen the cases.
        images: The cases.
        on_case: Called with each case's name.
    """
    review = LabelReview(segmenter.card.output)
    for image in images:
        review.add(image, segmenter.for_case(image.case.stem).segment(image.frame))
        on_case(image.case.stem)
    return review.rank()


def write_label_doubts(folder: Path, segmenter: Segmenter, doubts: Sequence[LabelDoubt], get_image: GetImage) -> None:
    """Write the list, and pages of its cases with true and predicted masks.

    Args:
        folder: Where to write.
        segmenter: The model that judged.
        doubts: Ranked.
        get_image: Returns the image of a doubt by its index.
    """
    write_rows(folder / LOOK_FIRST, COLUMNS, [one.to_row(rank) for rank, one in enumerate(doubts, start=1)])
    pages = count_pages(len(doubts))
    tiles = (
        _draw_tile(segmenter, rank, one, get_image(rank - 1))
        for rank, one in enumerate(doubts[: pages * PER_PAGE], start=1)
    )
    classes = segmenter.card.output.classes
    write_pages(
        [folder / name_page(Path(LOOK_FIRST_SHEET), number).name for number in range(1, pages + 1)],
        tiles,
        lambda page: Legend(f"labels in doubt, page {page + 1} of {pages}", tuple(classes), TRUTH, PREDICTION),
    )


def _draw_tile(segmenter: Segmenter, rank: int, doubt: LabelDoubt, image: LabelledImage) -> Tile:
    twin, against = doubt.near_duplicate, doubt.disagreement
    said = "" if against is None else f"{against.reason} {against.confidence:.2f}"
    like = f"like {twin}" if can_write(twin) else "has a near-duplicate"
    lines = (number_case(rank, doubt.case.stem), said or like, *([like] if said and twin else []))
    return make_tile(image, mark_case(segmenter, image), segmenter.card.output.classes, *lines)
