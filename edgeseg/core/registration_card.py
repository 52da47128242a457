"""The card of a file that registers: it stands where a segmenting file's card stands, and says `"task": "register"`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeseg.core.card import DISCLAIMER, SCHEMA, Card, card_from_table, check_fields, parse_card, refuse_card
from edgeseg.core.limits import GOLDEN_PAIRS
from edgeseg.core.schema import SchemaError, from_plain
from edgeseg.core.spec import InputSpec, Quantisation, check_choice, check_quantisation
from edgeseg.core.stats import Estimate

TASK = "register"
REGISTRATION_USE = "Research on the registration of ultrasound images on edge devices."
# The channels of the network's input, the two frames, and of its output, dx and dy.
FRAMES, DIRECTIONS = 2, 2


@dataclass(frozen=True)
class RegistrationProvenance:
    """Where a registering file comes from; never a path, a host or a person's name."""

    data_fingerprint: str
    clips: int
    frames: int
    seed: int
    recipe: str
    model: str
    edgeseg: str
    libraries: dict[str, str]


@dataclass(frozen=True)
class RegistrationMetrics:
    """What a file did on clips that it has not learned from, in pixels of its input."""

    clips: int
    pairs: int
    error_px: Estimate
    """Mean distance from the true place, of frames that were deformed by a known motion."""
    before_px: Estimate
    """The same where nothing is moved."""


@dataclass(frozen=True)
class RegistrationCard:
    """All that a device needs to know to register with a file, and a person to trust it."""

    name: str
    input: InputSpec
    """Of each of the two frames."""
    input_quantisation: Quantisation
    output_quantisation: Quantisation
    reach_px: float
    """The displacement that an output of 1 stands for, in pixels of the input; 0.5 is none, and 0 the opposite."""
    provenance: RegistrationProvenance
    parameters: int
    macs: int
    lint: dict[str, str]
    sha256: str = ""
    golden_pairs: int = 0
    metrics: RegistrationMetrics | None = None
    task: str = TASK
    schema: int = SCHEMA
    intended_use: str = REGISTRATION_USE
    disclaimer: str = DISCLAIMER

    def __post_init__(self) -> None:
        check_choice("task", self.task, (TASK,))
        check_choice("colour", self.input.colour, ("grey",))
        if not (math.isfinite(self.reach_px) and 0 < self.reach_px <= max(self.input.height, self.input.width)):
            raise ValueError(f"expected a reach above 0 and up to the input's side, got {self.reach_px:g}")

    @property
    def input_channels(self) -> int:
        """Count the channels of the input tensor: one for each frame."""
        return FRAMES

    @property
    def output_channels(self) -> int:
        """Count the channels of the output tensor: dx and dy."""
        return DIRECTIONS

    @property
    def finding(self) -> None:
        """A registering network has no finding output."""
        return

    @property
    def finding_quantisation(self) -> None:
        """A registering network has no finding output."""
        return

    @property
    def finding_channels(self) -> int:
        """A registering network has no finding output."""
        return 0


AnyCard = Card | RegistrationCard


def any_card_from_json(text: str, where: str) -> AnyCard:
    """Read a card of either kind.

    Args:
        text: The JSON text.
        where: The file it came from, for messages.
    """
    data = parse_card(text, where)
    if "task" not in data:
        return card_from_table(data, where)
    try:
        card = from_plain(RegistrationCard, data, allow_unknown=True)
        _check_card(card)
    except ValueError as error:
        kind = "field" if isinstance(error, SchemaError) else "value"
        raise refuse_card(where, f"a wrong {kind}: {error}") from error
    return card


def _check_card(card: RegistrationCard) -> None:
    check_quantisation("input", card.input_quantisation)
    check_quantisation("output", card.output_quantisation)
    ranges: list[tuple[str, float, float]] = [
        ("golden_pairs", card.golden_pairs, GOLDEN_PAIRS),
        ("parameters", card.parameters, 1e12),
        ("macs", card.macs, 1e15),
    ]
    if card.metrics is not None:
        side = max(card.input.height, card.input.width)
        ranges += [("clips", card.metrics.clips, 1e9), ("pairs", card.metrics.pairs, 1e9)]
        ranges += [("error_px", card.metrics.error_px.mean, side), ("before_px", card.metrics.before_px.mean, side)]
    check_fields(card.name, card.sha256, ranges)
