"""Refuse a training that this machine's memory cannot hold, before the system ends it without a word."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from edgeseg.core.errors import TrainingError
from edgeseg.model.keras import tf

KEPT_SHARE = 0.8
"""Of all layers' results, what stays until the way back; measured as 0.84 on `classic` with batches of 2 and 8."""
COPIES = 6
"""Weights, gradients, AdamW's two moments, the average and the twin that is judged."""
FLOAT_BYTES = 4
_MEMINFO = Path("/proc/meminfo")


def estimate_memory(model: Any, batch: int) -> int:
    """Estimate the bytes that a training takes beside the images, rather too few than too many."""
    results = sum(math.prod(layer.output.shape[1:]) for layer in model.layers)
    return int(FLOAT_BYTES * (KEPT_SHARE * batch * results + COPIES * model.count_params()))


def check_memory(model: Any, batch: int) -> None:
    """Refuse a batch that does not fit into what is free; a GPU's memory is left to TensorFlow."""
    free = None if tf.config.list_physical_devices("GPU") else read_free_memory()
    if free is not None:
        refuse_too_large(estimate_memory(model, batch), estimate_memory(model, 1), free, batch)


def refuse_too_large(needed: int, least: int, free: int, batch: int) -> None:
    """Refuse a training that needs more than is free.

    Args:
        needed: What it needs.
        least: What it would need with a batch of 1.
        free: What there is.
        batch: Its batch.
    """
    if needed > free:
        raise TrainingError(
            f"Expected at least {needed / 1e9:.1f} GB of free memory for this network with a batch of {batch}, "
            f"got {free / 1e9:.1f} GB.",
            f"Take a smaller --batch (1 needs {least / 1e9:.1f} GB), --size or --model.",
        )


def read_free_memory() -> int | None:
    """Read how many bytes are free, as Linux counts them; None elsewhere."""
    if not _MEMINFO.is_file():
        return None
    rows = dict(line.split(":", 1) for line in _MEMINFO.read_text(encoding="utf-8").splitlines())
    return 1024 * int(rows["MemAvailable"].split()[0]) if "MemAvailable" in rows else None
