"""Refuse a training that this machine's memory cannot hold, before the system ends it without a word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edgeseg.core.errors import TrainingError
from edgeseg.data.dataset import Case, read_cases
from edgeseg.deploy.machine import Machine

KEPT_SHARE = 0.8
"""Of all layers' results, what stays until the way back; measured as 0.84 on `classic` with batches of 2 and 8."""
COPIES = 6
"""Weights, gradients, AdamW's two moments, the average and the twin that is judged."""
FLOAT_BYTES = 4
SAMPLES = 5
"""Of so many cases, spread over all, the smallest one stands for the others."""


def check_images(cases: Sequence[Case], colour: bool) -> None:
    """Refuse cases that do not fit into what is free when all are read, where the system tells that."""
    free = Machine().read_memory_mb("MemAvailable")
    if free is None:
        return
    samples = read_cases(cases[:: -(-len(cases) // SAMPLES)], colour)
    least = min(image.frame.nbytes + sum(mask.nbytes for mask in image.masks) for image in samples)
    needed = len(cases) * least / 2**20
    if needed > free:
        raise TrainingError(
            f"Expected at least {needed:,.0f} MB of free memory for the {len(cases)} images and their masks, "
            f"got {free:,.0f} MB.",
            "Take smaller images or fewer of them, or a machine with more memory.",
        )


def estimate_memory(model: Any, batch: int) -> float:
    """Estimate the megabytes that a training takes beside the images, rather too few than too many."""
    parameters: int = model.count_params()
    results: int = sum(math.prod(layer.output.shape[1:]) for layer in model.layers)
    return FLOAT_BYTES * (KEPT_SHARE * batch * results + COPIES * parameters) / 2**20


def check_memory(model: Any, batch: int) -> None:
    """Refuse a batch that does not fit into what is free, where the system tells that."""
    free = Machine().read_memory_mb("MemAvailable")
    if free is not None:
        refuse_too_large(estimate_memory(model, batch), estimate_memory(model, 1), free, batch)


def refuse_too_large(needed: float, least: float, free: float, batch: int) -> None:
    """Refuse a training that needs more megabytes than are free.

    Args:
        needed: What it needs.
        least: What it would need with a batch of 1.
        free: What there is.
        batch: Its batch.
    """
    if needed > free:
        raise TrainingError(
            f"Expected at least {needed:,.0f} MB of free memory for this network with a batch of {batch}, "
            f"got {free:,.0f} MB.",
            f"Take a smaller --batch (1 needs {least:,.0f} MB), --size or --model.",
        )
