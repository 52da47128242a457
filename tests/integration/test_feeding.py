"""What the training step is fed with: every case once an epoch, the same again when a training is continued."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.data.augment import AugmentSpec
from edgeseg.model.keras import tf
from edgeseg.training.ema import WeightEma
from edgeseg.training.grids import GridArrays, Growth, shrink_case
from edgeseg.training.loading import Feed, Part, build_pipeline, shrink_masks
from edgeseg.training.options import EMA

pytestmark = pytest.mark.integration


def make_feed(augment: AugmentSpec | None) -> Feed:
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1) * np.ones((1, 32, 32, 1), np.uint8)
    masks = np.zeros((10, 32, 32, 1), np.uint8)
    masks[:, 8:24, 8:24] = 1
    return Feed(GridArrays(images, masks), batch=4, seed=1, stride=2, augment=augment)


def test_every_case_comes_once_an_epoch_in_another_order() -> None:
    feed = make_feed(None)
    batches = [np.asarray(images)[:, 0, 0, 0] * 255 for images, _ in build_pipeline(feed, epochs=2)]
    assert [len(batch) for batch in batches] == [4, 4, 2] * 2
    first, second = np.concatenate(batches[:3]), np.concatenate(batches[3:])
    assert sorted(first.round()) == sorted(second.round()) == list(range(10))
    assert first.tolist() != second.tolist()


def test_a_continued_training_sees_what_it_would_have_seen() -> None:
    feed = make_feed(AugmentSpec())
    whole = [np.asarray(images) for images, _ in build_pipeline(feed, epochs=3)]
    rest = [np.asarray(images) for images, _ in build_pipeline(feed, epochs=3, first_epoch=2)]
    assert all(np.array_equal(a, b) for a, b in zip(whole[6:], rest, strict=True))


def test_any_number_of_threads_makes_the_same_batches() -> None:
    feed = make_feed(AugmentSpec())
    seen = []
    for threads in (1, 4):
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        seen.append([np.asarray(images) for images, _ in build_pipeline(feed, 2).with_options(options)])
    assert all(np.array_equal(a, b) for a, b in zip(*seen, strict=True))
    # nor does it matter which cases a batch holds
    assert np.array_equal(feed.make_batch(1, np.array([3, 7]))[0][1], feed.make_case(1, 7)[0])


def test_batches_are_made_ahead_beyond_the_end_of_an_epoch() -> None:
    begun = threading.Event()

    class WatchedFeed(Feed):
        def make_case(self, epoch: int, number: int) -> tuple[NDArray[np.float32], ...]:
            if epoch == 1:
                begun.set()
            return super().make_case(epoch, number)

    feed = make_feed(None)
    batches = iter(build_pipeline(WatchedFeed(feed.arrays, feed.batch, feed.seed, feed.stride, None), epochs=3))
    for _ in range(feed.steps):
        next(batches)
    assert begun.wait(10)


def test_replicas_share_every_batch_evenly() -> None:
    feed = make_feed(None)
    parts = [list(build_pipeline(feed, 1, part=Part(first, 1, 2))) for first in (0, 1)]
    assert [[len(images) for images, _ in part] for part in parts] == [[2, 2, 2]] * 2
    seen = np.concatenate([np.asarray(images)[:, 0, 0, 0] * 255 for part in parts for images, _ in part]).round()
    assert set(seen) == set(range(10))
    both = list(build_pipeline(feed, 1, part=Part(0, 2, 2)))
    assert [len(images) for images, _ in both] == [2] * 6


def test_masks_are_as_coarse_as_the_network_draws_them() -> None:
    masks = np.zeros((1, 4, 4, 1), np.uint8)
    masks[0, 0, 0, 0] = masks[0, :2, 2:, 0] = 1
    assert shrink_masks(masks, 2)[0, :, :, 0].tolist() == [[0.25, 1.0], [0.0, 0.0]]
    _, batch = next(iter(build_pipeline(make_feed(None), epochs=1)))
    assert batch.shape == (4, 16, 16, 1)


def test_averaged_weights_are_steadier_and_take_no_nan_in() -> None:
    from edgeseg.model.keras import keras

    model = keras.Sequential([keras.layers.Dense(1, use_bias=False, input_shape=(1,))])
    twin = keras.models.clone_model(model)
    average, weight = WeightEma(model, EMA), model.weights[0]
    for step in range(400):
        weight.assign([[10.0 if step % 2 else -10.0]])
        average.update()
    weight.assign([[float("nan")]])
    average.update()
    average.copy_to(twin)
    assert abs(float(twin.weights[0].numpy()[0, 0])) < 1.0


def test_images_of_the_first_epochs_are_small_and_show_the_same() -> None:
    masks = np.zeros((10, 128, 128, 1), np.uint8)
    masks[:, 32:96, 32:96] = 1
    arrays = GridArrays(masks * np.uint8(9), masks)
    feed = Feed(arrays, batch=5, seed=1, stride=2, augment=AugmentSpec(), growth=Growth(64, 128, 10))
    sides = [(images.shape[1], masks.shape[1]) for images, masks in build_pipeline(feed, epochs=10)]
    assert sides == [(64, 32)] * 8 + [(96, 48)] * 6 + [(128, 64)] * 6
    # a continued training goes on with the size of its epoch
    assert next(iter(build_pipeline(feed, epochs=10, first_epoch=7)))[0].shape[1] == 128
    plain = Feed(arrays, batch=5, seed=1, stride=2, augment=None, growth=Growth(64, 128, 10))
    assert plain.make_case(0, 3)[1].mean() == pytest.approx(plain.make_case(9, 3)[1].mean())


def test_a_small_image_marks_what_covers_half_of_its_pixels() -> None:
    masks = np.zeros((8, 8, 2), np.uint8)
    masks[:, :3, 0], masks[:4, :4, 1] = 1, 1
    pixels, small = shrink_case(np.full((8, 8, 1), 7, np.uint8), masks, 4)
    assert pixels.shape == (4, 4, 1)
    assert (pixels == 7).all()
    assert small[..., 0].tolist() == [[1, 1, 0, 0]] * 4
    assert small[..., 1].sum() == 4


@pytest.mark.parametrize("epochs", range(1, 12))
def test_images_only_grow_and_end_whole(epochs: int) -> None:
    sides = [Growth(64, 128, epochs).find_side(epoch) for epoch in range(epochs)]
    assert sides == sorted(sides)
    assert set(sides) <= {64, 96, 128}
    assert sides[-1] == 128
