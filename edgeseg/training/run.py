"""The run folder: what a training leaves behind, and how it is read again.

RUN/run.json      everything needed to repeat the training, and how it went
RUN/weights.h5    the best weights
RUN/model.tflite  the float32 model with its card: evaluate, bench and stream take it
RUN/history.csv   one line per epoch
RUN/config.toml   the options, for `edgeseg train --config`
RUN/split.csv     which case trained, validated or tested
RUN/curve.png     the same as a picture
RUN/logs          the same for TensorBoard
RUN/test-cases.png  the worst and the best test cases
RUN/test-cases.csv  what every test case was judged with
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeseg.core.card import Provenance, SplitSpec
from edgeseg.core.errors import RunError
from edgeseg.core.files import partial_path, write_json
from edgeseg.core.options import rename_former
from edgeseg.core.schema import SchemaError, from_plain, read_json_table, to_plain
from edgeseg.core.spec import InputSpec, OutputSpec
from edgeseg.model.spec import UNetSpec
from edgeseg.training.options import TrainOptions

_LOG = logging.getLogger(__name__)
SCHEMA = 1
RECORD, WEIGHTS, MODEL, HISTORY = "run.json", "weights.h5", "model.tflite", "history.csv"
TEST_CASES, TEST_ROWS, SPLIT = "test-cases.png", "test-cases.csv", "split.csv"
TRAINING, FINISHED = "training", "finished"
PLAN = "plan.json"
INTERRUPTED_TRAINING, FOLDS, COMPRESSION, NOTHING = "training", "cross-validation", "compression", ""
_COMMANDS = {
    INTERRUPTED_TRAINING: "edgeseg train DATA --out {} --resume",
    FOLDS: "edgeseg train DATA --out {} --resume",
    COMPRESSION: "edgeseg compress RUN --out {} --resume",
}


@dataclass(frozen=True)
class Timing:
    """Where the time of a training went, and its memory."""

    seconds: float
    seconds_per_epoch: float
    waiting_share: float
    """Of those seconds, the part in which the steps waited for their images."""
    peak_memory_mb: float


@dataclass(frozen=True)
class RunRecord:
    """The content of run.json."""

    name: str
    status: str
    data: str
    """The data folder as seen from the run folder, so that both can be moved together."""
    data_fingerprint: str
    split: SplitSpec
    input: InputSpec
    output: OutputSpec
    spec: UNetSpec
    options: TrainOptions
    libraries: dict[str, str]
    edgeseg: str
    split_fingerprint: str = ""
    """What came of the split; empty in runs from before it was kept."""
    class_weights: tuple[float, ...] = ()
    """How much each class counts in the loss; none where all count alike."""
    init: str | None = None
    """The name of the run whose encoder this one started from."""
    near_duplicates: int = 0
    """Pairs of nearly the same images in different groups, which training and test may share."""
    header_region: bool = False
    """Whether images are cropped to the ultrasound region that their headers name; not in runs from before that."""
    timing: Timing | None = None
    best_epoch: int = 0
    validation_dice: float = 0.0
    evaluation: dict[str, Any] | None = None
    schema: int = SCHEMA

    def provenance(self, recipe: str) -> Provenance:
        """Say where a file made from this run comes from; the data's path stays behind."""
        return Provenance(
            data_fingerprint=self.data_fingerprint,
            split=self.split,
            seed=self.options.seed,
            recipe=recipe,
            model=self.options.model,
            edgeseg=self.edgeseg,
            libraries=self.libraries,
            split_fingerprint=self.split_fingerprint,
            header_region=self.header_region,
        )


def write_record(folder: Path, record: RunRecord) -> None:
    """Write run.json."""
    write_json(folder / RECORD, to_plain(record))


def read_run(folder: Path) -> RunRecord:
    """Read a finished run and refuse what is none."""
    record = _read_record(folder)
    if record.status != FINISHED:
        raise RunError(
            f"Expected a finished run in {folder}, got one whose training was interrupted.",
            "Continue it with: edgeseg train DATA --out RUN --resume",
        )
    missing = [name for name in (WEIGHTS, MODEL, HISTORY) if not (folder / name).is_file()]
    if missing:
        raise RunError(f"Expected {missing[0]} in the run {folder}, got none.", "Train again with edgeseg train.")
    return record


def read_interrupted(folder: Path) -> RunRecord:
    """Read the record of an interrupted training, to continue it."""
    if not (folder / RECORD).is_file():
        raise RunError(f"Expected an interrupted training in {folder}, got none.", "Train without --resume.")
    return _read_record(folder)


def _read_record(folder: Path) -> RunRecord:
    path = folder / RECORD
    if not path.is_file():
        raise _no_run(folder)
    try:
        data = read_json_table(path)
        if data.get("schema") != SCHEMA:
            raise SchemaError(f"expected schema {SCHEMA}, got {data.get('schema')!r}")
        _rename_options(data)
        return from_plain(RunRecord, data)
    except ValueError as error:
        raise RunError(
            f"Expected a complete {path}, got a damaged one: {error}.", "Train again, with --overwrite."
        ) from error


def _rename_options(table: dict[str, Any]) -> None:
    """Give the options in a table of an earlier release their present names."""
    if isinstance(table.get("options"), dict):
        table["options"] = rename_former(TrainOptions, table["options"])


def _no_run(folder: Path) -> RunError:
    if partial_path(folder).is_dir():
        return RunError(
            f"Expected a finished run in {folder}, got only {partial_path(folder)}, whose training was interrupted.",
            "Continue it with: edgeseg train DATA --out RUN --resume",
        )
    return RunError(
        f"Expected a run folder with {RECORD}, got {folder}.", "Make one with: edgeseg train DATA --out RUN"
    )


@dataclass(frozen=True)
class Partial:
    """The folder in which an interrupted result grew."""

    kind: str
    """Empty where the interruption came before anything was written down."""
    out: Path

    def expect(self, *kinds: str) -> bool:
        """Say whether there is something of these kinds to go on with; something of another kind is refused."""
        if self.kind == NOTHING:
            _tell_new_start(self.out)
            return False
        if self.kind not in kinds:
            raise RunError(
                f"Expected an interrupted {kinds[0]} at {partial_path(self.out)}, got an interrupted {self.kind}.",
                f"Continue that with: {_COMMANDS[self.kind].format(self.out)}, or name another --out.",
            )
        return True


def find_partial(out: Path, what: str) -> Partial:
    """Look at what an interruption has left; nothing at all is refused.

    Args:
        out: The final folder.
        what: What is to be continued, for the message.
    """
    folder = partial_path(out)
    if not folder.is_dir():
        raise RunError(f"Expected an interrupted {what} at {folder}, got none.", "Leave out --resume.")
    return Partial(_name_kind(folder), out)


def _name_kind(folder: Path) -> str:
    if (folder / RECORD).is_file():
        return INTERRUPTED_TRAINING
    if not (folder / PLAN).is_file():
        return NOTHING
    return FOLDS if "folds" in read_plan(folder) else COMPRESSION


def read_plan(folder: Path) -> dict[str, Any]:
    """Read what was to be made in a folder."""
    try:
        table = read_json_table(folder / PLAN)
    except SchemaError as error:
        raise RunError(
            f"Expected what was to be made in {folder / PLAN}, got a damaged file: {error}.",
            "Begin again with --overwrite.",
        ) from error
    _rename_options(table)
    return table


def _tell_new_start(out: Path) -> None:
    _LOG.warning("%s holds nothing to go on with; it begins anew.", partial_path(out))
