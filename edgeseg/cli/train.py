"""`edgeseg train`: from labelled images to a finished run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeseg.cli.common import (
    AugmentOption,
    DenoiseOption,
    GroupPatternOption,
    LayoutOption,
    OverwriteOption,
    keep_inputs,
    need_training_packages,
    usage_errors,
)
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
from edgeseg.cli.terminal import resumable

if TYPE_CHECKING:
    from edgeseg.core.card import SplitSpec
    from edgeseg.training.run import RunRecord, TrainOptions

PANEL = "Training"


def _option(help_text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=PANEL, **more)


EpochsOption = Annotated[
    int | None,
    _option("Passes over the images; by default 50 to 400, for about 14,530 steps.", min=1, show_default=False),
]
BatchOption = Annotated[int, _option("Images of a step, shared by all devices.", min=1)]
LearningRateOption = Annotated[float, _option("The highest rate of the schedule.", min=0.0)]
ScheduleOption = Annotated[
    str, _option("cosine falls to zero; plateau halves the rate where the validation Dice stalls.")
]
PatienceOption = Annotated[
    int | None, _option("Stop after so many epochs without a better validation Dice.", min=1, show_default=False)
]
LossOption = Annotated[str, _option("bce, dice, bce-dice, bce-dice-all, focal-tversky, boundary or l1-gradient.")]
ClassWeightsOption = Annotated[
    str, _option("auto lets rare classes count more in the loss; none lets all count alike.")
]
DropoutOption = Annotated[float, _option("Share of the deepest stage's channels that are left out.", min=0.0, max=1.0)]
L2Option = Annotated[float, _option("Weight of the kernels' squares.", "--l2", min=0.0)]
AverageOption = Annotated[
    float, _option("Share of the weights' moving average that stays at a step; 0: none.", min=0.0, max=1.0)
]
PrecisionOption = Annotated[str, _option("float32, or mixed: 16-bit arithmetic where the hardware has it.")]
StrategyOption = Annotated[str, _option("one device, mirrored on all of this machine, or multi-worker by TF_CONFIG.")]
SeedOption = Annotated[int, _option("Divides the cases and starts the network.", min=0)]
InitOption = Annotated[Path | None, _option("Start the encoder from this finished run.", show_default=False)]
FoldsOption = Annotated[int | None, _option("Cross-validate: one run per fold, by group.", min=3, show_default=False)]
ResumeOption = Annotated[
    bool, _option("Continue an interrupted training, with the options it was begun with.", "--resume")
]


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
    denoise: DenoiseOption = "none",
    epochs: EpochsOption = None,
    batch: BatchOption = 8,
    learning_rate: LearningRateOption = 2e-3,
    schedule: ScheduleOption = "cosine",
    patience: PatienceOption = None,
    loss: LossOption = "bce-dice",
    class_weights: ClassWeightsOption = "auto",
    augment: AugmentOption = "all",
    dropout: DropoutOption = 0.1,
    l2: L2Option = 0.0,
    average: AverageOption = 0.998,
    precision: PrecisionOption = "float32",
    strategy: StrategyOption = "one",
    seed: SeedOption = 0,
    init: InitOption = None,
    folds: FoldsOption = None,
    resume: ResumeOption = False,
    layout: LayoutOption = None,
    group_pattern: GroupPatternOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Train a compact U-Net on a folder of labelled images.

    The cases are divided by group (groups.csv with the columns stem and group, where there is one) into training,
    validation and test cases. The run folder appears when the training is finished; until then it grows as
    OUT.partial.

    Example: `edgeseg train data/phantom --out runs/first --epochs 30`
    """
    need_training_packages()
    with resumable(out):
        from edgeseg.training.run import TrainOptions
        from edgeseg.training.trainer import plain_split

        keep_inputs([data, init], [out])
        with usage_errors():
            # fmt: off
            options = TrainOptions(
                model=model, size=size, stem=stem, epochs=epochs, batch=batch, learning_rate=learning_rate, seed=seed,
                loss=loss, denoise=denoise, augment=augment, colour=colour, activation=activation, skip=skip,
                upsampling=upsampling, convolution=convolution, dropout=dropout, l2=l2, average=average,
                schedule=schedule, patience=patience, precision=precision, strategy=strategy,
                class_weights=class_weights
            )
            # fmt: on
        split = plain_split(seed, layout, group_pattern)
        if not (resume and go_on(data, out, overwrite, init)):
            begin(data, out, options, split, folds, init, overwrite, anew=resume)


def go_on(data: Path, out: Path, overwrite: bool, init: Path | None) -> bool:
    """Go on with what an interruption left; says whether there was something."""
    from edgeseg.training.folds import resume_folds
    from edgeseg.training.resume import FOLDS, INTERRUPTED_TRAINING, find_partial
    from edgeseg.training.trainer import resume_run

    left = find_partial(out, INTERRUPTED_TRAINING)
    if not left.expect(INTERRUPTED_TRAINING, FOLDS):
        return False
    if left.kind == FOLDS:
        print_folds(resume_folds(data, out, overwrite))
    else:
        print_run(out, resume_run(data, out, overwrite, init))
    return True


def begin(
    data: Path,
    out: Path,
    options: TrainOptions,
    split: SplitSpec,
    folds: int | None,
    init: Path | None,
    overwrite: bool,
    anew: bool,
) -> None:
    """Begin a training or a cross-validation.

    Args:
        data: Labelled images.
        out: The folder to make.
        options: What the user chose.
        split: How the cases are divided.
        folds: How many folds; None trains once.
        init: A finished run whose encoder the new one starts from.
        overwrite: Whether a finished result that stands there may be replaced.
        anew: Whether an interrupted one may be, which holds nothing to go on with.
    """
    from edgeseg.core.files import refuse_existing
    from edgeseg.training.folds import train_folds
    from edgeseg.training.trainer import train_run

    if anew:
        refuse_existing(out, overwrite, go_on=True)
    if folds:
        print_folds(train_folds(data, out, options, folds, split, overwrite or anew, init))
    else:
        print_run(out, train_run(data, out, options, overwrite or anew, split, init))


def print_run(out: Path, record: RunRecord) -> None:
    """Print how a training ended."""
    from edgeseg.training.history import read_history

    if record.evaluation is None:
        print(f"This worker is done; the chief leaves the run in {out}.")
        return
    print(f"{out}: best after epoch {record.best_epoch}, validation Dice {record.validation_dice:.3f}")
    if record.best_epoch == read_history(out)[-1].epoch:
        print("Validation Dice still rose in the last epochs: more --epochs may give more.")
    if record.output.shape == "ellipse":
        print("Every training mask is an ellipse around a measured head, so masks are drawn as ellipses.")
    print_timing(record.timing)
    print_evaluation("Test cases, float32", record.evaluation)
