"""A training that the memory cannot hold is refused with what would fit, and not ended by the system."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgeseg.core.errors import TrainingError
from edgeseg.data.case import Case
from edgeseg.data.reading import Reading
from edgeseg.train.memory import check_images, check_memory, estimate_memory, refuse_too_large


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


def make_cases(*sides: int) -> list[Case]:
    """Describe square images with one mask; what is read takes no memory."""

    def read(case: Case, colour: bool) -> Reading:  # noqa: ARG001
        pixels = np.broadcast_to(np.uint8(0), (int(case.stem),) * 2)
        return pixels, (pixels,)

    return [Case(str(side), Path(), (), "g", read=read) for side in sides]


def test_images_are_judged_before_all_are_read() -> None:
    check_images(make_cases(64, 2**25, 2**25), colour=False)
    huge = make_cases(*[2**20] * 12)
    with pytest.raises(TrainingError, match="at least 25,165,824 MB of free memory for the 12 images"):
        check_images(huge, colour=False)
