"""Losses of weak labels: better masks have lower losses, and images with full masks keep their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.modelfile import read_model
from edgeseg.core.spec import BOXES, POINTS, WEAK_KINDS, InputSpec
from edgeseg.data.dataset import open_dataset
from edgeseg.data.weak_labels import fill_regions, weaken
from edgeseg.data.weak_truth import count_channels, vary_weak, weak_to_grid
from edgeseg.model.keras import tf
from edgeseg.model.losses import find_loss
from edgeseg.model.weak_losses import find_weak_loss
from edgeseg.training.options import TrainOptions
from edgeseg.training.trainer import train_run

pytestmark = pytest.mark.integration
SIDE = 64


def draw(across: int = 18, down: int = 12) -> NDArray[np.uint8]:
    return cv2.ellipse(np.zeros((SIDE, SIDE), np.uint8), (32, 32), (across, down), 0, 0, 360, 1, -1).astype(np.uint8)


def shrink(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(mask.reshape(1, 16, 4, 16, 4, 1).mean((2, 4)), np.float32)


def make_truth(kind: str) -> NDArray[np.float32]:
    masks, weak = weaken([draw()], kind, "a")
    assert weak is not None
    case = weak_to_grid(weak, (SIDE, SIDE), InputSpec(SIDE, SIDE))
    image = np.where(draw()[..., np.newaxis] > 0, 40, 150).astype(np.uint8)
    rest = vary_weak(image, masks[0][..., np.newaxis], case, None, "none", 4, np.random.default_rng(0))[2]
    return np.concatenate([shrink(masks[0]), rest[np.newaxis]], axis=-1)


def judge(truth: NDArray[np.float32], mask: NDArray[np.float32], activation: str = "sigmoid") -> float:
    predicted = 0.02 + 0.96 * mask
    if activation == "softmax":
        background = 1 - truth[..., :1]
        truth, predicted = (np.concatenate(pair, axis=-1) for pair in ((background, truth), (1 - predicted, predicted)))
    return float(find_weak_loss("bce-dice", activation, 1)(truth, predicted).numpy()[0])


@pytest.mark.parametrize("kind", WEAK_KINDS)
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_the_outline_costs_less_than_nothing_everything_and_the_box(kind: str, activation: str) -> None:
    truth = make_truth(kind)
    right = judge(truth, shrink(draw()), activation)
    others = [np.zeros_like(shrink(draw())), np.ones_like(shrink(draw()))]
    if kind == BOXES:
        others += [shrink(fill_regions(draw())), shrink(draw(8, 5)), shrink(draw(26, 20))]
    assert all(right < judge(truth, mask, activation) for mask in others)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_images_with_full_masks_keep_their_loss(activation: str) -> None:
    mask, predicted = shrink(draw()), 0.02 + 0.9 * shrink(draw(12, 12))
    rest = np.zeros((1, 16, 16, count_channels(1)), np.float32)
    if activation == "softmax":
        mask, predicted = (np.concatenate([1 - one, one], axis=-1) for one in (mask, predicted))
    both = find_weak_loss("bce-dice", activation, 1)(np.concatenate([mask, rest], axis=-1), predicted)
    assert both.numpy() == pytest.approx(find_loss("bce-dice", activation)(mask, predicted).numpy())


@pytest.mark.parametrize("kind", [BOXES, POINTS])
def test_gradients_are_finite(kind: str) -> None:
    for start in (0.0, 1.0, 0.3):
        predicted = tf.Variable(np.full((1, 16, 16, 1), start, np.float32))
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(find_weak_loss("bce-dice", "sigmoid", 1)(make_truth(kind), predicted))
        assert np.isfinite(tape.gradient(loss, predicted).numpy()).all()


def train(data: Path, out: Path, **options: Any) -> Any:
    chosen = TrainOptions(model="micro", size=64, epochs=1, batch=4, **options)
    return train_run(data, out, chosen)


def test_a_training_on_boxes_says_so_and_is_judged_by_masks(trained_data: Path, tmp_path: Path) -> None:
    record = train(trained_data, tmp_path / "run", labels=BOXES, full_masks=0.3)
    assert record.labels is not None
    assert record.labels.images[BOXES] > 0
    assert record.labels.judged_by == "masks"
    assert record.evaluation is not None
    card = read_model(tmp_path / "run" / "model.tflite").card
    assert card.provenance.labels == record.labels.images


def test_boxes_alone_are_judged_by_boxes(tmp_path: Path) -> None:
    root = tmp_path / "data"
    random = np.random.default_rng(0)
    for number in range(12):
        (root / "labels").mkdir(parents=True, exist_ok=True)
        (root / "images").mkdir(exist_ok=True)
        image = random.integers(60, 200, (SIDE, SIDE), dtype=np.uint8)
        cv2.imwrite(str(root / "images" / f"i{number}.png"), image)
        (root / "labels" / f"i{number}.txt").write_text("0 0.5 0.5 0.4 0.3\n")
    (root / "data.yaml").write_text("names: [lesion]\n")
    assert len(open_dataset(root).cases) == 12
    record = train(root, tmp_path / "run")
    assert record.labels is not None
    assert (record.labels.judged_by, record.evaluation) == (BOXES, None)
    assert record.labels.test_box_iou is not None
