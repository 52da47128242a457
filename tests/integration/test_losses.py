"""Every loss falls from a wrong mask over a coarse one to the true one, and lets training follow it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.errors import RunError, UnknownNameError
from edgeseg.model.keras import tf
from edgeseg.model.losses import LOSSES, bce_dice_loss, find_loss, weigh_classes
from edgeseg.model.spec import UNetSpec, find_size
from edgeseg.model.unet import build_unet
from edgeseg.training.run import WEIGHTS, read_run
from edgeseg.training.start import load_network, start_from

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("shallow_sizes")]

TRUTH = np.zeros((2, 32, 32, 1), np.float32)
TRUTH[0, 8:24, 8:24] = 1


def predict(rows: slice, columns: slice) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    predicted = np.full_like(TRUTH, 0.02)
    predicted[0, rows, columns] = 0.98
    return predicted


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_better_masks_have_lower_losses(name: str) -> None:
    loss = find_loss(name)
    right, near, wrong = (
        loss(TRUTH, predict(*place)).numpy()
        for place in ((slice(8, 24), slice(8, 24)), (slice(10, 26), slice(8, 24)), (slice(0, 8), slice(24, 32)))
    )
    assert right.shape == (2,)
    assert right[0] < near[0] < wrong[0]


def test_overlap_is_asked_for_only_where_there_is_something_unless_all_is_asked_for() -> None:
    cautious, strict, pixels = (
        find_loss(name)(TRUTH, predict(slice(10, 26), slice(8, 24))).numpy()
        for name in ("bce-dice", "bce-dice-all", "bce")
    )
    assert cautious[0] == pytest.approx(strict[0])
    assert cautious[1] == pytest.approx(pixels[1])
    assert strict[1] > pixels[1] + 0.5


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_are_finite_and_not_zero(name: str) -> None:
    predicted = tf.Variable(predict(slice(10, 26), slice(8, 24)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(find_loss(name)(TRUTH, predicted))
    gradient = tape.gradient(loss, predicted).numpy()
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_softmax_losses_fall_as_well_and_the_background_is_no_structure(name: str) -> None:
    loss = find_loss(name, "softmax")
    truth = np.concatenate([1 - TRUTH, TRUTH], axis=-1)
    right, wrong = (
        loss(truth, np.concatenate([1 - masks, masks], axis=-1)).numpy()
        for masks in (predict(slice(8, 24), slice(8, 24)), predict(slice(0, 8), slice(24, 32)))
    )
    assert right.shape == (2,)
    assert right[0] < wrong[0]


def test_dice_of_softmax_masks_leaves_the_background_out() -> None:
    truth, nothing = np.concatenate([1 - TRUTH, TRUTH], axis=-1), np.zeros_like(TRUTH)
    found = find_loss("dice", "softmax")(truth, np.concatenate([1 - nothing, nothing], axis=-1)).numpy()
    assert found[0] > 0.9


def test_empty_truth_prefers_an_empty_mask() -> None:
    empty, blob = np.full_like(TRUTH, 0.01), predict(slice(8, 24), slice(8, 24))
    nothing = np.zeros_like(TRUTH)
    assert bce_dice_loss(nothing, empty).numpy()[0, 0] < bce_dice_loss(nothing, blob).numpy()[0, 0]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_each_class_has_its_own_value_and_weight(name: str) -> None:
    wrong = predict(slice(0, 8), slice(24, 32))
    truth, predicted = np.concatenate([TRUTH, TRUTH], axis=-1), np.concatenate([TRUTH, wrong], axis=-1)
    values = LOSSES[name](truth, predicted).numpy()
    assert values.shape == (2, 2)
    assert values[:, 1] == pytest.approx(find_loss(name)(TRUTH, wrong).numpy(), rel=1e-4, abs=1e-6)
    assert find_loss(name)(truth, predicted).numpy() == pytest.approx(values.mean(axis=1), rel=1e-4, abs=1e-6)
    heavy = weigh_classes(LOSSES[name], (0.5, 1.5))(truth, predicted).numpy()
    assert heavy == pytest.approx((values * [0.5, 1.5]).mean(axis=1), rel=1e-4, abs=1e-6)


def test_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_loss("dise")
    assert "dice?" in caught.value.hint


def test_encoder_starts_from_another_run_and_the_rest_does_not(trained_run: Path) -> None:
    spec = UNetSpec(96, 96, 1, 2, "sigmoid", find_size("nano").widths_behind("quarter"), stem="quarter")
    model = build_unet(spec)
    head, encoder = model.get_layer("head").get_weights()[0], model.get_layer("down1_a").get_weights()[0]
    assert start_from(model, trained_run) > 10
    assert not np.array_equal(model.get_layer("down1_a").get_weights()[0], encoder)
    assert np.array_equal(model.get_layer("head").get_weights()[0], head)


def test_encoder_fits_another_way_up(trained_run: Path) -> None:
    widths = find_size("nano").widths_behind("quarter")
    spec = UNetSpec(64, 64, 1, 2, "softmax", widths, skip="concat", upsampling="transpose", stem="quarter")
    model = build_unet(spec)
    assert start_from(model, trained_run) > 10


@pytest.mark.parametrize(
    ("channels", "stem", "convolution"), [(1, "quarter", "separable"), (1, "depth", "plain"), (3, "quarter", "plain")]
)
def test_encoder_of_another_kind_is_refused(trained_run: Path, channels: int, stem: str, convolution: str) -> None:
    widths = find_size("nano").widths_behind(stem)
    spec = UNetSpec(64, 64, channels, 1, "sigmoid", widths, stem=stem, convolution=convolution)
    with pytest.raises(RunError, match="layer"):
        start_from(build_unet(spec), trained_run)


def test_encoder_that_does_not_fit_is_refused(trained_run: Path) -> None:
    model = build_unet(UNetSpec(64, 64, 1, 1, "sigmoid", find_size("micro").widths_behind("quarter"), stem="quarter"))
    with pytest.raises(RunError, match="layer stem"):
        start_from(model, trained_run)


@pytest.mark.parametrize("kept", [0, 5000])
def test_damaged_weights_are_told_as_such(kept: int, trained_run: Path, tmp_path: Path) -> None:
    record = read_run(trained_run)
    (tmp_path / WEIGHTS).write_bytes((trained_run / WEIGHTS).read_bytes()[:kept])
    with pytest.raises(RunError, match=r"weights\.h5") as caught:
        load_network(tmp_path, record)
    assert caught.value.__cause__ is not None
