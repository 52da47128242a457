"""One trial: a training through the usual road, judged on validation cases and by its work."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

from edgeseg.core.errors import TrainingError
from edgeseg.core.modelfile import read_model
from edgeseg.model.keras import keras, tf
from edgeseg.train.run import MODEL, TrainOptions
from edgeseg.train.trainer import train_run
from edgeseg.tune.results import Score, TrialResult
from edgeseg.tune.space import StudyPlan, refuse_changed_data

TRIAL_FAILURES = (TrainingError, MemoryError, tf.errors.OpError)
"""What speaks against the network that was tried; whatever else goes wrong stops the study."""


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
        refuse_changed_data(data, fingerprint, record.data_fingerprint)
        score = Score(round(record.validation_dice, 5), read_model(folder / MODEL).card.macs)
        return TrialResult(round(monotonic() - start, 1), score)
    except TRIAL_FAILURES as error:
        return TrialResult(round(monotonic() - start, 1), sentence=_explain(error))
    finally:
        keras.backend.clear_session()


def _explain(error: BaseException) -> str:
    if isinstance(error, TrainingError):
        return error.message
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else "The memory was not enough."
