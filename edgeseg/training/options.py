"""The options of a training: what `edgeseg train` takes, and a run's config.toml holds.

Light to import: the command line is built from these fields.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import edgeseg
from edgeseg.core.errors import TrainingError, UnknownNameError
from edgeseg.core.files import write_text
from edgeseg.core.limits import BATCH, EPOCHS
from edgeseg.core.redact import is_printable
from edgeseg.core.schema import check_options, from_plain, list_options, option
from edgeseg.core.spec import ACTIVATIONS, AUTO, COLOURS, DENOISES, LABEL_KINDS, WEAK_KINDS, InputSpec
from edgeseg.model.spec import (
    CONVOLUTIONS,
    ENCODERS,
    FUSIONS,
    LITE0,
    OWN,
    SIZES,
    SKIPS,
    STEMS,
    UPSAMPLINGS,
    UNetSpec,
    find_size,
)

EMA = 0.998
# Tasks.
SEGMENT, REGISTER = "segment", "register"
# Training steps where no epochs are given, so that data sets of all sizes train equally long, and the limits in
# epochs (docs/decisions/0040 and 0078).
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 7_265, 50, 400
# Progressive resizing begins with half of the size where that leaves the deepest stage some pixels, and from so many
# training images on: fewer are trained on for minutes only.
SMALLEST_HALVED, FEWEST_HALVED = 256, 300
# The same for an encoder that has learned already, and the highest learning rate of either (docs/decisions/0057).
PRETRAINED_STEPS, FEWEST_PRETRAINED = 1_200, 20
RATES = {OWN: 2e-3, LITE0: 1e-3}
# What NumPy's generator takes as a seed.
LARGEST_SEED = 2**32
# The named models halve the resolution up to five times.
SIZE_STEP = 32
# Headings of the options in --help.
NETWORK, COURSE = "Network", "Training"
CONFIG = "config.toml"
# Letters of a name, or of an option that is text; a message quotes both. Paths and patterns may be longer.
_LONGEST = 255


@dataclass(frozen=True)
class LabelChoice:
    """What of the training images' labels is learned from."""

    kind: str = AUTO
    """auto: what the data say. masks: nothing but full masks. Else full masks are made into boxes, points or
    scribbles."""
    full_share: float = 0.0
    """Share of the training groups that keep their full masks then."""
    seed: int = 0


OWN_LABELS = LabelChoice()


@dataclass(frozen=True)
class TrainOptions:
    """What the user chose for a training; None where the named size or the number of images decides."""

    model: str = option("small", "Size of the U-Net.", metavar="|".join(SIZES), panel=NETWORK)
    size: int = option(
        256,
        f"Height and width of the network's input in pixels; a multiple of {SIZE_STEP}.",
        minimum=32,
        maximum=1024,
        multiple_of=SIZE_STEP,
        panel=NETWORK,
    )
    stem: str | None = option(
        None,
        "Resolution of the first stage and of the mask that the network draws: quarter of the input, half, depth "
        "(half, by a 2x2 convolution) or full; s2d4 and s2d8 make channels of blocks of 4x4 or 8x8 pixels, and masks "
        "of a quarter (fastest). By default quarter, for classic full.",
        choices=tuple(STEMS),
        panel=NETWORK,
    )
    epochs: int | None = option(
        None,
        f"Number of epochs; by default {FEWEST_EPOCHS} to {MOST_EPOCHS}, for about {STEPS:,} steps.",
        minimum=1,
        maximum=EPOCHS,
        panel=COURSE,
    )
    batch: int = option(8, "Batch size, shared by all devices.", minimum=1, maximum=BATCH, panel=COURSE)
    first_size: int | None = option(
        None,
        "Progressive resizing: height and width of the images in the first epochs, which grow to --size in three "
        f"stages; a multiple of {SIZE_STEP}. By default half of --size, where that is {SMALLEST_HALVED} or more, for "
        f"{FEWEST_HALVED} training images or more; with --encoder lite0, frames without masks or teachers all of it.",
        minimum=32,
        maximum=1024,
        multiple_of=SIZE_STEP,
        panel=COURSE,
    )
    learning_rate: float | None = option(
        None,
        "Highest learning rate of the schedule. By default 0.002, with --encoder lite0 0.001.",
        above=0.0,
        short="--lr",
        panel=COURSE,
    )
    seed: int = option(
        0, "Random seed of the data split and of the initial weights.", minimum=0, below=LARGEST_SEED, panel=COURSE
    )
    loss: str = option(
        "bce-dice",
        "Loss function: bce, dice, bce-dice, bce-dice-all, focal-tversky, boundary or l1-gradient.",
        panel=COURSE,
    )
    denoise: str = option(
        "none", "Filter in front of the network, in training and on the device.", choices=DENOISES, panel=COURSE
    )
    augment: str = option(
        "all",
        "Augmentations: all, none, some (flip,rotation) or all but some (-shadow,-elastic).",
        metavar="NAMES",
        panel=COURSE,
    )
    colour: str = option("grey", "Input of the network: 1 channel or 3.", choices=tuple(COLOURS), panel=NETWORK)
    modalities: str | None = option(
        None,
        "Modalities that become channels, with commas. By default all that the data have.",
        metavar="NAMES",
        panel=NETWORK,
    )
    signed: str | None = option(
        None,
        "Those of them whose red and blue are two directions of a flow, as in colour Doppler.",
        metavar="NAMES",
        panel=NETWORK,
    )
    fusion: str = option(
        "early",
        "Several modalities: as channels of one encoder (early), or a first stage for each, merged behind it (late).",
        choices=FUSIONS,
        panel=NETWORK,
    )
    activation: str = option(
        "sigmoid",
        "Last layer: sigmoid decides each class by itself, softmax one class for every pixel.",
        choices=ACTIVATIONS,
        panel=NETWORK,
    )
    skip: str | None = option(
        None, "Merge of the skip connections. By default add, for classic concat.", choices=SKIPS, panel=NETWORK
    )
    upsampling: str | None = option(
        None,
        "Upsampling in the decoder: bilinear or a transposed convolution. By default bilinear, for classic transpose.",
        choices=UPSAMPLINGS,
        panel=NETWORK,
    )
    convolution: str = option(
        "plain", "Plain 3x3 convolutions, or separable into depthwise 3x3 and 1x1.", choices=CONVOLUTIONS, panel=NETWORK
    )
    encoder: str = option(
        OWN,
        "Encoder: the U-Net's own, or lite0, EfficientNet-Lite0 with ImageNet weights, whose --model is the decoder's "
        "size; it needs the extra pretrained, and by default 1,200 steps.",
        choices=ENCODERS,
        panel=NETWORK,
    )
    dropout: float = option(
        0.1, "Dropout rate of the deepest stage (0 disables).", minimum=0.0, below=1.0, panel=COURSE
    )
    l2: float = option(0.0, "L2 regularisation of the kernels (0 disables).", minimum=0.0, panel=COURSE)
    ema: float = option(
        EMA,
        "EMA decay (0 disables): the moving average of the weights is validated and kept.",
        minimum=0.0,
        below=1.0,
        former="average",
        panel=COURSE,
    )
    schedule: str = option(
        "cosine",
        "Learning rate schedule: cosine falls to zero, plateau halves the rate when the validation Dice stalls.",
        choices=("cosine", "plateau"),
        panel=COURSE,
    )
    patience: int | None = option(
        None,
        "Early stopping: stop after this many epochs without a better validation Dice. By default off.",
        minimum=1,
        panel=COURSE,
    )
    precision: str = option(
        "float32",
        "Arithmetic of the training: mixed computes in 16 bits where the hardware supports it.",
        choices=("float32", "mixed"),
        panel=COURSE,
    )
    strategy: str = option(
        "one",
        "One device, mirrored on all devices of this machine, or multi-worker as TF_CONFIG says.",
        choices=("one", "mirrored", "multi-worker"),
        panel=COURSE,
    )
    class_weights: str = option(
        "auto",
        "auto: rare classes count more in the loss. none: all count alike.",
        choices=("auto", "none"),
        panel=COURSE,
    )
    findings: str = option(
        "auto",
        "Second output, what the whole frame shows. auto: where some images lack a structure or have labels. none.",
        choices=("auto", "none"),
        panel=NETWORK,
    )
    sensitivity: float | None = option(
        None,
        "Share of the validation cases with a structure in which it must be found; chooses the operating point. By "
        "default 0.9 where some images lack the structure.",
        above=0.0,
        maximum=1.0,
        panel=COURSE,
    )
    coverage: float | None = option(
        None,
        "Share of those cases in which a mask must be found, wherever. By default 0.95 where every image shows the "
        "structure.",
        above=0.0,
        maximum=1.0,
        panel=COURSE,
    )

    task: str = option(
        SEGMENT,
        "What is learned: to draw masks, or to register pairs of frames of clips, which needs no masks.",
        choices=(SEGMENT, REGISTER),
        panel=COURSE,
    )
    labels: str = option(
        AUTO,
        "What training images are learned from. auto: masks, boxes, points and scribbles, as each image has them. "
        "masks: full masks alone. boxes, points or scribbles: full masks are made into these, to see what they cost.",
        choices=(AUTO, *LABEL_KINDS),
        panel=COURSE,
    )
    full_masks: float = option(
        0.0,
        "With --labels boxes, points or scribbles: share of the training groups that keep their full masks.",
        minimum=0.0,
        maximum=1.0,
        panel=COURSE,
    )

    def __post_init__(self) -> None:
        # numpy.random takes as long as all of typer to import, and --help needs none of it
        from edgeseg.data.augment import choose_variations

        check_options(self)
        choose_variations(self.augment)
        if self.full_masks and self.labels not in WEAK_KINDS:
            raise ValueError(
                f"expected full_masks with labels {', '.join(WEAK_KINDS)}, which it leaves some images out of, got "
                f"labels {self.labels}"
            )
        if self.first_size is not None and self.first_size > self.size:
            raise ValueError(f"expected first_size up to size, {self.size}, got {self.first_size}")
        self.describe_network(outputs=1)

    @property
    def input(self) -> InputSpec:
        """Describe what a frame is turned into."""
        return InputSpec(
            self.size,
            self.size,
            self.colour,
            denoise=self.denoise,
            modalities=_split_names(self.modalities),
            signed=_split_names(self.signed),
        )

    @property
    def network(self) -> str:
        """The name of the network: its size, with the encoder where that is another one."""
        return self.model if self.encoder == OWN else f"{self.encoder}-{self.model}"

    @property
    def rate(self) -> float:
        """The highest learning rate: as given, or as the encoder needs it."""
        return self.learning_rate or RATES[self.encoder]

    def plan_first_size(self, images: int) -> int:
        """Choose the size of the first epochs' images: as given, or half of it for the U-Net's own encoder."""
        halved = self.encoder == OWN and self.size >= SMALLEST_HALVED and images >= FEWEST_HALVED
        # rounded up to what the stages can halve
        half = math.ceil(self.size / 2 / SIZE_STEP) * SIZE_STEP
        return self.first_size or (half if halved else self.size)

    def plan_epochs(self, images: int) -> int:
        """Choose the epochs for so many training images: as given, or `plan_epochs`."""
        return self.epochs or plan_epochs(images, self.batch, self.encoder)

    @property
    def label_choice(self) -> LabelChoice:
        """What of the training images' labels is learned from."""
        return LabelChoice(self.labels, self.full_masks, self.seed)

    def describe_network(self, outputs: int, findings: int = 0) -> UNetSpec:
        """Describe the network that is asked for, for so many channels of masks and of findings."""
        named = find_size(self.model)
        stem = self.stem or (named.stem if self.encoder == OWN else "quarter")
        return UNetSpec(
            height=self.size,
            width=self.size,
            channels=self.input.channels,
            outputs=outputs,
            activation=self.activation,
            widths=named.widths_behind(stem),
            skip=self.skip or named.skip,
            stem=stem,
            dropout=self.dropout,
            upsampling=self.upsampling or named.upsampling,
            convolution=self.convolution,
            l2=self.l2,
            findings=findings,
            encoder=self.encoder,
            fusion=self.fusion if self.input.is_stack else "early",
        )


_OPTIONS = tuple(field.name for field in fields(TrainOptions))
_OTHER_NAMES = {
    name.strip("-"): field.name
    for field, spec in list_options(TrainOptions)
    for name in (spec.short, spec.former)
    if name is not None
}


@dataclass(frozen=True)
class TrainInputs:
    """What a training reads, and how the cases are divided."""

    data: Path | None = None
    init: Path | None = None
    folds: int | None = None
    layout: str | None = None
    group_pattern: str | None = None
    unlabelled: Path | None = None
    teacher: Path | None = None


_INPUTS = tuple(field.name for field in fields(TrainInputs))


def read_config(path: Path) -> dict[str, Any]:
    """Read the options that a file names, by their fields; paths in it are relative to its folder.

    Raises:
        OSError: It is not there or may not be read.
        EdgesegError: It is no TOML file, or a name or a value in it is not allowed.
    """
    from edgeseg.machine.boards import read_toml  # not at the top: --help loads this module, and reads no file

    table = _name_fields(read_toml(path))
    for name in ("data", "init", "unlabelled", "teacher"):
        if isinstance(table.get(name), str):
            table[name] = path.parent / table[name]
    try:
        from_plain(TrainOptions, {name: value for name, value in table.items() if name in _OPTIONS})
        from_plain(TrainInputs, {name: value for name, value in table.items() if name in _INPUTS})
    except ValueError as error:
        raise TrainingError(
            f"Expected the options of a training in {path}, got: {error}.", "edgeseg train --help explains every one."
        ) from error
    return table


def _name_fields(table: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the names of options, as the command line writes them, into those of fields."""
    named: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        name = _OTHER_NAMES.get(name, name)
        if name not in (*_OPTIONS, *_INPUTS):
            raise UnknownNameError("training option", key[:_LONGEST], (*_OPTIONS, *_INPUTS))
        if name in _OPTIONS and isinstance(value, str) and len(value) > _LONGEST:
            raise TrainingError(f"Expected at most {_LONGEST} letters for {key}, got {len(value)}.", "Shorten it.")
        if name in named:
            raise TrainingError(f"Expected {name} once in the config, got it twice.", "Remove one of the lines.")
        named[name] = value
    return named


def write_config(folder: Path, out: Path, options: TrainOptions, inputs: TrainInputs) -> None:
    """Write config.toml.

    Args:
        folder: The folder to write it into.
        out: Where that folder will be in the end; the paths in the file are relative to it.
        options: What was chosen.
        inputs: What is read.
    """
    write_text(folder / CONFIG, "\n".join(_list_lines(out, options, inputs)) + "\n")


def _split_names(text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(name.strip() for name in text.split(","))


def plan_epochs(images: int, batch: int, encoder: str = OWN) -> int:
    """Choose the epochs where none are given: the fewer images, the more epochs, for about equally many steps."""
    steps, fewest = (STEPS, FEWEST_EPOCHS) if encoder == OWN else (PRETRAINED_STEPS, FEWEST_PRETRAINED)
    return min(MOST_EPOCHS, max(fewest, math.ceil(steps / math.ceil(images / batch))))


def plan_longer(epochs: int, images: int, batch: int, encoder: str = OWN) -> int:
    """Choose the epochs of a longer training: twice as many, and no fewer than where none are given."""
    return max(2 * epochs, plan_epochs(images, batch, encoder)) if images else 2 * epochs


def _list_lines(out: Path, options: TrainOptions, inputs: TrainInputs) -> Iterator[str]:
    values: dict[str, Any] = {
        name: os.path.relpath(value, out) if isinstance(value, Path) else value for name, value in vars(inputs).items()
    }
    help_texts = {field.name: spec.help for field, spec in list_options(options)}
    yield f"# All options of a training with edgeseg {edgeseg.__version__}. Train again, from this folder:"
    yield f"#     edgeseg train --config {CONFIG} --out NEW"
    yield "# which is the same as:"
    yield f"#     {_write_command(options, values)}"
    yield ""
    for name, value in values.items():
        yield _write_line(name, value)
    yield ""
    for name in _OPTIONS:
        yield f"# {help_texts[name]}"
        yield _write_line(name, getattr(options, name))


def _write_command(options: TrainOptions, inputs: Mapping[str, Any]) -> str:
    usual = TrainOptions()
    changed = {name: getattr(options, name) for name in _OPTIONS if getattr(options, name) != getattr(usual, name)}
    words = ["edgeseg", "train", str(inputs["data"] or "DATA"), "--out", "NEW"]
    for name, value in {**{name: value for name, value in inputs.items() if name != "data"}, **changed}.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    command = shlex.join(words)
    return command if is_printable(command) else "(no command: a name in it cannot be written in UTF-8)"


def _write_line(name: str, value: Any) -> str:
    if value is None:
        return f"# {name} is not set"
    if isinstance(value, str):
        # TOML is UTF-8; a file name on Linux may be any bytes
        if not is_printable(value):
            return f"# {name} cannot be written in TOML: {json.dumps(value)}"
        value = json.dumps(value, ensure_ascii=False)
    return f"{name} = {value}"
