"""What a network is made of, stage by stage: shapes, parameters and multiplications."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

_STAGE = re.compile(r"stem|down\d+|up\d+|head")
_KERNELS = ("kernel", "depthwise_kernel")


@dataclass(frozen=True)
class StageSummary:
    """One stage of a network: the shape it ends with, its parameters as Keras counts them, its MACs for one image."""

    name: str
    height: int
    width: int
    channels: int
    parameters: int
    macs: int


def summarise_stages(model: Any) -> tuple[StageSummary, ...]:
    """Summarise a U-Net's stages in the order they run."""
    stages: dict[str, list[Any]] = {}
    for layer in model.layers:
        found = _STAGE.match(layer.name)
        if found:
            stages.setdefault(found.group(), []).append(layer)
    return tuple(_summarise_stage(name, layers) for name, layers in stages.items())


def _summarise_stage(name: str, layers: list[Any]) -> StageSummary:
    _, height, width, channels = layers[-1].output_shape
    parameters = sum(layer.count_params() for layer in layers)
    return StageSummary(name, height, width, channels, parameters, sum(_count_macs(layer) for layer in layers))


def _count_macs(layer: Any) -> int:
    kernel = next((getattr(layer, name) for name in _KERNELS if hasattr(layer, name)), None)
    if kernel is None:
        return 0
    return count_places(layer) * int(math.prod(kernel.shape))


def count_places(layer: Any) -> int:
    """Count how often a kernel is laid on an image: once for a pixel it gives, transposed for one it reads."""
    shape = layer.input_shape if type(layer).__name__ == "Conv2DTranspose" else layer.output_shape
    return int(shape[1] * shape[2])
