"""The card: what a model file says about itself, written as edgeseg.json inside the file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from edgeseg.core.errors import ModelFileError
from edgeseg.core.schema import MisfitError, from_plain, to_plain
from edgeseg.core.spec import InputSpec, OutputSpec, Quantisation
from edgeseg.core.stats import Estimate

SCHEMA = 1
FEWEST_FOLDS, MOST_FOLDS = 3, 10_000
"""One fold each to train, validate and test; so many trainings are a year's work of the smallest network."""
INTENDED_USE = "Research on the segmentation of ultrasound images on edge devices."
DISCLAIMER = "edgeseg is research software and no medical device: it must not be used for diagnosis or treatment."


@dataclass(frozen=True)
class SplitSpec:
    """How the cases were divided, enough to divide them again."""

    seed: int
    validation: float
    test: float
    layout: str | None = None
    """How the files lay, where it was named."""
    group_pattern: str | None = None
    """What found the group in each name, where it was not groups.csv."""
    folds: int = 0
    """Into how many folds the cases were divided for cross-validation; 0 for a plain split."""
    fold: int = 0
    """Which fold tests, counted from 0."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"expected a seed of at least 0, got {self.seed}")
        if not (self.validation >= 0.0 and self.test >= 0.0 and self.validation + self.test < 1.0):
            raise ValueError(f"expected shares that leave cases to train on, got {self.validation} and {self.test}")
        if self.folds not in (0, *range(FEWEST_FOLDS, MOST_FOLDS + 1)):
            raise ValueError(f"expected {FEWEST_FOLDS} to {MOST_FOLDS} folds, or 0 for none, got {self.folds}")
        if not 0 <= self.fold < max(1, self.folds):
            raise ValueError(f"expected a fold of the {self.folds}, counted from 0, got {self.fold}")


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from; never a path, a host or a person's name."""

    data_fingerprint: str
    split: SplitSpec
    seed: int
    recipe: str
    model: str
    edgeseg: str
    libraries: dict[str, str]
    split_fingerprint: str = ""
    """What came of the split, to notice changed groups; empty in files that were written before it was kept."""


@dataclass(frozen=True)
class Metrics:
    """Dice of the float parent and of this very file, on the same test cases."""

    cases: int
    parent_dice: Estimate
    dice: Estimate
    drop: Estimate


@dataclass(frozen=True)
class Card:
    """All that a device needs to know to run a model file, and a person to trust it."""

    name: str
    input: InputSpec
    input_quantisation: Quantisation
    output: OutputSpec
    output_quantisation: Quantisation
    provenance: Provenance
    parameters: int
    macs: int
    lint: dict[str, str]
    sha256: str = ""
    metrics: Metrics | None = None
    schema: int = SCHEMA
    intended_use: str = INTENDED_USE
    disclaimer: str = DISCLAIMER


def card_to_json(card: Card) -> str:
    """Write a card as JSON."""
    return json.dumps(to_plain(card), indent=2, sort_keys=True) + "\n"


def card_from_json(text: str, where: str) -> Card:
    """Read a card and refuse one that this version does not understand.

    Args:
        text: The JSON text.
        where: The file it came from, for messages.
    """
    data = _parse(text, where)
    schema = data.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise ModelFileError(
            f"Expected a card of schema {SCHEMA} in {where}, got schema {schema!r}.",
            "Update edgeseg on this machine, or write the file again with this version.",
        )
    try:
        return from_plain(Card, data, allow_unknown=True)
    except ValueError as error:
        kind = "field" if isinstance(error, MisfitError) else "value"
        raise ModelFileError(
            f"Expected a complete card in {where}, got a wrong {kind}: {error}.",
            "Write the file again with edgeseg compress.",
        ) from error


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ModelFileError(
            f"Expected a card in JSON in {where}, got what does not parse: {error}.",
            "Write the file again with edgeseg compress.",
        ) from error
    if not isinstance(data, dict):
        raise ModelFileError(f"Expected a card in {where}, got {type(data).__name__}.", "Write the file again.")
    return data
