"""What a recipe left of the network, kept beside its file: NETWORKS/NAME.json, and in float as NETWORKS/NAME.tflite."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edgeseg.compress.cut import Network
from edgeseg.compress.variant import KeptChannels
from edgeseg.core.files import write_json
from edgeseg.core.schema import from_plain, to_plain
from edgeseg.model.spec import UNetSpec

NETWORKS = "networks"


@dataclass(frozen=True)
class PrunedNetwork:
    """The spec that builds the smaller network, and what it lost."""

    spec: UNetSpec
    channels: tuple[KeptChannels, ...]
    calibrated: bool = False
    """Whether its file was made by calibration alone, although the recipe trains for int8."""


def describe_pruned(before: Network, after: Network) -> PrunedNetwork:
    """Compare the widths of every convolution."""
    widths = [network.wiring.count_kept(network.wiring.keep_all()) for network in (before, after)]
    order = [layer.name for layer in before.wiring.layers if layer.name in widths[0]]
    return PrunedNetwork(after.spec, tuple(KeptChannels(name, widths[0][name], widths[1][name]) for name in order))


def write_pruned(folder: Path, recipe: str, pruned: PrunedNetwork) -> None:
    """Write the description."""
    write_json(folder / NETWORKS / f"{recipe}.json", to_plain(pruned))


def name_float(folder: Path, recipe: str) -> Path:
    """Name the file of what pruning left, before it is quantised."""
    return folder / NETWORKS / f"{recipe}.tflite"


def read_pruned(folder: Path, recipe: str) -> PrunedNetwork | None:
    """Read the description; None where the recipe removed no channel."""
    path = folder / NETWORKS / f"{recipe}.json"
    if not path.is_file():
        return None
    return from_plain(PrunedNetwork, json.loads(path.read_text(encoding="utf-8")))
