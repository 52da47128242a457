"""The loss of weak labels: better masks have lower losses, and images with full masks keep their own."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.card import SplitSpec
from edgeseg.core.modelfile import read_model
from edgeseg.core.spec import BOXES, MASKS, WEAK_KINDS, InputSpec
from edgeseg.data.augment import AugmentSpec
from edgeseg.data.dataset import open_dataset
from edgeseg.data.weak_labels import fill_regions, shrink_known, weak_to_grid, weaken
from edgeseg.model.keras import tf
from edgeseg.model.losses import find_loss, find_weak_loss
from edgeseg.training.grids import to_grid
from edgeseg.training.loading import Feed, add_background, load_data
from edgeseg.training.options import LabelChoice, TrainOptions
from edgeseg.training.trainer import describe_labels, train_run

pytestmark = pytest.mark.integration
SIDE = 64


def draw(across: int = 18, down: int = 12) -> NDArray[np.uint8]:
    return cv2.ellipse(np.zeros((SIDE, SIDE), np.uint8), (32, 32), (across, down), 0, 0, 360, 1, -1).astype(np.uint8)


def shrink(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(mask.reshape(1, 16, 4, 16, 4, 1).mean((2, 4)), np.float32)


def judge(kind: str, mask: NDArray[np.uint8], activation: str) -> float:
    marks, weak = weaken([draw()], kind, "a")
    assert weak is not None
    both = weak_to_grid(weak, marks[0][..., np.newaxis], (SIDE, SIDE), InputSpec(SIDE, SIDE))
    learned, unknown = np.split(both, 2, axis=-1)
    predicted = 0.02 + 0.96 * shrink(mask)
    if activation == "softmax":
        learned, predicted = add_background(learned), np.concatenate([1 - predicted, predicted], axis=-1)
    truth = shrink_known(learned, unknown, 4)[np.newaxis]
    with tf.GradientTape() as tape:
        tape.watch(predicted := tf.constant(predicted))
        loss = find_weak_loss("bce-dice", activation, 1)(truth, predicted)
    assert np.isfinite(tape.gradient(loss, predicted).numpy()).all()
    return float(loss.numpy()[0])


@pytest.mark.parametrize("kind", WEAK_KINDS)
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_the_outline_costs_less_than_nothing_and_everything_and_with_boxes_less_than_others(
    kind: str, activation: str
) -> None:
    right = judge(kind, draw(), activation)
    others = [np.zeros_like(draw()), np.ones_like(draw())]
    if kind == BOXES:
        others += [fill_regions(draw()), draw(8, 5), draw(26, 20)]
    assert all(right < judge(kind, mask, activation) for mask in others)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_images_with_full_masks_keep_their_loss(activation: str) -> None:
    mask, predicted = shrink(draw()), 0.02 + 0.9 * shrink(draw(12, 12))
    rest = np.zeros_like(mask)
    if activation == "softmax":
        mask, predicted = (np.concatenate([1 - one, one], axis=-1) for one in (mask, predicted))
    both = find_weak_loss("bce-dice", activation, 1)(np.concatenate([mask, rest], axis=-1), predicted)
    assert both.numpy() == pytest.approx(find_loss("bce-dice", activation)(mask, predicted).numpy())


def test_masks_judge_a_training_on_boxes_that_some_groups_lack(trained_data: Path) -> None:
    loaded = load_data(trained_data, SplitSpec(0, 0.12, 0.15), labels=LabelChoice(BOXES, 0.3))
    labels = describe_labels(loaded)
    assert labels is not None
    assert labels.judged_by == MASKS
    assert 0 < labels.images[MASKS] < labels.images[BOXES]
    arrays = to_grid(loaded.part("train"), InputSpec(32, 32))
    assert len(arrays.weak) == labels.images[BOXES]
    feed = Feed(arrays, 4, 0, 4, AugmentSpec(), background=True)
    truths = [feed.make_case(0, number)[1] for number in range(len(arrays))]
    assert {truth.shape for truth in truths} == {feed.shapes[1]} == {(8, 8, 3)}
    # full masks leave nothing unknown
    assert not any(truth[..., 2].any() for number, truth in enumerate(truths) if number not in arrays.weak)


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
    record = train_run(root, tmp_path / "run", TrainOptions(model="nano", size=64, epochs=1, batch=8))
    assert record.labels is not None
    assert (record.labels.judged_by, record.evaluation) == (BOXES, None)
    assert record.labels.test_box_iou is not None
    assert read_model(tmp_path / "run" / "model.tflite").card.provenance.labels == record.labels.images
