"""One file that compress made, with what it costs and what it gained."""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.core.stats import Estimate, Percentiles


@dataclass(frozen=True)
class Variant:
    """A row of the comparison; the dice is on the test cases, the choice is made on validation cases."""

    name: str
    file: str
    bytes: int
    gzip_bytes: int
    params: int
    macs: int
    sparsity: float
    dice: Estimate
    dice_drop: Estimate
    validation_dice: float
    latency_ms: Percentiles
    lint: dict[str, str]
