"""One file that compress made, with what it costs and what it gained."""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.core.stats import Estimate, Percentiles


@dataclass(frozen=True)
class LayerError:
    """How far one layer's output is from the float parent's: the rms of the difference by the rms of the output."""

    layer: str
    operator: str
    error: float


@dataclass(frozen=True)
class KeptChannels:
    """How many channels of one convolution were left."""

    layer: str
    before: int
    after: int


@dataclass(frozen=True)
class CaseFigures:
    """The Dice on some of the run's cases, and what is lost of the float parent's."""

    dice: Estimate
    dice_drop: Estimate


@dataclass(frozen=True)
class Variant:
    """A row of the comparison; everything is chosen by the figures on validation cases, those on test cases report."""

    name: str
    file: str
    precision: str
    trained: bool
    """Whether the network was trained further for this file."""
    bytes: int
    gzip_bytes: int
    params: int
    macs: int
    sparsity: float
    operators: dict[str, int]
    dice: Estimate
    """On the test cases, as is the drop."""
    dice_drop: Estimate
    validation_dice: float
    """The mean that `validation` holds, too."""
    validation: CaseFigures
    latency_ms: Percentiles
    lint: dict[str, str]
    layers: tuple[LayerError, ...] = ()
    """In the order they run; empty where the layers cannot be matched with the parent's."""
    channels: tuple[KeptChannels, ...] = ()
    """In the order they run; empty where no channel was removed."""
    kept_float: tuple[str, ...] = ()
    """Layers that the recipe left float inside an int8 file."""
    sparsified: bool = False
    """Whether the recipe set weights to zero."""
    calibrated: bool = False
    """Whether a pruned network was quantised without its recipe's training, which was not better."""
    requested: bool = True
    """Whether it was asked for; plain int8 is made beside recipes that train for int8."""

    @property
    def plain(self) -> bool:
        """Say whether it is the network as it was, in other numbers throughout."""
        return not (self.trained or self.kept_float)

    @property
    def retrained(self) -> bool:
        """Say whether it is the same network after further training, which nothing but better masks can speak for."""
        return self.trained and not (self.channels or self.sparsified)

    def worst_layers(self, count: int) -> tuple[LayerError, ...]:
        """Pick the layers that are farthest from the parent's."""
        return tuple(sorted(self.layers, key=lambda layer: -layer.error)[:count])
