"""How frames are taken: at which rate, all or the newest, once or again, from which part."""

from __future__ import annotations

import itertools
import math
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.core.spec import InputSpec, Region
from edgeseg.frame.preprocess import place_frame, use_region
from edgeseg.streaming.grabber import Grabber
from edgeseg.streaming.options import CaptureOptions, read_rate, read_roi
from edgeseg.streaming.sources.base import Source
from edgeseg.streaming.sources.choose import open_source
from edgeseg.streaming.sources.reconnect import LoopedSource

PHANTOM = "phantom://?frames=6&size=32"


class Counting(Source):
    """Gives frames that carry their number, as fast as they are read; knows how many are still kept."""

    def __init__(self, count: int, live: bool = False) -> None:
        self._numbers = iter(range(count))
        self.live = live
        self._alive = self.most_alive = 0

    def read(self) -> NDArray[Any] | None:
        number = next(self._numbers, None)
        if number is None:
            return None
        image = np.full((4, 4), number % 256, np.uint8)
        self._alive += 1
        self.most_alive = max(self.most_alive, self._alive)
        weakref.finalize(image, self._forget)
        return image

    def _forget(self) -> None:
        self._alive -= 1


def test_every_frame_is_given_in_order() -> None:
    with Grabber(Counting(100), CaptureOptions(rate=math.inf, every_frame=True)) as grabber:
        numbers = [frame.number for frame in iter(grabber.newest, None)]
        assert (numbers, grabber.captured, grabber.dropped) == (list(range(100)), 100, 0)


def test_a_frame_handed_over_is_as_old_as_the_handing_over() -> None:
    with Grabber(Counting(3), CaptureOptions(rate=math.inf, every_frame=True)) as grabber:
        for _ in range(3):
            asked = time.monotonic()
            frame = grabber.newest()
            assert frame is not None
            assert frame.captured_at >= asked


def test_the_end_comes_also_while_a_frame_waits_to_be_taken() -> None:
    threads = threading.active_count()
    with Grabber(Counting(9), CaptureOptions(rate=math.inf, every_frame=True)) as grabber:
        assert grabber.newest() is not None
    assert threading.active_count() == threads


def test_a_source_fifty_times_too_fast_fills_no_memory() -> None:
    source, seen = Counting(2000, live=True), []
    with Grabber(source) as grabber:
        for frame in iter(grabber.newest, None):
            seen.append(frame.number)
            threading.Event().wait(0.001)
        assert grabber.captured == 2000 == len(seen) + grabber.dropped
    assert seen == sorted(seen)
    assert seen[-1] == 1999
    assert source.most_alive <= 4


def test_a_jumping_clock_changes_no_age(monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = itertools.cycle([0.0, 4e9, -5.0])
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    with Grabber(Counting(5), CaptureOptions(rate=500.0, every_frame=True)) as grabber:
        ages = [time.monotonic() - frame.captured_at for frame in iter(grabber.newest, None)]
    assert all(0 <= age < 5 for age in ages)


@pytest.mark.parametrize(("text", "rate"), [("max", math.inf), ("12.5", 12.5)])
def test_rates_are_read(text: str, rate: float) -> None:
    assert CaptureOptions(rate=read_rate(text)).rate == rate


@pytest.mark.parametrize("text", ["0", "-3", "fast", "nan"])
def test_wrong_rates_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        CaptureOptions(rate=read_rate(text))


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,4,5", "a,b,c,d", "-1,0,5,5", "0,0,0,9", "fan"])
def test_wrong_regions_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="region"):
        read_roi(text)


@pytest.mark.parametrize("jpeg_options", [{"rate": 5.0}, {"every_frame": True}, {"loop": True}])
def test_a_live_source_cannot_be_slowed_held_or_repeated(jpeg_options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="live"):
        CaptureOptions(**jpeg_options).check_source(Counting(1, live=True))


def test_a_looped_source_begins_again() -> None:
    source = open_source(PHANTOM, options=CaptureOptions(loop=True))
    images = [image for image in (source.read() for _ in range(15)) if image is not None]
    assert np.array_equal(images[0], images[6])
    assert np.array_equal(images[2], images[14])


def test_what_plays_only_once_is_told() -> None:
    source = Counting(1)
    looped = LoopedSource(lambda: source, source)
    assert looped.read() is not None
    with pytest.raises(SourceError, match="played twice"):
        looped.read()


def test_the_region_of_today_goes_before_the_cards() -> None:
    card, today = InputSpec(64, 64, region=Region(0, 0, 10, 10)), Region(5, 6, 20, 20)
    assert place_frame(use_region(card, today), 48, 64).region == today
    assert use_region(card, None) is card
    source = Counting(1)
    source.region = Region(1, 1, 2, 2)
    with Grabber(source) as grabber:
        frame = grabber.newest()
    assert frame is not None
    assert frame.region == source.region
    with Grabber(Counting(1), CaptureOptions(roi=today)) as grabber:
        frame = grabber.newest()
    assert frame is not None
    assert frame.region == today
