"""What a network may look like is decided before anything is read, and softmax masks are made and read alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeseg.core.errors import UnknownNameError
from edgeseg.core.schema import from_plain, to_plain
from edgeseg.model.spec import UNetSpec
from edgeseg.training.options import TrainOptions
from edgeseg.training.validation import grid_dice


def make_spec(**changes: Any) -> UNetSpec:
    plain: dict[str, Any] = {"height": 32, "width": 32, "channels": 1, "outputs": 1, "activation": "sigmoid"}
    return UNetSpec(**plain | changes)


def test_named_sizes_say_more_than_widths() -> None:
    classic = TrainOptions(model="classic").describe_network(1)
    assert (classic.skip, classic.upsampling, classic.stem) == ("concat", "transpose", "full")
    small = TrainOptions().describe_network(1)
    assert (small.skip, small.upsampling, small.stem) == ("add", "bilinear", "quarter")
    assert TrainOptions(model="classic", stem="half").describe_network(1).stem == "half"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"skip": "sum"}, "skip.*add, concat"),
        ({"upsampling": "nearest"}, "upsampling.*bilinear, transpose"),
        ({"convolution": "sparse"}, "convolution.*plain, separable"),
        ({"stem": "none"}, "stem.*full, half, depth"),
        ({"activation": "relu"}, "activation.*sigmoid, softmax"),
        ({"colour": "bgr"}, "colour.*grey, rgb"),
        ({"dropout": 1.0}, "dropout.*0.*1"),
        ({"l2": -1.0}, "l2.*0"),
        ({"batch": 0}, "batch.* 1 to"),
        ({"size": 100}, "that 32 divides"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_a_sentence(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TrainOptions(**change)


def test_unknown_size_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError):
        TrainOptions(model="smal")


@pytest.mark.parametrize("own", [{"down9_a": 4}, {"down0_b": 4}, {"up0_reduce": 4}, {"stem": 4}, {"up0_a": 0}])
def test_own_widths_that_cannot_be_are_refused(own: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"1 to 8192.*down0_a, down1_a, up0_a, up0_b"):
        make_spec(widths=(8, 8), own=own)


def test_own_widths_survive_the_record() -> None:
    spec = make_spec(widths=(8, 16), skip="concat", own={"down0_a": 4, "up0_reduce": 6})
    assert from_plain(UNetSpec, to_plain(spec)) == spec
    assert (spec.width_of("down0_a", 0), spec.width_of("down1_a", 1)) == (4, 16)


def test_softmax_masks_are_judged_by_the_best_channel() -> None:
    masks = np.zeros((1, 2, 2, 2), np.uint8)
    masks[0, 0, 0, 0] = masks[0, 1, 1, 1] = 1
    predicted = np.full((1, 2, 2, 3), 0.2, np.float32)
    predicted[..., 0] = 0.45
    predicted[0, 0, 0, 1] = predicted[0, 1, 1, 2] = 0.48
    assert grid_dice(predicted, masks) == 1.0
