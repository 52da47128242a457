"""`edgeseg train`: from labelled images to a finished run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeseg.cli.arguments import with_options
from edgeseg.cli.common import (
    ClassNameOption,
    GroupPatternOption,
    ImagesOption,
    LayoutOption,
    MasksOption,
    OverwriteOption,
    join_layout,
    keep_inputs,
    need_training_packages,
)
from edgeseg.cli.evaluation_tables import print_evaluation, print_folds, print_timing
from edgeseg.cli.terminal import resumable
from edgeseg.training.options import REGISTER, TrainInputs, TrainOptions

if TYPE_CHECKING:
    from edgeseg.core.card import SplitSpec
    from edgeseg.training.registration import RegistrationRecord
    from edgeseg.training.run import LabelRecord, RunRecord

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml",
        help="Take the options from this file, such as the config.toml of a run; those given here win.",
        show_default=False,
    ),
]
InitOption = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Start the encoder from this finished run.", show_default=False),
]
UnlabelledOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Train on these frames without masks, too: images, clips and DICOM files of a folder (mean teacher).",
        show_default=False,
    ),
]
TeacherOption = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN|FOLDS",
        help="Follow this finished run, or the networks of a cross-validation, beside the labels (distillation).",
        show_default=False,
    ),
]
FoldsOption = Annotated[
    int | None,
    typer.Option(help="Cross-validation: train one run per fold, split by group.", min=3, show_default=False),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Continue an interrupted training, with the options it was begun with.")
]


def _read_config(path: Path) -> Mapping[str, Any]:
    from edgeseg.training.options import read_config

    return read_config(path)


@with_options(read_config=_read_config)
def train(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of labelled images, in any known layout; may stand in --config.", show_default=False
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="The run folder to make.")],
    options: TrainOptions,
    config: ConfigOption = None,  # noqa: ARG001 - with_options has read it
    init: InitOption = None,
    unlabelled: UnlabelledOption = None,
    teacher: TeacherOption = None,
    folds: FoldsOption = None,
    resume: ResumeOption = False,
    layout: LayoutOption = None,
    images: ImagesOption = None,
    masks: MasksOption = None,
    class_name: ClassNameOption = None,
    group_pattern: GroupPatternOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Train a compact U-Net on a folder of labelled images, or with --task register on clips without labels.

    The cases are divided by group (groups.csv with the columns stem and group, where there is one) into training,
    validation and test cases. The run folder appears when the training is finished; until then it grows as
    OUT.partial. Its config.toml repeats the training: `edgeseg train --config RUN/config.toml --out NEW`.

    Example: `edgeseg train data/phantom --out runs/first --epochs 30`
    """
    if data is None:
        raise typer.BadParameter("expected DATA, here or in --config, got none", param_hint="'DATA'")
    need_training_packages()
    if options.task == REGISTER or (resume and _is_registering(out)):
        inputs = TrainInputs(data, init, folds, layout, group_pattern, unlabelled, teacher)
        _train_registering(data, out, options, inputs, overwrite, resume)
        return
    with resumable(out):
        from edgeseg.training.trainer import plain_split

        layout = join_layout(data, layout, images, masks, class_name)
        inputs = TrainInputs(data, init, folds, layout, group_pattern, unlabelled, teacher)
        keep_inputs([data, init, unlabelled, teacher], [out])
        split = plain_split(options.seed, layout, group_pattern)
        if not (resume and go_on(data, out, overwrite, inputs)):
            begin(data, out, options, split, inputs, overwrite, anew=resume)


def _train_registering(
    clips: Path, out: Path, options: TrainOptions, inputs: TrainInputs, overwrite: bool, resume: bool
) -> None:
    """Train a registering network or go on with one, and print what it does on clips that were kept apart."""
    from edgeseg.core.files import refuse_existing
    from edgeseg.training.registration import check_registering, resume_registering, train_registering
    from edgeseg.training.resume import INTERRUPTED_TRAINING, find_partial

    keep_inputs([clips], [out])
    with resumable(out):
        if resume and find_partial(out, INTERRUPTED_TRAINING).expect(INTERRUPTED_TRAINING):
            print_registering(out, resume_registering(clips, out, overwrite))
            return
        check_registering(options, inputs)
        if resume:
            refuse_existing(out, overwrite, go_on=True)
        print_registering(out, train_registering(clips, out, options, overwrite or resume))


def _is_registering(out: Path) -> bool:
    from edgeseg.core.files import partial_path
    from edgeseg.training.registration import is_registering

    return is_registering(partial_path(out))


def print_registering(out: Path, record: RegistrationRecord) -> None:
    """Print how the training of a registering network ended."""
    from edgeseg.core.stats import show_interval
    from edgeseg.report.motion import leave_registration_report

    error, before, rise = record.error_px, record.before_px, record.similarity
    if error is not None and before is not None:
        print(
            f"Distance from the true place on clips kept apart: {error.mean:.2f} px "
            f"({show_interval(error.ci95, '.2f')})"
        )
        side = max(record.input.height, record.input.width)
        print(f"  without registration: {before.mean:.2f} px, of an input of {side} pixels")
    if rise is not None:
        print(f"Correlation of neighbouring frames rises by {rise.mean:+.3f} ({show_interval(rise.ci95, '+.3f')})")
    print(f"run: {out}   smaller files: edgeseg compress {out} --out DIR")
    page = leave_registration_report(out)
    if page is not None:
        print(f"report: {page}")


def go_on(data: Path, out: Path, overwrite: bool, inputs: TrainInputs) -> bool:
    """Go on with what an interruption left; says whether there was something."""
    from edgeseg.training.folds import resume_folds
    from edgeseg.training.resume import FOLDS, INTERRUPTED_TRAINING, find_partial
    from edgeseg.training.trainer import resume_run

    left = find_partial(out, INTERRUPTED_TRAINING)
    if not left.expect(INTERRUPTED_TRAINING, FOLDS):
        return False
    if left.kind == FOLDS:
        print_folds(resume_folds(data, out, overwrite))
        tell_report(out)
    else:
        print_run(out, resume_run(data, out, overwrite, inputs.init, inputs.unlabelled, inputs.teacher))
    return True


def begin(
    data: Path, out: Path, options: TrainOptions, split: SplitSpec, inputs: TrainInputs, overwrite: bool, anew: bool
) -> None:
    """Begin a training or a cross-validation.

    Args:
        data: Labelled images.
        out: The folder to make.
        options: What the user chose.
        split: How the cases are divided.
        inputs: What else is read, and how many folds there are; None trains once.
        overwrite: Whether a finished result that stands there may be replaced.
        anew: Whether an interrupted one may be, which holds nothing to go on with.
    """
    from edgeseg.core.files import refuse_existing
    from edgeseg.training.folds import train_folds
    from edgeseg.training.trainer import train_run

    if anew:
        refuse_existing(out, overwrite, go_on=True)
    replace, init, frames, teacher = overwrite or anew, inputs.init, inputs.unlabelled, inputs.teacher
    if inputs.folds:
        print_folds(train_folds(data, out, options, inputs.folds, split, replace, init, frames, teacher))
        tell_report(out)
        return
    teachers = [teacher] if teacher is not None else []
    print_run(out, train_run(data, out, options, replace, split, init, unlabelled=frames, teachers=teachers))


def print_run(out: Path, record: RunRecord) -> None:
    """Print how a training ended."""
    from edgeseg.core.spec import BOXES
    from edgeseg.training.validation import read_history
    from edgeseg.training.weak_supervision import describe_kinds

    if record.labels is not None and record.labels.judged_by == BOXES:
        print_boxed(out, record, record.labels)
        return
    if record.evaluation is None:
        print(f"This worker is done; the chief leaves the run in {out}.")
        return
    print(f"{out}: best after epoch {record.best_epoch}, validation Dice {record.validation_dice:.3f}")
    if record.best_epoch == read_history(out)[-1].epoch:
        longer = "--epochs" if record.federation is None else "--rounds"
        print(f"Validation Dice still rose in the last epochs: more {longer} may give more.")
    if record.output.shape == "ellipse":
        print("Every training mask is an ellipse around a measured head, so masks are drawn as ellipses.")
    if record.unlabelled is not None:
        print(f"Trained on {record.unlabelled.frames} frames without masks, of {record.unlabelled.files} files, too.")
    if record.labels is not None:
        print(f"Learned from {describe_kinds(record.labels.images)}; judged by full masks.")
    for teacher in record.teachers:
        networks = f" ({teacher.networks} networks)" if teacher.networks > 1 else ""
        print(f"Taught by {teacher.name}{networks}, beside the labels.")
    print_timing(record.timing)
    print_evaluation("Test cases, float32", record.evaluation)
    tell_report(out)


def print_boxed(out: Path, record: RunRecord, labels: LabelRecord) -> None:
    """Print how a training ended that boxes alone could judge."""
    from edgeseg.training.weak_supervision import describe_kinds

    print(f"{out}: best after epoch {record.best_epoch}, IoU of boxes on validation cases {record.validation_dice:.3f}")
    print(f"Learned from {describe_kinds(labels.images)}.")
    if labels.test_box_iou is not None:
        print(f"Test cases, float32: IoU of the boxes around masks with those of the labels {labels.test_box_iou:.3f}")
    print("Boxes do not say how good outlines are: there is no Dice and no operating point. Look at some masks with")
    print(f"edgeseg predict {out} IMAGES --out MASKS --overlay, and draw full outlines on some images to judge by.")
    print_timing(record.timing)


def tell_report(out: Path) -> None:
    """Write the report of what was trained, and say where it is."""
    from edgeseg.report.training import leave_report

    page = leave_report(out)
    if page is not None:
        print(f"report: {page}")
