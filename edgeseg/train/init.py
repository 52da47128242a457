"""Start an encoder from another run, so that what was learned on one organ helps on another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeseg.core.errors import RunError
from edgeseg.model.unet import build_unet
from edgeseg.model.weightfile import read_weights
from edgeseg.train.run import WEIGHTS, RunRecord, read_run

ENCODER = ("stem", "down")


def start_from(model: Any, run: Path) -> int:
    """Copy the encoder's weights of a finished run into a model.

    Args:
        model: The model that is to be trained.
        run: The run to learn from; its encoder must fit, its size and its classes may differ.

    Returns:
        How many layers were copied.
    """
    source = load_network(run, read_run(run))
    given = {layer.name: layer.get_weights() for layer in source.layers if layer.name.startswith(ENCODER)}
    wanted = [layer for layer in model.layers if layer.name.startswith(ENCODER) and layer.weights]
    for layer in wanted:
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if [weight.shape for weight in given.get(layer.name, [])] != shapes:
            raise RunError(
                f"Expected a run whose encoder fits this model, got {run}, which differs at the layer {layer.name}.",
                "Start from a run of the same --model, --stem, --convolution and --colour.",
            )
        layer.set_weights(given[layer.name])
    return len(wanted)


def load_network(run: Path, record: RunRecord) -> Any:
    """Build a run's network with its best weights, and refuse those that are damaged."""
    model = build_unet(record.spec)
    read_weights(run / WEIGHTS, model)
    return model
