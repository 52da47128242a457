"""What finished steps of a recipe left, kept until its file is made: a killed compression goes on from there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeseg.compress.cut import Network, wire_network
from edgeseg.core.errors import RunError
from edgeseg.core.files import write_json
from edgeseg.core.jsonfile import read_json_table
from edgeseg.core.schema import from_plain, to_plain
from edgeseg.model.spec import UNetSpec
from edgeseg.model.unet import build_unet
from edgeseg.model.weightfile import read_weights, write_weights

FOLDER = "unfinished"
RECORD = "step.json"


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
        path = self.folder / RECORD
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
        write_json(self.folder / RECORD, to_plain(record))
        for path in self.folder.glob("step-*.h5"):
            if path.name != record.weights:
                path.unlink()
