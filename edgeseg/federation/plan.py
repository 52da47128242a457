"""What a federation agrees on (the plan), and all that a site tells about its data before the training (the facts).

The plan comes from the server's options alone. The facts are numbers, hashes and a random name: no word of a site's
data is in them, so that no file, folder, class or patient can be named.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from edgeseg.core.errors import TrainingError
from edgeseg.core.limits import CASES, EPOCHS, MIB
from edgeseg.core.palette import PALETTE
from edgeseg.core.schema import check_options, from_plain, option, parse_json, to_plain
from edgeseg.core.spec import ClassSpec, FindingSpec, InputSpec, OutputSpec
from edgeseg.model.spec import UNetSpec
from edgeseg.training.options import TrainOptions

T = TypeVar("T")
AVERAGE, LOCAL = "average", "local"
# Letters of a message as JSON; the longest holds a line for each of many rounds.
LONGEST = 16 * MIB
_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[0-9a-f]{32}")


# Options of a training that a federation leaves as they are: epochs follow from the rounds, sites train on one device
# and learn masks of grey or colour frames from full masks, and the weights that they begin with come from the server.
NOT_SHARED = (
    "epochs",
    "first_size",
    "schedule",
    "strategy",
    "task",
    "labels",
    "full_masks",
    "encoder",
    "modalities",
    "signed",
    "fusion",
)


@dataclass(frozen=True)
class FederationOptions:
    """How the sites train together."""

    rounds: int = option(20, "Rounds: train at every site, then average.", minimum=1, maximum=EPOCHS)
    local_epochs: int = option(1, "Epochs that every site trains in a round.", minimum=1, maximum=1000)
    proximal: float = option(
        0.0, "FedProx: weight of the squared distance to the weights that the round began with.", minimum=0.0
    )
    batch_norm: str = option(
        AVERAGE,
        "Batch normalisation: average treats it as all weights, local keeps every site's own (FedBN).",
        choices=(AVERAGE, LOCAL),
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.rounds * self.local_epochs > EPOCHS:
            raise ValueError(f"expected at most {EPOCHS} epochs in all, got {self.rounds * self.local_epochs}")

    @property
    def epochs(self) -> int:
        """Count the epochs that a site trains which takes part in every round."""
        return self.rounds * self.local_epochs


@dataclass(frozen=True)
class Plan:
    """What all sites train, the same at every one of them."""

    federation: str
    """A random name, so that what a site kept of another federation is not mixed in."""
    edgeseg: str
    options: TrainOptions
    course: FederationOptions
    classes: tuple[str, ...]
    frame_classes: tuple[str, ...] = ()
    finds: bool = False
    """Whether the network has a finding output."""
    white: int = 65535

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.federation):
            raise ValueError("expected a federation's random name")
        usual = TrainOptions()
        changed = [name for name in NOT_SHARED if getattr(self.options, name) != getattr(usual, name)]
        if changed:
            raise ValueError(f"expected the usual {', '.join(changed)} of a training, which sites do not share")
        OutputSpec(self.class_specs, self.options.activation)
        FindingSpec(self.frame_classes)
        if self.frame_classes and not self.finds:
            raise ValueError("expected a finding output for frame classes")

    @property
    def class_specs(self) -> tuple[ClassSpec, ...]:
        """The classes, with the colours that data of the same names have."""
        return tuple(ClassSpec(name, PALETTE[i % len(PALETTE)]) for i, name in enumerate(self.classes))

    @property
    def output(self) -> OutputSpec:
        """How masks follow from the network's output."""
        return OutputSpec(self.class_specs, self.options.activation)

    @property
    def input(self) -> InputSpec:
        """How a frame is preprocessed."""
        made = self.options.input
        return InputSpec(made.height, made.width, made.colour, denoise=made.denoise, white=self.white)

    @property
    def finding(self) -> FindingSpec | None:
        """The finding output."""
        return FindingSpec(self.frame_classes) if self.finds else None

    @property
    def network(self) -> UNetSpec:
        """Describe the network."""
        finding = self.finding
        return self.options.describe_network(
            self.output.channels, finding.count_channels(len(self.classes)) if finding else 0
        )


@dataclass(frozen=True)
class SiteFacts:
    """What a site says of its data."""

    site: str
    """A random name that the site chose, so that it is known again when it comes back."""
    train: int
    validation: int
    lacking: tuple[int, ...]
    """For each class, the training cases that do not show it."""
    white: int
    """Of its 16-bit images; 0 where it has none."""
    fingerprint: str
    """A hash over the hash of its data."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.site) or not _HASH.fullmatch(self.fingerprint):
            raise ValueError("expected hexadecimal names")
        if not (1 <= self.train <= CASES and 1 <= self.validation <= CASES):
            raise ValueError(f"expected from 1 to {CASES} cases, got {self.train} and {self.validation}")
        if any(not 0 <= count <= self.train for count in self.lacking):
            raise ValueError("expected no more cases without a class than there are")
        if self.white != 0 and not 255 <= self.white <= 65535:
            raise ValueError(f"expected a white from 255 to 65535, got {self.white}")


def write_message(value: Any) -> str:
    """Write a plan or facts as JSON."""
    return json.dumps(to_plain(value), allow_nan=False)


def read_message(cls: type[T], text: object) -> T:
    """Read what `write_message` wrote, from a peer that may send anything.

    Raises:
        ValueError: It is no such message.
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        raise ValueError(f"expected a text of at most {LONGEST} letters")
    return from_plain(cls, parse_json(text))


def blur_fingerprint(fingerprint: str, federation: str) -> str:
    """Hash a data set's fingerprint with the federation's name: two federations cannot be matched by it."""
    return hashlib.sha256(f"{federation}\0{fingerprint}".encode()).hexdigest()


def hash_together(fingerprints: Iterable[str]) -> str:
    """Hash several fingerprints, in any order, into one."""
    return hashlib.sha256("\0".join(sorted(fingerprints)).encode()).hexdigest()


def refuse_other_version(here: str, there: str, who: str) -> None:
    """Refuse a peer of another release: the same options may build another network there."""
    if here != there:
        raise TrainingError(
            f"Expected a {who} with edgeseg {here}, got {there}.",
            "Install the same version at all sites and the server.",
        )
