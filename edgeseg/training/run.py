"""The run folder that a training writes, and its record run.json.

RUN/run.json        all that is needed to repeat the training, and its results
RUN/config.toml     the options, for `edgeseg train --config`
RUN/weights.h5      the best weights
RUN/model.tflite    the float32 model with its card, for evaluate, bench and stream
RUN/history.csv     one line per epoch
RUN/curve.png       the history as a picture
RUN/logs            the history for TensorBoard
RUN/split.csv       the part of each case: train, val or test
RUN/test-cases.png  the worst and the best test cases
RUN/test-cases.csv  the scores of every test case
RUN/report.html     what came out, for people: `report.training` writes it when all else is there
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeseg.core.card import Provenance, SplitSpec
from edgeseg.core.errors import RunError
from edgeseg.core.files import partial_path, write_json
from edgeseg.core.modelfile import PRETRAINING, is_ensemble
from edgeseg.core.registration_card import TASK
from edgeseg.core.schema import SchemaError, from_plain, read_json_table, rename_former, to_plain
from edgeseg.core.spec import MASKS, FindingSpec, InputSpec, OutputSpec
from edgeseg.data.layouts.choice import strip_layout
from edgeseg.model.spec import UNetSpec
from edgeseg.training.options import TrainOptions

SCHEMA = 1
RECORD, WEIGHTS, MODEL, HISTORY = "run.json", "weights.h5", "model.tflite", "history.csv"
TEST_CASES, TEST_ROWS, SPLIT = "test-cases.png", "test-cases.csv", "split.csv"
# Sizes of images that a record names.
SIZES = 8
TRAINING, FINISHED = "training", "finished"


@dataclass(frozen=True)
class Timing:
    """Time and memory of a training."""

    seconds: float
    seconds_per_epoch: float
    waiting_share: float
    """Share of the seconds in which the steps waited for their images."""
    peak_memory_mb: float


@dataclass(frozen=True)
class FrameRecord:
    """What a run remembers of frames without masks."""

    folder: str
    """Relative to the run folder, so that both can be moved together."""
    frames: int
    files: int
    fingerprint: str


@dataclass(frozen=True)
class TeacherRecord:
    """What a run remembers of the run, or the cross-validation, that taught it."""

    folder: str
    """Relative to the run folder, so that both can be moved together."""
    name: str
    networks: int
    """How many of its networks taught: those that have not been trained on the run's test cases."""
    fingerprint: str


@dataclass(frozen=True)
class FederationRecord:
    """What a run remembers of the federation that trained it; without a word of the sites' data."""

    sites: int
    """Sites that took part in at least one round."""
    cases: int
    """Their training cases, together."""
    rounds: int
    """Rounds that were finished."""
    local_epochs: int
    proximal: float
    batch_norm: str
    fingerprint: str
    """Hash over those of the sites' data."""
    at_site: bool
    """Whether this is a site's run, with its own data; the server's has none."""


@dataclass(frozen=True)
class PartSummary:
    """One part of the split: how many cases and groups, and for each class how many cases lack it."""

    name: str
    cases: int
    groups: int
    lacking: dict[str, int]


@dataclass(frozen=True)
class LabelRecord:
    """What a run with weak labels remembers of them."""

    images: dict[str, int]
    """How many training images had masks, boxes, points or scribbles."""
    judged_by: str = MASKS
    """What the validation cases have: masks, or boxes, whose IoU then stands in place of the Dice."""
    test_box_iou: float | None = None
    """On the test cases, where boxes judge."""


@dataclass(frozen=True)
class DataSummary:
    """What a run remembers of its data, so that its report need not read all images again."""

    layout: str
    images: int
    groups: int
    sizes: dict[str, int]
    """How many images have each size, such as 640x480; the most frequent first, and no more than `SIZES` of them."""
    other_sizes: int
    """How many images have further sizes."""
    labels: dict[str, int]
    """How many images have each label of the frame."""
    with_pixel_size: int
    parts: tuple[PartSummary, ...]
    notices: tuple[str, ...]
    """The warnings of `edgeseg data check`."""


@dataclass(frozen=True)
class RunRecord:
    """The content of run.json."""

    name: str
    status: str
    data: str
    """The data folder relative to the run folder, so that both can be moved together."""
    data_fingerprint: str
    split: SplitSpec
    input: InputSpec
    output: OutputSpec
    spec: UNetSpec
    options: TrainOptions
    libraries: dict[str, str]
    edgeseg: str
    split_fingerprint: str = ""
    """Hash of which case is in which part; empty in runs of older versions."""
    class_weights: tuple[float, ...] = ()
    """Each class's weight in the loss; empty where all weigh the same."""
    finding: FindingSpec | None = None
    """The network's finding output, if it has one."""
    finding_weights: tuple[tuple[float, float], ...] = ()
    """Weights of presence and absence in the loss of every finding."""
    label_fingerprint: str = ""
    """Hash of the frames' labels; empty where none were learned."""
    init: str | None = None
    """The name of the run whose encoder weights this one started from."""
    unlabelled: FrameRecord | None = None
    """The frames without masks that were trained on, too."""
    teachers: tuple[TeacherRecord, ...] = ()
    """The runs whose masks and findings were followed beside the truth."""
    federation: FederationRecord | None = None
    """The federation that trained it, if one did."""
    near_duplicates: int = 0
    """Pairs of nearly equal images in different groups, so that one may be in training and one in test."""
    header_region: bool = False
    """Whether images are cropped to the ultrasound region that their DICOM headers name."""
    data_summary: DataSummary | None = None
    """None in runs of older versions."""
    labels: LabelRecord | None = None
    """None where every training image has a full mask."""
    timing: Timing | None = None
    best_epoch: int = 0
    validation_dice: float = 0.0
    evaluation: dict[str, Any] | None = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        expected = 0 if self.finding is None else self.finding.count_channels(len(self.output.classes))
        if self.spec.findings != expected or len(self.finding_weights) not in (0, expected):
            raise ValueError(
                f"expected {expected} findings with as many weights, got {self.spec.findings} with "
                f"{len(self.finding_weights)}"
            )
        if any(not 0.0 < weight < math.inf for pair in self.finding_weights for weight in pair):
            raise ValueError("expected weights of findings above 0")

    def provenance(self, recipe: str) -> Provenance:
        """Describe where a file of this run comes from; the data's path is private and left out."""
        return Provenance(
            data_fingerprint=self.data_fingerprint,
            split=dataclasses.replace(self.split, layout=strip_layout(self.split.layout)),
            seed=self.options.seed,
            recipe=recipe,
            model=self.options.network,
            edgeseg=self.edgeseg,
            libraries=self.libraries,
            split_fingerprint=self.split_fingerprint,
            header_region=self.header_region,
            labels={} if self.labels is None else self.labels.images,
        )


def write_record(folder: Path, record: RunRecord) -> None:
    """Write run.json."""
    write_json(folder / RECORD, to_plain(record))


def read_run(folder: Path) -> RunRecord:
    """Read a finished run; anything else is refused."""
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
    """Read the record of an interrupted training."""
    if not (folder / RECORD).is_file():
        raise RunError(f"Expected an interrupted training in {folder}, got none.", "Train without --resume.")
    return _read_record(folder)


def _read_record(folder: Path) -> RunRecord:
    path = folder / RECORD
    if not path.is_file():
        raise _no_run(folder)
    try:
        data = read_json_table(path)
        if data.get("task") == TASK:
            raise _registers(folder)
        if data.get("schema") != SCHEMA:
            raise SchemaError(f"expected schema {SCHEMA}, got {data.get('schema')!r}")
        rename_options(data)
        return from_plain(RunRecord, data)
    except ValueError as error:
        raise RunError(
            f"Expected a complete {path}, got a damaged one: {error}.", "Train again, with --overwrite."
        ) from error


def rename_options(table: dict[str, Any]) -> None:
    """Rename the options of an earlier release in a table that holds options."""
    if isinstance(table.get("options"), dict):
        table["options"] = rename_former(TrainOptions, table["options"])


def _registers(folder: Path) -> RunError:
    return RunError(
        f"Expected a run that draws masks in {folder}, got one that registers pairs of images.",
        f"Use it with: edgeseg register FIXED MOVING --method learned --model {folder}, or edgeseg compress.",
    )


def _no_run(folder: Path) -> RunError:
    if (folder / PRETRAINING).is_file():
        return RunError(
            f"Expected a run that draws masks in {folder}, got a pretraining.",
            f"Train from it with: edgeseg train DATA --out RUN --init {folder}",
        )
    if partial_path(folder).is_dir():
        return RunError(
            f"Expected a finished run in {folder}, got only {partial_path(folder)}, whose training was interrupted.",
            "Continue it with: edgeseg train DATA --out RUN --resume",
        )
    if is_ensemble(folder):
        return RunError(
            f"Expected one run, got {folder}, a cross-validation of several.",
            f"Name one of them, such as {folder / 'fold-1'}; together they are a model or a teacher.",
        )
    return RunError(
        f"Expected a run folder with {RECORD}, got {folder}.", "Make one with: edgeseg train DATA --out RUN"
    )


def fingerprint_run(run: Path) -> str:
    """Hash a run's record and weights, which say which training it is the result of."""
    digest = hashlib.sha256()
    for name in (RECORD, WEIGHTS):
        digest.update((run / name).read_bytes())
    return digest.hexdigest()
