"""`edgeseg train`: from labelled images to a finished run folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from edgeseg.cli.common import (
    AugmentOption,
    DenoiseOption,
    GroupPatternOption,
    LayoutOption,
    OverwriteOption,
    need_training_packages,
    usage_errors,
)
from edgeseg.cli.network import PANEL as NETWORK
from edgeseg.cli.network import (
    ActivationOption,
    ColourOption,
    ConvolutionOption,
    ModelOption,
    SizeOption,
    SkipOption,
    StemOption,
    UpsamplingOption,
)
from edgeseg.cli.tables import print_evaluation, print_folds, print_timing

TRAINING = "Training"


def train(
    data: Annotated[Path, typer.Argument(help="Folder of labelled images, in any known layout.")],
    out: Annotated[Path, typer.Option(help="The run folder to make.")],
    model: ModelOption = "small",
    size: SizeOption = 256,
    colour: ColourOption = "grey",
    stem: StemOption = None,
    skip: SkipOption = None,
    upsampling: UpsamplingOption = None,
    convolution: ConvolutionOption = "plain",
    activation: ActivationOption = "sigmoid",
    dropout: Annotated[
        float, typer.Option(help="Share of the deepest stage's channels that are left out.", rich_help_panel=NETWORK)
    ] = 0.1,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.", rich_help_panel=TRAINING)] = 150,
    batch: Annotated[int, typer.Option(help="Images in a step.", rich_help_panel=TRAINING)] = 16,
    learning_rate: Annotated[float, typer.Option(help="The highest one.", rich_help_panel=TRAINING)] = 2e-3,
    l2: Annotated[float, typer.Option("--l2", help="Weight of the kernels' squares.", rich_help_panel=TRAINING)] = 0.0,
    loss: Annotated[
        str,
        typer.Option(help="bce, dice, bce-dice, focal-tversky, boundary or l1-gradient.", rich_help_panel=TRAINING),
    ] = "bce-dice",
    augment: AugmentOption = "all",
    denoise: DenoiseOption = "none",
    average: Annotated[
        float,
        typer.Option(
            help="Share of the weights' moving average that stays at a step; 0: none.", rich_help_panel=TRAINING
        ),
    ] = 0.998,
    schedule: Annotated[
        str,
        typer.Option(
            help="cosine falls to zero; plateau halves the rate where the validation Dice stalls.",
            rich_help_panel=TRAINING,
        ),
    ] = "cosine",
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after so many epochs without a better validation Dice.",
            show_default=False,
            rich_help_panel=TRAINING,
        ),
    ] = None,
    class_weights: Annotated[
        str,
        typer.Option(
            help="auto lets rare classes count more in the loss; none lets all count alike.", rich_help_panel=TRAINING
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(help="float32, or mixed: 16-bit arithmetic where the hardware has it.", rich_help_panel=TRAINING),
    ] = "float32",
    strategy: Annotated[
        str,
        typer.Option(
            help="one device, mirrored on all of this machine, or multi-worker by TF_CONFIG.", rich_help_panel=TRAINING
        ),
    ] = "one",
    seed: Annotated[int, typer.Option(help="Divides the cases and starts the network.", rich_help_panel=TRAINING)] = 0,
    layout: LayoutOption = None,
    group_pattern: GroupPatternOption = None,
    folds: Annotated[
        int | None, typer.Option(help="Cross-validate: one run per fold, by group.", min=3, show_default=False)
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="Start the encoder from this finished run.", show_default=False)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted training, with the options it was begun with.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Train a compact U-Net on a folder of labelled images.

    The cases are divided by group (groups.csv with the columns stem and group, where there is one) into training,
    validation and test cases. The run folder appears when the training is finished; until then it grows as
    OUT.partial.

    Example: `edgeseg train data/phantom --out runs/first --epochs 30`
    """
    need_training_packages()
    from edgeseg.train.folds import train_folds
    from edgeseg.train.run import TrainOptions
    from edgeseg.train.trainer import plain_split, resume_run, train_run

    with usage_errors():
        options = TrainOptions(
            model=model,
            size=size,
            stem=stem,
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            seed=seed,
            loss=loss,
            denoise=denoise,
            augment=augment,
            colour=colour,
            activation=activation,
            skip=skip,
            upsampling=upsampling,
            convolution=convolution,
            dropout=dropout,
            l2=l2,
            average=average,
            schedule=schedule,
            patience=patience,
            precision=precision,
            strategy=strategy,
            class_weights=class_weights,
        )
    split = plain_split(seed, layout, group_pattern)
    if folds:
        print_folds(train_folds(data, out, options, folds, split, overwrite))
        return
    begin = partial(train_run, data, out, options, overwrite, split, init)
    record = resume_run(data, out) if resume else begin()
    if record.evaluation is None:
        print(f"This worker is done; the chief leaves the run in {out}.")
        return
    print(f"{out}: best after epoch {record.best_epoch}, validation Dice {record.validation_dice:.3f}")
    print_timing(record.timing)
    print_evaluation("Test cases, float32", record.evaluation)
