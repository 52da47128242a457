"""What speaks against the values that were tried, and not against the search; whatever else goes wrong stops it."""

from __future__ import annotations

from edgeseg.core.errors import EdgesegError, RecipeError, TrainingError
from edgeseg.model.keras import tf

TRIAL_FAILURES = (TrainingError, RecipeError, MemoryError, tf.errors.OpError)


def explain_failure(error: BaseException) -> str:
    """Say in one sentence why a trial failed."""
    if isinstance(error, EdgesegError):
        return error.message
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else "The memory was not enough."
