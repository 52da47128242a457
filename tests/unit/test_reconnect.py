"""A live source that is lost is found again, and what was lost is told."""

from __future__ import annotations

import collections
import itertools
import threading
import tracemalloc
from collections.abc import MutableSequence
from time import monotonic
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.errors import SourceError, SourceTextError
from edgeseg.streaming.grabber import Grabber
from edgeseg.streaming.sources.base import Notice, Source
from edgeseg.streaming.sources.mjpeg import MjpegSource
from edgeseg.streaming.sources.reconnect import RETRY_PAUSES_S, ReconnectingSource
from tests.cameras import HEAD, LAST, STALL, Camera, make_parts, wrap_part

QUICK_S = (0.01, 0.02)


class Cable(Source):
    """A source whose cable is pulled after some frames; `lengths` tells how many, for each time it is plugged in."""

    live = True

    def __init__(self, lengths: list[int]) -> None:
        self._lengths = lengths
        self._left = 0
        self.openings: MutableSequence[float] = []

    def plug_in(self) -> Source:
        self.openings.append(monotonic())
        self._left = self._lengths.pop(0)
        if self._left == 0:
            raise SourceError("Expected a cable, got none.")
        return self

    def read(self) -> NDArray[Any]:
        if self._left == 1:
            raise SourceError("The cable was pulled.")
        self._left -= 1
        return np.zeros((4, 4), np.uint8)


def open_camera(camera: Camera, stall_s: float = 5.0) -> ReconnectingSource:
    def opener() -> Source:
        return MjpegSource(camera.url, stall_s)

    return ReconnectingSource(opener, opener(), QUICK_S)


def test_a_server_that_dies_and_returns_is_found_again() -> None:
    heard: list[Notice] = []
    with Camera([HEAD, *make_parts(10, 20)], [], [b"nonsense"], [HEAD, *make_parts(30), LAST]) as camera:
        source = open_camera(camera)
        source.on_notice = heard.append
        count = 0
        while source.read() is not None:
            count += 1
        source.close()
    assert count == 3
    assert [notice.state for notice in heard] == ["lost", "back"]
    assert source.health.interruptions == 1
    assert source.health.lost_seconds > 0


def test_a_stalled_stream_is_asked_for_again() -> None:
    with Camera([HEAD, *make_parts(10), STALL], [HEAD, *make_parts(20), LAST]) as camera:
        source = open_camera(camera, stall_s=0.2)
        assert source.read() is not None
        source.on_notice = lambda _: camera.release()
        assert source.read() is not None
        assert source.read() is None
        source.close()


def test_damage_is_counted_through_interruptions() -> None:
    bad = wrap_part(b"none")
    with Camera([HEAD, *make_parts(10), bad], [HEAD, bad, *make_parts(20), LAST]) as camera:
        source = open_camera(camera)
        while source.read() is not None:
            pass
        source.close()
    assert (source.health.corrupt, source.health.interruptions) == (2, 1)


def test_pauses_grow_until_a_frame_comes() -> None:
    cable = Cable([3, 0, 1, 0, 2])
    source = ReconnectingSource(cable.plug_in, cable.plug_in(), (0.02, 0.04, 0.08))
    images = [source.read() for _ in range(3)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(list(cable.openings)[1:])]
    assert all(image is not None for image in images)
    assert [gap >= pause for gap, pause in zip(gaps, (0.04, 0.08, 0.08), strict=True)] == [True] * 3
    assert list(RETRY_PAUSES_S) == sorted(RETRY_PAUSES_S)


def test_a_source_that_comes_and_goes_is_asked_for_less_and_less() -> None:
    cable = Cable([2] * 5)
    source = ReconnectingSource(cable.plug_in, cable.plug_in(), (0.02, 0.04, 0.08))
    for _ in range(5):
        assert source.read() is not None
    gaps = [later - earlier for earlier, later in itertools.pairwise(cable.openings)]
    assert [gap >= pause for gap, pause in zip(gaps, (0.02, 0.04, 0.08, 0.08), strict=True)] == [True] * 4


def test_a_source_that_stayed_is_looked_for_at_once() -> None:
    cable = Cable([2, 2, 9, 2])
    source = ReconnectingSource(cable.plug_in, cable.plug_in(), (0.01, 0.3))
    for _ in range(3):
        assert source.read() is not None
    threading.Event().wait(0.35)  # longer than the last pause
    assert source.read() is not None
    for _ in range(6):
        assert source.read() is not None
    began = monotonic()
    assert source.read() is not None
    assert monotonic() - began < 0.25


def test_losing_it_again_and_again_takes_no_memory() -> None:
    cable = Cable([2] * 65_536)
    cable.openings = collections.deque(maxlen=2)
    source = ReconnectingSource(cable.plug_in, cable.plug_in(), (0.0,))
    for _ in range(1000):
        source.read()
    tracemalloc.start()
    for _ in range(500):
        source.read()
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert source.health.interruptions == 1499
    assert grown < 5_000


def test_no_notice_tells_a_secret() -> None:
    notice = Notice("lost", "Expected frames from rtsp://me:Zq7@host/x?token=Zq7, got none.")
    assert notice.sentence == "Expected frames from rtsp://host/x?token=***, got none."


def test_a_source_that_never_gave_a_frame_is_an_error() -> None:
    cable = Cable([1])
    source = ReconnectingSource(cable.plug_in, cable.plug_in(), QUICK_S)
    with pytest.raises(SourceError, match="pulled"):
        source.read()


def test_a_source_that_is_waited_for_is_looked_for_until_it_is_there_and_that_is_no_outage() -> None:
    heard: list[Notice] = []
    cable = Cable([0, 1, 0, 3, 2])
    source = ReconnectingSource(cable.plug_in, retry_pauses_s=QUICK_S)
    source.on_notice = heard.append
    assert cable.openings == []
    assert source.read() is not None
    assert len(cable.openings) == 4
    assert [notice.state for notice in heard] == ["connecting", "back"]
    assert (source.health.interruptions, source.health.lost_seconds) == (0, 0.0)
    for _ in range(2):
        assert source.read() is not None
    assert [notice.state for notice in heard] == ["connecting", "back", "lost", "back"]
    assert source.health.interruptions == 1
    assert source.health.lost_seconds > 0


def test_what_can_never_be_opened_is_not_waited_for() -> None:
    def open_again() -> Source:
        raise SourceTextError("Expected a size, got none.")

    with pytest.raises(SourceTextError):
        ReconnectingSource(open_again, retry_pauses_s=QUICK_S).read()


def test_the_end_does_not_wait_for_a_lost_source() -> None:
    cable = Cable([2, *[0] * 100])
    threads = threading.active_count()
    source = ReconnectingSource(cable.plug_in, cable.plug_in(), (60.0,))
    lost = threading.Event()
    source.on_notice = lambda _: lost.set()
    with Grabber(source) as grabber:
        assert grabber.newest() is not None
        assert lost.wait(10)
        threading.Event().wait(0.02)
        began = monotonic()
    assert monotonic() - began < 5
    assert threading.active_count() == threads
    assert source.health.lost_seconds > 0
