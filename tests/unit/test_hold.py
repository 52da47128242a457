"""A mask is carried onto a newer frame: it follows moving tissue, and stays where motion explains nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from time import monotonic

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.frame.images import to_grey
from edgeseg.inference.segmenter import Segmentation, StageTimes
from edgeseg.phantom import PhantomClip
from edgeseg.streaming.sinks.base import Result
from edgeseg.streaming.sources.base import Frame
from edgeseg.streaming.tracking import PICTURES_PER_SECOND, MaskTracker, MaskWarper, Picture
from tests.results import make_result

SECONDS = 10


def overlap(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(2 * np.count_nonzero((one == 1) & (other == 1)) / (np.sum(one == 1) + np.sum(other == 1)))


@pytest.fixture(scope="module")
def moved() -> tuple[Frame, NDArray[np.uint8], Frame, NDArray[np.uint8]]:
    """Take a phantom, and the same eight pixels further to the right."""
    phantom = PhantomClip(3, size=(128, 160), geometry="linear").frame(0)
    shifted, labels = np.roll(phantom.image, 8, axis=1), np.roll(phantom.labels, 8, axis=1)
    return Frame(phantom.image, 0, monotonic()), phantom.labels, Frame(shifted, 2, monotonic()), labels


def test_mask_follows_the_tissue(moved: tuple[Frame, NDArray[np.uint8], Frame, NDArray[np.uint8]]) -> None:
    old, labels, new, truth = moved
    carried = MaskWarper().warp(labels, old.image, new.image)
    assert overlap(labels, truth) < 0.9 < overlap(carried, truth)
    assert set(np.unique(carried)) <= set(np.unique(labels))


@pytest.mark.parametrize("change", [np.copy, lambda frame: np.dstack([frame] * 3), lambda f: f.astype(np.uint16) << 8])
def test_any_frame_that_does_not_move_leaves_the_mask(change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> None:
    phantom = PhantomClip(3, size=(64, 96)).frame(0)
    carried = MaskWarper().warp(phantom.labels, change(phantom.image), change(phantom.image))
    np.testing.assert_array_equal(carried, phantom.labels)


def test_another_size_or_another_scene_leaves_the_mask() -> None:
    phantom, warper = PhantomClip(3, size=(64, 96)).frame(0), MaskWarper()
    noise = np.random.default_rng(0).integers(0, 256, (64, 96), np.uint8)
    for new in (np.zeros((32, 48), np.uint8), np.zeros((64, 96), np.uint8), noise):
        assert warper.warp(phantom.labels, phantom.image, new).shape == phantom.labels.shape


class Screen:
    """Keeps what is shown, and wakes the test."""

    def __init__(self) -> None:
        self.pictures: list[Picture] = []
        self._news = threading.Condition()

    def show(self, picture: Picture) -> None:
        with self._news:
            self.pictures.append(picture)
            self._news.notify_all()

    def wait(self, shown: NDArray[np.uint8]) -> Picture:
        with self._news:
            assert self._news.wait_for(lambda: any(p.image is shown for p in self.pictures), SECONDS)
            return next(p for p in self.pictures if p.image is shown)


def test_newest_frame_is_shown_with_the_newest_mask_and_no_thread_is_left(
    moved: tuple[Frame, NDArray[np.uint8], Frame, NDArray[np.uint8]],
) -> None:
    old, labels, new, truth = moved
    before, screen = threading.active_count(), Screen()
    tracker = MaskTracker(screen.show)
    tracker.on_frame(old)
    tracker.publish(Result(old, Segmentation(labels, StageTimes(1, 1, 1)), 5.0))
    assert screen.wait(old.image).labels is labels
    soon = replace(new, number=1, image=new.image.copy())
    tracker.on_frame(soon)
    tracker.on_frame(new)
    assert overlap(screen.wait(new.image).labels, truth) > 0.9
    tracker.close()
    assert all(picture.image is not soon.image for picture in screen.pictures)
    assert threading.active_count() == before


def test_while_nobody_looks_nothing_is_carried(
    moved: tuple[Frame, NDArray[np.uint8], Frame, NDArray[np.uint8]],
) -> None:
    old, labels, new, _ = moved
    screen = Screen()
    tracker = MaskTracker(screen.show, is_watched=lambda: False)
    tracker.publish(Result(old, Segmentation(labels, StageTimes(1, 1, 1)), 5.0))
    screen.wait(old.image)
    tracker.on_frame(new)
    last = replace(old, number=3, image=old.image.copy())
    tracker.publish(Result(last, Segmentation(labels, StageTimes(1, 1, 1)), 5.0))
    screen.wait(last.image)
    tracker.close()
    assert all(picture.image is not new.image for picture in screen.pictures)


def test_pictures_are_no_more_than_a_page_shows_and_the_last_is_among_them() -> None:
    screen = Screen()
    tracker, began = MaskTracker(screen.show), monotonic()
    results = [make_result(number) for number in range(300)]
    for result in results:
        tracker.publish(result)
    tracker.close()
    assert len(screen.pictures) <= 2 + PICTURES_PER_SECOND * (monotonic() - began)
    assert screen.pictures[-1].number == 299


def test_every_kind_of_frame_becomes_grey() -> None:
    grey = np.arange(3, 256, 4, dtype=np.uint8).reshape(8, 8)
    for frame in (grey, grey[..., None], np.dstack([grey] * 3), np.dstack([grey] * 4), grey.astype(np.uint16) << 8):
        np.testing.assert_allclose(to_grey(frame), grey, atol=1)
