"""Pick the cases a model may be judged on, and judge it on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.card import Card
from edgeseg.core.errors import DataError, UnknownNameError
from edgeseg.core.modelfile import ModelFile
from edgeseg.data.dataset import Case, fingerprint_dataset, open_dataset, read_cases, view_case
from edgeseg.data.split import PARTS, divide_cases, refuse_other_split
from edgeseg.evaluate.classes import Renaming, arrange_dataset
from edgeseg.evaluate.score import ScoredCase, score_cases
from edgeseg.runtime.segmenter import Segmenter


@dataclass(frozen=True)
class PickedCases:
    """Cases to judge on, and the name of the part they are."""

    part: str
    cases: tuple[Case, ...]


def pick_cases(
    card: Card,
    root: Path,
    part: str | None,
    layout: str | None = None,
    group_pattern: str | None = None,
    own_part: str = "test",
    renamed: Renaming | None = None,
) -> PickedCases:
    """Pick cases: on the data the model was trained on its own test part, on other data all of them.

    Args:
        card: The model's card, which says how its data were divided.
        root: The data folder.
        part: train, val, test or all; None leaves it open.
        layout: How the files lie; None finds out.
        group_pattern: What finds the group in each name; on the model's own data what the card says comes first.
        own_part: The part that is taken of the model's own data where none is named.
        renamed: Classes of the model that go by another name in the data.
    """
    if part is not None and part not in PARTS:
        raise UnknownNameError("part", part, PARTS)
    dataset = open_dataset(root, layout, group_pattern)
    own = fingerprint_dataset(dataset) == card.provenance.data_fingerprint
    if own and group_pattern != card.provenance.split.group_pattern:
        dataset = open_dataset(root, layout, card.provenance.split.group_pattern)
    dataset = arrange_dataset(dataset, card.output.classes, renamed)
    chosen = part or (own_part if own else "all")
    if chosen == "all":
        return PickedCases("all", dataset.cases)
    if not own:
        raise DataError(
            f"Expected the data the model was trained on for the part {chosen}, got other data in {root}.",
            "Judge on all of it: --split all",
        )
    empty = {case.stem: not view_case(case).labels.any() for case in dataset.cases}
    split = divide_cases(dataset.cases, empty, card.provenance.split)
    refuse_other_split(root, split, card.provenance.split_fingerprint)
    return PickedCases(chosen, split.part(chosen))


def score_part(model: ModelFile, root: Path, part: str, layout: str | None = None) -> list[ScoredCase]:
    """Score a model on a part of the data it was trained on."""
    cases = pick_cases(model.card, root, part, layout).cases
    return score_cases(Segmenter(model), read_cases(cases, model.card.input.in_colour))
