"""Where a mask is decided by little: every score's distance from the decision, in steps of the network's own output.

The device computes these numbers anyway. One step is the smallest difference that an int8 output can have; another
backend, another quantisation or a little noise moves scores by a few steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.card import Card
from edgeseg.core.spec import Quantisation
from edgeseg.explanation.targets import Probe, Target
from edgeseg.frame.postprocess import SCORE_ONE, tensor_to_scores

# Widths of the band, in steps.
BANDS = (4, 16, 32)
_CODES = 256


@dataclass(frozen=True)
class Band:
    """The mask's area if all scores moved by so many steps, in pixels of the frame."""

    steps: int
    least_px: int
    most_px: int

    @property
    def px(self) -> int:
        """Give the area that so many steps decide."""
        return self.most_px - self.least_px


@dataclass(frozen=True)
class Margin:
    """How far a class's scores are from the decision."""

    step: float
    """One step as a probability, before calibration; 1/256 for networks that compute in floats."""
    area_px: int
    """Of the mask on the network's grid, scaled to the frame, before small regions are dropped."""
    bands: tuple[Band, ...]
    steps: NDArray[np.int16]
    """Of every score, on the network's output grid without padding: 0 and above is marked, -1 lacks one step."""


def measure_margin(probe: Probe, target: Target) -> Margin:
    """Measure a class's margin on the unchanged frame."""
    card = probe.card
    codes, step = _count_steps(probe.ask_raw(), card.output_quantisation)
    steps = _find_margin(codes, card, target.number)
    region = probe.placement.region
    scale = region.width * region.height / steps.size

    def count(least: int) -> int:
        return round(float((steps >= least).sum()) * scale)

    bands = tuple(Band(width, count(width), count(-width)) for width in BANDS)
    return Margin(step, count(0), bands, np.asarray(steps, np.int16))


def _count_steps(raw: NDArray[Any], quantisation: Quantisation) -> tuple[NDArray[np.int32], float]:
    """Number the outputs in steps from 0; floats in 1/256, as their scores are."""
    if quantisation.dtype in ("int8", "uint8"):
        lowest = -128 if quantisation.dtype == "int8" else 0
        return raw.astype(np.int32) - lowest, quantisation.scale
    return tensor_to_scores(raw[None], quantisation).astype(np.int32), 1 / SCORE_ONE


def _find_margin(codes: NDArray[np.int32], card: Card, number: int) -> NDArray[np.int32]:
    """Count the steps to the decision: the threshold, the best other class, or the nearer of both."""
    channel = number + card.output.draws_background
    own = codes[:, :, channel]
    others = np.delete(codes, channel, axis=2)
    # the first class wins a tie
    ahead = np.arange(others.shape[2]) < channel
    rival = np.where(ahead, others + 1, others).max(axis=2, initial=0)
    if card.output.draws_background:
        return np.asarray(own - rival, np.int32)
    return np.asarray(np.minimum(own - _find_first_marked(card, channel), own - rival), np.int32)


def _find_first_marked(card: Card, channel: int) -> int:
    """Find the lowest step whose calibrated score lies above the threshold."""
    temperatures = () if card.decision is None else card.decision.temperatures
    quantisation = card.output_quantisation
    if quantisation.dtype in ("int8", "uint8"):
        lowest = -128 if quantisation.dtype == "int8" else 0
        ladder = (np.arange(_CODES) + lowest).astype(quantisation.dtype)
    else:
        quantisation, ladder = Quantisation(), np.arange(_CODES, dtype=np.float32) / SCORE_ONE
    columns = np.repeat(ladder[None, :, None, None], card.output.channels, axis=3)
    scores = tensor_to_scores(np.ascontiguousarray(columns), quantisation, temperatures)[:, 0, channel]
    marked = scores > int(card.output.threshold * SCORE_ONE + 0.5)
    return int(marked.argmax()) if marked.any() else _CODES
