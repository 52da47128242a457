"""Between Optuna's trials and ours: what a trial tries, and what is remembered of it."""

from __future__ import annotations

from optuna.trial import FrozenTrial, Trial

from edgeseg.train.run import TrainOptions
from edgeseg.trials.states import SECONDS, judge_state
from edgeseg.tune.results import TrialRow
from edgeseg.tune.space import StudyPlan

PARAMETERS = frozenset({"model", "size", "stem", "loss", "learning_rate"})


def propose_options(trial: Trial, plan: StudyPlan) -> TrainOptions:
    """Let Optuna choose what a trial trains."""
    space = plan.space
    rate = trial.suggest_float("learning_rate", *space.learning_rates, log=True)
    return TrainOptions(
        model=trial.suggest_categorical("model", space.models),
        size=trial.suggest_categorical("size", space.sizes),
        stem=trial.suggest_categorical("stem", space.stems),
        loss=trial.suggest_categorical("loss", space.losses),
        learning_rate=_round_rate(rate),
        epochs=plan.epochs,
        seed=plan.seed,
    )


def _round_rate(rate: float) -> float:
    """Keep three digits, so that the command on the screen trains what was tried."""
    return float(f"{rate:.3g}")


def read_row(trial: FrozenTrial) -> TrialRow:
    """Read from Optuna's trial what came of it."""
    dice, macs = trial.values or (None, None)
    state, sentence = judge_state(trial)
    return TrialRow(
        number=trial.number,
        state=state,
        **{**trial.params, "learning_rate": _round_rate(trial.params["learning_rate"])},
        validation_dice=dice,
        macs=None if macs is None else int(macs),
        seconds=trial.user_attrs.get(SECONDS),
        sentence=sentence,
    )
