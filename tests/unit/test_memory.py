"""A training that the memory cannot hold is refused with what would fit, and not ended by the system."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgeseg.core.errors import TrainingError
from edgeseg.train.memory import check_memory, estimate_memory, refuse_too_large


def describe_model(results: int, parameters: int) -> SimpleNamespace:
    layer = SimpleNamespace(output=SimpleNamespace(shape=(None, 1024, results)))
    return SimpleNamespace(layers=[layer], count_params=lambda: parameters)


def test_results_grow_with_the_batch_and_weights_do_not() -> None:
    one, two = (estimate_memory(describe_model(1024, 2**20), batch) for batch in (1, 2))
    assert (one, two) == pytest.approx((3.2 + 24.0, 6.4 + 24.0))


def test_more_than_is_free_is_refused_with_what_would_fit() -> None:
    refuse_too_large(needed=6000, least=1000, free=6000, batch=16)
    with pytest.raises(TrainingError, match=r"at least 6,700 MB of free memory .* batch of 16, got 4,000 MB") as caught:
        refuse_too_large(6700, 1200, 4000, 16)
    assert "--batch (1 needs 1,200 MB)" in caught.value.hint


def test_this_machine_is_asked() -> None:
    check_memory(describe_model(1, 1), 16)
    with pytest.raises(TrainingError, match="free memory"):
        check_memory(describe_model(2**20, 2**40), 16)
