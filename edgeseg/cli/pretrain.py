"""`edgeseg pretrain`: from frames without masks to an encoder that a training starts from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.arguments import with_options
from edgeseg.cli.common import OverwriteOption, keep_inputs, need_training_packages
from edgeseg.cli.terminal import resumable
from edgeseg.training.options import TrainOptions

if TYPE_CHECKING:
    from edgeseg.training.start import PretrainRecord

# Options of a training that concern the encoder or the steps; the others concern masks.
_USED = (
    "model",
    "size",
    "stem",
    "colour",
    "convolution",
    "epochs",
    "batch",
    "learning_rate",
    "seed",
    "denoise",
    "augment",
    "l2",
    "ema",
)


@with_options(only=_USED)
def pretrain(
    frames: Annotated[Path, typer.Argument(help="Folder of images, clips and DICOM files; masks are left out.")],
    *,
    out: Annotated[Path, typer.Option(help="The folder to make, for train --init.")],
    options: TrainOptions,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted pretraining, with the options it was begun with.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Pretrain the encoder of a U-Net on frames without masks.

    The network learns to fill in hidden patches of the frames; `edgeseg train DATA --out RUN --init OUT` then starts
    from its encoder. Give the same --model, --stem, --convolution and --colour there. Frames of patients that validate
    or test are refused then.

    Example: `edgeseg pretrain clips --out runs/pretrained --epochs 100`
    """
    need_training_packages()
    with resumable(out):
        keep_inputs([frames], [out])
        print_pretrained(out, _run(frames, out, options, resume, overwrite))


def _run(frames: Path, out: Path, options: TrainOptions, resume: bool, overwrite: bool) -> PretrainRecord:
    from edgeseg.core.files import refuse_existing
    from edgeseg.training.pretrain import pretrain_run, resume_pretraining
    from edgeseg.training.resume import INTERRUPTED_PRETRAINING, find_partial

    if resume and find_partial(out, INTERRUPTED_PRETRAINING).expect(INTERRUPTED_PRETRAINING):
        return resume_pretraining(out, frames, overwrite)
    if resume:
        refuse_existing(out, overwrite, go_on=True)
    return pretrain_run(frames, out, options, overwrite or resume)


def print_pretrained(out: Path, record: PretrainRecord) -> None:
    """Print how a pretraining ended."""
    print(f"{out}: {record.frames.frames} frames of {record.frames.files} files, {record.seconds / 60:.1f} minutes")
    print(
        f"Squared error of hidden pixels of frames that were kept apart, after epoch {record.best_epoch}: "
        f"{record.error:.4f}; of their mean brightness: {record.grey_error:.4f}."
    )
    if record.error >= record.grey_error:
        print("The network fills in no better than with a mean: more --epochs, or more and other frames.")
    print(f"Start from it with: edgeseg train DATA --out RUN --init {out}")
