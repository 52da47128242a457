"""One trial: a training through the usual road, judged on validation cases and by its work."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

from edgeseg.core.modelfile import read_model
from edgeseg.model.keras import keras
from edgeseg.train.run import MODEL, TrainOptions
from edgeseg.train.trainer import train_run
from edgeseg.trials.failures import TRIAL_FAILURES, explain_failure
from edgeseg.trials.results import TrialResult
from edgeseg.tune.results import Score
from edgeseg.tune.space import StudyPlan, refuse_changed_data


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
        return TrialResult(round(monotonic() - start, 1), sentence=explain_failure(error))
    finally:
        keras.backend.clear_session()
