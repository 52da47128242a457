"""Which cases a model is judged on; the networks of a cross-validation judge every case without having seen it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeseg.core.errors import DataError, UnknownNameError
from edgeseg.core.modelfile import ModelFile
from edgeseg.data.dataset import Dataset, fingerprint_dataset, open_dataset, view_case
from edgeseg.data.split import PARTS, list_splits, refuse_other_split
from edgeseg.evaluation.classes import Renaming, arrange_dataset
from edgeseg.evaluation.score import PickedCases, Thresholds, list_thresholds, pick_cases
from edgeseg.inference.ensemble import Ensemble, EnsembleSegmenter
from edgeseg.inference.segmenter import Segmenter

OUT_OF_FOLD = "out-of-fold"


def pick_judged(
    segmenter: Segmenter,
    root: Path,
    part: str | None = None,
    layout: str | None = None,
    group_pattern: str | None = None,
    renamed: Renaming | None = None,
) -> PickedCases:
    """Pick the cases to judge a model on, as `pick_cases` does.

    On the data of its cross-validation an ensemble judges all cases, each by the network whose fold tested it: the
    others have trained on it, or chosen their best epoch by it.

    Args:
        segmenter: The model.
        root: The data folder.
        part: train, val, test or all; None chooses.
        layout: The layout of the folder; None detects it.
        group_pattern: Finds the group in each name; on the training data the card's pattern is used.
        renamed: Classes with another name in the data.
    """
    if not isinstance(segmenter, EnsembleSegmenter):
        return pick_cases(segmenter.card, root, part, layout, group_pattern, renamed=renamed)
    if part is not None and part not in PARTS:
        raise UnknownNameError("part", part, PARTS)
    provenance = segmenter.card.provenance
    dataset = open_dataset(root, layout, group_pattern)
    if fingerprint_dataset(dataset) != provenance.data_fingerprint:
        return pick_cases(segmenter.card, root, part, layout, group_pattern, renamed=renamed)
    if part in ("train", "val"):
        raise DataError(
            f"Expected all cases of the data that an ensemble was trained on, got the part {part}, which every fold "
            "has for itself.",
            "Leave --split out: every case is judged by the network that has not seen it.",
        )
    if group_pattern != provenance.split.group_pattern:
        dataset = open_dataset(root, layout, provenance.split.group_pattern)
    dataset = arrange_dataset(dataset, segmenter.card.output.classes, renamed)
    segmenter.judge_out_of_fold(find_judges(segmenter.ensemble, dataset))
    return PickedCases(OUT_OF_FOLD, dataset.cases, frozenset(case.stem for case in dataset.cases))


def find_judges(ensemble: Ensemble, dataset: Dataset) -> dict[str, int]:
    """Find for every case the network whose fold tested it, counted from 0.

    Args:
        ensemble: The networks of a cross-validation.
        dataset: The data they were trained on; groups that were changed since are refused.
    """
    # the split is stratified by empty cases, so it can be repeated only with all masks read
    empty = {case.stem: not view_case(case).labels.any() for case in dataset.cases}
    splits = list_splits(dataset.cases, empty, ensemble.card.provenance.split)
    for model, split in zip(ensemble.models, splits, strict=True):
        refuse_other_split(dataset.root, split, model.card.provenance.split_fingerprint)
    return {case.stem: number for number, split in enumerate(splits) for case in split.test}


def list_judged_thresholds(segmenter: Segmenter) -> Thresholds:
    """List the operating points by which a model's cases were decided (`pick_judged`)."""
    if isinstance(segmenter, EnsembleSegmenter) and segmenter.judges_out_of_fold:
        return share_thresholds(segmenter.ensemble.models)
    return list_thresholds(segmenter.card)


def share_thresholds(models: Sequence[ModelFile]) -> Thresholds:
    """List the classes for which each network has an operating point of its own; no threshold holds for all cases."""
    points = [list_thresholds(model.card) for model in models]
    return {name: None for name in points[0] if all(name in point for point in points)}
