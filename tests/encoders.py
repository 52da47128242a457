"""Trainings whose weights stay what they were, to see where they started."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeseg.model.spec import ENCODER
from edgeseg.training.options import TrainOptions
from edgeseg.training.run import read_run
from edgeseg.training.start import load_network

STANDING_STILL = TrainOptions("nano", 32, epochs=1, learning_rate=1e-12)


def read_encoder(run: Path) -> list[NDArray[np.float32]]:
    """Read what a finished run's encoder has learned; statistics of its images are left out."""
    layers = load_network(run, read_run(run)).layers
    return [w.numpy() for layer in layers if layer.name.startswith(ENCODER) for w in layer.trainable_weights]
