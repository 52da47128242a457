"""Between Optuna's trials and ours: how a trial stands, and why."""

from __future__ import annotations

from optuna.trial import FrozenTrial, TrialState

from edgeseg.trials.results import FAILED, FINISHED, INTERRUPTED, RUNNING

ATTEMPTS = 3
OFTEN_INTERRUPTED = f"Its process ended before it was finished, {ATTEMPTS} times; perhaps the memory is not enough."
ATTEMPT, SECONDS, SENTENCE, REPEATED = "attempt", "seconds", "sentence", "repeated"
"""What a trial's attributes in the journal are called."""


def judge_state(trial: FrozenTrial) -> tuple[str, str]:
    """Say how a trial stands, and why where it failed."""
    if trial.state == TrialState.COMPLETE:
        return FINISHED, ""
    if trial.state == TrialState.RUNNING:
        return RUNNING, ""
    if SENTENCE in trial.user_attrs:
        return FAILED, trial.user_attrs[SENTENCE]
    if trial.user_attrs.get(ATTEMPT, 1) >= ATTEMPTS:
        return FAILED, OFTEN_INTERRUPTED
    return INTERRUPTED, ""
