"""One trial: a training through the usual road, judged on validation cases and by its work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from edgeseg.core.errors import DataError, RunError
from edgeseg.core.modelfile import read_model
from edgeseg.model.keras import keras, tf
from edgeseg.train.run import MODEL, RunRecord, TrainOptions
from edgeseg.train.trainer import train_run
from edgeseg.tune.results import Score
from edgeseg.tune.space import StudyPlan

TRIAL_FAILURES = (RunError, MemoryError, tf.errors.OpError)
"""What speaks against the network that was tried; whatever else goes wrong stops the study."""


@dataclass(frozen=True)
class TrialResult:
    """What a finished trial found, or why it failed."""

    seconds: float
    score: Score | None = None
    sentence: str = ""


def run_trial(data: Path, folder: Path, plan: StudyPlan, options: TrainOptions, fingerprint: str) -> TrialResult:
    """Train once; the test cases are left alone.

    Args:
        data: Labelled images.
        folder: The run folder to make.
        plan: The study's plan.
        options: What this trial tries.
        fingerprint: The data the study was begun on.
    """
    start = monotonic()
    try:
        record = train_run(data, folder, options, split=plan.split, test=False)
        _refuse_changed(data, record, fingerprint)
        score = Score(round(record.validation_dice, 5), read_model(folder / MODEL).card.macs)
        return TrialResult(round(monotonic() - start, 1), score)
    except TRIAL_FAILURES as error:
        return TrialResult(round(monotonic() - start, 1), sentence=_explain(error))
    finally:
        keras.backend.clear_session()


def _refuse_changed(data: Path, record: RunRecord, fingerprint: str) -> None:
    if record.data_fingerprint != fingerprint:
        raise changed_data(data)


def changed_data(data: Path) -> DataError:
    """Say that the data are not those that the study was begun on."""
    return DataError(
        f"Expected the data that the study was begun on, got a changed folder {data}.",
        "Restore the folder, or begin a new study with another --out.",
    )


def _explain(error: BaseException) -> str:
    if isinstance(error, RunError):
        return error.message
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else "The memory was not enough."
