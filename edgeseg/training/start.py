"""What a training starts from: a finished run or a pretraining (`--init`), or ImageNet weights (`--encoder lite0`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import RunError, TrainingError
from edgeseg.core.files import write_bytes, write_json
from edgeseg.core.limits import ARRAY_BYTES, read_regular
from edgeseg.core.modelfile import PRETRAINING
from edgeseg.core.schema import SchemaError, from_plain, read_json_table, to_plain
from edgeseg.core.spec import InputSpec
from edgeseg.data.dataset import LabelledImage
from edgeseg.data.duplicates import SIDE
from edgeseg.model.keras import read_weights
from edgeseg.model.pretrained import load_encoder, read_imagenet
from edgeseg.model.spec import ENCODER, LITE0, UNetSpec
from edgeseg.model.unet import build_unet
from edgeseg.training.options import TrainOptions
from edgeseg.training.run import FINISHED, WEIGHTS, FrameRecord, RunRecord, read_run
from edgeseg.training.unlabelled import find_leaks

THUMBNAILS = "thumbnails.bin"
SCHEMA = 1


@dataclass(frozen=True)
class PretrainRecord:
    """The content of pretrain.json."""

    name: str
    status: str
    frames: FrameRecord
    input: InputSpec
    spec: UNetSpec
    options: TrainOptions
    edgeseg: str
    best_epoch: int = 0
    error: float = 0.0
    """Mean squared error of hidden pixels, from 0 to 1, of frames that were kept apart."""
    grey_error: float = 0.0
    """The same where every hidden patch is left at the frame's mean brightness."""
    seconds: float = 0.0
    schema: int = SCHEMA


def write_pretrained(folder: Path, record: PretrainRecord) -> None:
    """Write pretrain.json."""
    write_json(folder / PRETRAINING, to_plain(record))


def is_pretrained(folder: Path) -> bool:
    """Say whether a folder is a pretraining."""
    return (folder / PRETRAINING).is_file()


def read_pretrained(folder: Path) -> PretrainRecord:
    """Read a finished pretraining; anything else is refused."""
    record = read_interrupted_pretraining(folder)
    if record.status != FINISHED:
        raise RunError(
            f"Expected a finished pretraining in {folder}, got an interrupted one.",
            "Continue it with: edgeseg pretrain FRAMES --out RUN --resume",
        )
    return record


def read_interrupted_pretraining(folder: Path) -> PretrainRecord:
    """Read the record of a pretraining that may not be finished."""
    path = folder / PRETRAINING
    try:
        table = read_json_table(path)
        if table.get("schema") != SCHEMA:
            raise SchemaError(f"expected schema {SCHEMA}, got {table.get('schema')!r}")
        return from_plain(PretrainRecord, table)
    except ValueError as error:
        raise RunError(
            f"Expected a complete {path}, got a damaged one: {error}.", "Pretrain again, with --overwrite."
        ) from error


def write_thumbnails(folder: Path, thumbnails: NDArray[np.int8]) -> None:
    """Write the thumbnails of all frames, by which a training finds its test cases among them."""
    write_bytes(folder / THUMBNAILS, thumbnails.tobytes())


def read_thumbnails(folder: Path) -> NDArray[np.int8]:
    """Read the thumbnails of a pretraining."""
    path = folder / THUMBNAILS
    try:
        content = read_regular(path, ARRAY_BYTES)
    except OSError as error:
        raise _refuse_thumbnails(path, error.strerror or str(error)) from error
    if not content or len(content) % SIDE**2:
        raise _refuse_thumbnails(path, f"{len(content)} bytes")
    return np.frombuffer(content, dtype=np.int8).reshape(-1, SIDE**2)


def _refuse_thumbnails(path: Path, what: str) -> RunError:
    return RunError(
        f"Expected thumbnails of the frames in {path}, got none that can be read: {what}.",
        "Without them nothing shows that no test case was among the frames: pretrain again.",
    )


def name_start(run: Path) -> str:
    """Read the name of what a training starts from."""
    return read_pretrained(run).name if is_pretrained(run) else read_run(run).name


def load_start(run: Path) -> Any:
    """Build the network that a training starts from, with its weights."""
    model = build_unet(read_pretrained(run).spec if is_pretrained(run) else read_run(run).spec)
    read_weights(run / WEIGHTS, model)
    return model


def check_imagenet(encoder: str, init: Path | None = None) -> None:
    """Refuse a training that needs ImageNet weights where they are missing or are others.

    Args:
        encoder: The encoder that is asked for.
        init: What its weights are taken from instead.
    """
    if encoder == LITE0 and init is None:
        read_imagenet()


def load_imagenet(model: Any) -> None:
    """Load the ImageNet weights into the encoder of a network that is to be trained."""
    load_encoder(model, read_imagenet())


def start_from(model: Any, run: Path) -> int:
    """Copy a finished run's encoder weights into a model (transfer learning).

    Args:
        model: The model that is to be trained.
        run: The run, or a pretraining; its encoder must fit, its size and classes may differ.

    Returns:
        How many layers were copied.
    """
    source = load_start(run)
    given = {layer.name: layer.get_weights() for layer in source.layers if layer.name.startswith(ENCODER)}
    wanted = [layer for layer in model.layers if layer.name.startswith(ENCODER) and layer.weights]
    for layer in wanted:
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if [weight.shape for weight in given.get(layer.name, [])] != shapes:
            raise RunError(
                f"Expected a run whose encoder fits this model, got {run}, which differs at the layer {layer.name}.",
                "Start from a run of the same --model, --encoder, --stem, --convolution and --colour.",
            )
        layer.set_weights(given[layer.name])
    return len(wanted)


def load_network(run: Path, record: RunRecord) -> Any:
    """Build a run's network with its best weights."""
    model = build_unet(record.spec)
    read_weights(run / WEIGHTS, model)
    return model


def refuse_leaking_start(run: Path, held_out: Sequence[LabelledImage]) -> None:
    """Refuse a pretraining on near-duplicates of the cases that validate or test.

    Args:
        run: The pretraining; a run with masks of its own is not checked.
        held_out: These cases.
    """
    if not is_pretrained(run):
        return
    leaking = len(find_leaks(read_thumbnails(run), held_out))
    if leaking:
        raise TrainingError(
            f"Expected a pretraining on frames of other patients than the validation and test cases, got {run}, which "
            f"saw {leaking} frames that look nearly the same as one of these.",
            "Pretrain without these patients: test figures would flatter.",
        )
