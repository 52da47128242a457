"""The card of a model file: its metadata, written as edgeseg.json inside the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from edgeseg.core.decision import Decision
from edgeseg.core.errors import ModelFileError
from edgeseg.core.limits import GOLDEN_PAIRS, NAME_LETTERS, TEXT_LETTERS
from edgeseg.core.redact import show_name
from edgeseg.core.schema import SchemaError, from_plain, parse_json, to_plain
from edgeseg.core.spec import FindingSpec, InputSpec, OutputSpec, Quantisation, check_quantisation
from edgeseg.core.stats import Estimate

SCHEMA = 2
# From this schema on, a file has a seal over card, golden pairs and network.
SEALED_SCHEMA = 2
# At least one fold each to train, validate and test; 10,000 trainings of the smallest network take a year.
FEWEST_FOLDS, MOST_FOLDS = 3, 10_000
INTENDED_USE = "Research on the segmentation of ultrasound images on edge devices."
DISCLAIMER = "edgeseg is research software and no medical device: it must not be used for diagnosis or treatment."
MAPPED, UNCERTAIN, UNMAPPED = "mapped", "uncertain", "not mapped"
OK = "ok"
# Targets that run integer operators only.
INTEGER_TARGETS = ("edgetpu",)
# Name of the operator into which the Edge TPU compiler packs all that it maps.
COMPILED = "edgetpu-custom-op"


@dataclass(frozen=True)
class SplitSpec:
    """How the cases were split into training, validation and test; enough to repeat the split."""

    seed: int
    validation: float
    test: float
    layout: str | None = None
    """The layout of the data folder, if it was given."""
    group_pattern: str | None = None
    """The regular expression that found the group in each name; None: groups.csv did."""
    folds: int = 0
    """Number of folds of a group k-fold cross-validation; 0 for a single split."""
    fold: int = 0
    """Which fold is the test part, counted from 0."""

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
    """Hash of the resulting parts, to notice changed groups; empty in older files."""
    header_region: bool = False
    """Whether training images were cropped to the DICOM ultrasound region of their headers, as in a stream."""
    labels: dict[str, int] = field(default_factory=dict)
    """How many training images had masks, boxes, points or scribbles; empty where all had masks."""


@dataclass(frozen=True)
class Metrics:
    """Dice of the float parent and of this file, on the same test cases."""

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
    """Of the network's bytes."""
    golden_pairs: int = 0
    """How many the file holds; cards of schema 1 do not say."""
    metrics: Metrics | None = None
    finding: FindingSpec | None = None
    """None where the network has masks as its only output."""
    finding_quantisation: Quantisation | None = None
    decision: Decision | None = None
    """None in files of older versions: they have no operating point."""
    schema: int = SCHEMA
    intended_use: str = INTENDED_USE
    disclaimer: str = DISCLAIMER

    @property
    def input_channels(self) -> int:
        """Count the channels of the input tensor."""
        return self.input.channels

    @property
    def output_channels(self) -> int:
        """Count the channels of the masks."""
        return self.output.channels

    @property
    def finding_channels(self) -> int:
        """Count the channels of the finding output, one per class and one per frame class; 0 without that output."""
        return 0 if self.finding is None else self.finding.count_channels(len(self.output.classes))


def card_to_json(card: Any) -> str:
    """Write a card as JSON, whichever task its file is for.

    Raises:
        ValueError: It holds NaN or infinity, which no reader would take.
    """
    return json.dumps(to_plain(card), indent=2, sort_keys=True, allow_nan=False) + "\n"


def card_from_json(text: str, where: str) -> Card:
    """Read a card and refuse one that this version does not understand.

    Args:
        text: The JSON text.
        where: The file it came from, for messages.
    """
    return card_from_table(parse_card(text, where), where)


def parse_card(text: str, where: str) -> dict[str, Any]:
    """Parse the JSON of a card of any kind, and refuse one of another schema."""
    try:
        data = _clean(parse_json(text))
    except ValueError as error:
        raise refuse_card(where, f"one that does not parse: {error}") from error
    if not isinstance(data, dict):
        raise refuse_card(where, type(data).__name__)
    schema = data.get("schema")
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        raise ModelFileError(
            f"Expected a card of schema {SCHEMA} in {where}, got schema {str(schema)[:40]}.",
            "Update edgeseg on this machine, or write the file again with this version.",
        )
    return data


def card_from_table(data: dict[str, Any], where: str) -> Card:
    """Read the card of a segmenting file from its parsed JSON."""
    try:
        card = from_plain(Card, data, allow_unknown=True)
        _check_card(card)
    except ValueError as error:
        kind = "field" if isinstance(error, SchemaError) else "value"
        raise refuse_card(where, f"a wrong {kind}: {error}") from error
    return card


def refuse_card(where: str, found: str) -> ModelFileError:
    """Build the error of a card that cannot be used."""
    return ModelFileError(
        f"Expected a complete card in {where}, got {found}.", "Write the file again with edgeseg compress."
    )


def _clean(value: Any) -> Any:
    """Make every text printable, since it ends on terminals and pages, and refuse texts beyond the limit."""
    if isinstance(value, str):
        if len(value) > TEXT_LETTERS:
            raise ValueError(f"expected texts of at most {TEXT_LETTERS} letters, got one of {len(value)}")
        return show_name(value)
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [item if type(item) is float else _clean(item) for item in value]
    return value


def _check_card(card: Card) -> None:
    """Refuse impossible values; input and output are checked in `edgeseg.core.spec`."""
    for name, quantisation in (("input", card.input_quantisation), ("output", card.output_quantisation)):
        check_quantisation(name, quantisation)
    if (card.finding is None) != (card.finding_quantisation is None):
        raise ValueError("expected finding and finding_quantisation both or neither, got one of them")
    if card.finding_quantisation is not None:
        check_quantisation("finding", card.finding_quantisation)
    check_decision(card)
    check_fields(card.name, card.sha256, _list_ranges(card))


def check_fields(name: str, sha256: str, ranges: Iterable[tuple[str, float, float]]) -> None:
    """Refuse impossible values of fields that the cards of all files have.

    Args:
        name: Of the file.
        sha256: Of its network.
        ranges: The fields that must lie between 0 and a limit: name, value, limit.

    Raises:
        ValueError: One of them cannot be.
    """
    if not 0 < len(name) <= NAME_LETTERS:
        raise ValueError(f"expected a name of 1 to {NAME_LETTERS} letters, got {len(name)}")
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"expected a hash of 64 digits, got {sha256[:80]!r}")
    for what, found, most in ranges:
        if not 0 <= found <= most:
            raise ValueError(f"expected {what} from 0 to {most:g}, got {found:g}")


def check_decision(card: Card) -> None:
    """Refuse a decision that is for other classes or other channels.

    Raises:
        ValueError: It is.
    """
    decision = card.decision
    if decision is None:
        return
    names, known = [rule.name for rule in decision.classes], {spec.name for spec in card.output.classes}
    if len(set(names)) < len(names) or not known.issuperset(names):
        found = show_name(", ".join(names)[:200])
        raise ValueError(f"expected decisions for {', '.join(sorted(known))}, each once, got {found}")
    for what, count, wanted in (
        ("temperatures", len(decision.temperatures), card.output.channels),
        ("finding_temperatures", len(decision.finding_temperatures), card.finding_channels),
    ):
        if count not in (0, wanted):
            raise ValueError(f"expected {wanted} {what}, one for each channel, or none, got {count}")
    if card.output.draws_background and len(set(decision.temperatures)) > 1:
        raise ValueError("expected one temperature for all channels of a softmax, got different ones")


def _list_ranges(card: Card) -> Iterator[tuple[str, float, float]]:
    """List the fields that must lie between 0 and a limit: name, value, limit."""
    split = card.provenance.split
    yield "golden_pairs", card.golden_pairs, GOLDEN_PAIRS
    yield "parameters", card.parameters, 1e12
    yield "macs", card.macs, 1e15
    yield "split.validation", split.validation, 1
    yield "split.test", split.test, 1
    yield "split.folds", split.folds, 1e6
    yield "split.fold", split.fold, max(0, split.folds - 1)
    if card.metrics is not None:
        yield "metrics.cases", card.metrics.cases, 1e12
        for estimate in (card.metrics.parent_dice, card.metrics.dice):
            yield from (
                ("metrics.dice", value, 1) for value in (estimate.mean, estimate.median, *(estimate.ci95 or ()))
            )
        drop = card.metrics.drop
        yield from (("metrics.drop", abs(value), 1) for value in (drop.mean, drop.median, *(drop.ci95 or ())))


def read_verdict(line: str) -> str:
    """Parse the verdict of the linter on a card: mapped, uncertain or not mapped."""
    if line == OK:
        return MAPPED
    return UNCERTAIN if line.startswith(f"{UNCERTAIN}: ") else UNMAPPED
