"""Go on with a compression that was killed: every file that was finished stays, if the question is still the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeseg.compression.channels import Network, wire_network
from edgeseg.compression.gate import KeptChannels
from edgeseg.compression.recipe import Recipe
from edgeseg.core.errors import RunError
from edgeseg.core.files import refuse_taken, staged_folder, write_json
from edgeseg.core.schema import from_plain, read_json_table, to_plain
from edgeseg.evaluation.classes import Renaming
from edgeseg.model.keras import read_weights, write_weights
from edgeseg.model.spec import UNetSpec
from edgeseg.model.unet import build_unet
from edgeseg.training.run import COMPRESSION, PLAN, RECORD, WEIGHTS, find_partial, read_plan

FOLDER = "unfinished"
STEP_RECORD = "step.json"
NETWORKS = "networks"


def begin_plan(
    folder: Path, run: Path, recipes: Sequence[Recipe], teacher: Path | None, renamed: Renaming | None = None
) -> None:
    """Write down what is to be made, or compare it with what an interrupted compression was to make."""
    plan: dict[str, Any] = {
        "run": fingerprint_run(run),
        "teacher": fingerprint_run(teacher) if teacher is not None else None,
        "recipes": to_plain(recipes),
        **({"map": dict(renamed)} if renamed else {}),
    }
    path = folder / PLAN
    if not path.is_file():
        write_json(path, plan)
        return
    before = read_plan(folder)
    changed = [key for key in sorted({*plan, *before}) if before.get(key) != plan.get(key)]
    if changed:
        raise RunError(
            f"Expected the same {' and '.join(changed)} as the interrupted compression in {folder}, got another.",
            "Give what it was begun with, or begin again with --overwrite.",
        )


@contextmanager
def open_folder(out: Path, overwrite: bool = False, resume: bool = False) -> Iterator[Path]:
    """Let the result's folder grow; when it is interrupted, its finished files stay for the next time.

    Args:
        out: The final folder.
        overwrite: Whether what stands there may be replaced.
        resume: Whether to go on with what an interruption left.
    """
    if not resume:
        refuse_taken(out, overwrite, "compression")
    else:
        resume = find_partial(out, COMPRESSION).expect(COMPRESSION)
    with staged_folder(out, overwrite, keep_partial=True, go_on=resume) as folder:
        yield folder


def fingerprint_run(run: Path) -> str:
    """Say which training a run is the result of."""
    digest = hashlib.sha256()
    for name in (RECORD, WEIGHTS):
        digest.update((run / name).read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class StepRecord:
    """Which step was the last to finish, and the network it left."""

    done: int
    spec: UNetSpec

    @property
    def weights(self) -> str:
        """Name the file of the weights; every step has its own, so that the record never points to half a file."""
        return f"step-{self.done}.h5"


@dataclass(frozen=True)
class StepStore:
    """The last finished step of one training inside a recipe."""

    folder: Path

    def load(self) -> tuple[int, Network] | None:
        """Take up the number of the last finished step and its network; None where there is none."""
        path = self.folder / STEP_RECORD
        if not path.is_file():
            return None
        try:
            record = from_plain(StepRecord, read_json_table(path))
        except ValueError as error:
            raise RunError(
                f"Expected a finished step in {path}, got a damaged file: {error}.", "Begin again with --overwrite."
            ) from error
        model = build_unet(record.spec)
        read_weights(self.folder / record.weights, model)
        return record.done, wire_network(record.spec, model)

    def save(self, done: int, spec: UNetSpec, model: Any) -> None:
        """Remember a step; the one before is forgotten when this one is whole."""
        record = StepRecord(done, spec)
        write_weights(self.folder / record.weights, model)
        write_json(self.folder / STEP_RECORD, to_plain(record))
        for path in self.folder.glob("step-*.h5"):
            if path.name != record.weights:
                path.unlink()


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


def float_path(folder: Path, recipe: str) -> Path:
    """Name the file of what pruning left, before it is quantised."""
    return folder / NETWORKS / f"{recipe}.tflite"


def read_pruned(folder: Path, recipe: str) -> PrunedNetwork | None:
    """Read the description; None where the recipe removed no channel."""
    path = folder / NETWORKS / f"{recipe}.json"
    if not path.is_file():
        return None
    return from_plain(PrunedNetwork, json.loads(path.read_text(encoding="utf-8")))
