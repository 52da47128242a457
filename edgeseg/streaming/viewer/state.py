"""The newest result, between the one thread that makes results and the many that show them."""

from __future__ import annotations

import secrets
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import floor
from time import monotonic

from edgeseg.core.spec import ClassSpec
from edgeseg.inference.masks import measure_areas
from edgeseg.machine.thermal import Thermal, read_thermal
from edgeseg.streaming.sinks.base import LatestResultSink, Result, StreamInfo
from edgeseg.streaming.sources.base import Frame, Notice
from edgeseg.streaming.tracking import Picture

RECENT_SECONDS = 2.0
HISTORY_SECONDS = 60
KEPT = 600
KEPT_FRAMES = 300
KEPT_NOTICES = 5
MAX_VIEWERS = 8
MAX_VIEWERS_PER_ADDRESS = 6
"""Whoever takes these, or never reads what is sent there, leaves two for others."""
MAX_PAGES = 64
FAREWELL_SECONDS = 1.2
GONE_AFTER_SECONDS = 1.5
FRESH_SECONDS = 2.0


class RateCounter:
    """Counts events by the clock; not for several threads at once."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int]] = deque(maxlen=KEPT)
        self._seconds: dict[int, int] = {}

    def add(self, now: float, total: int) -> None:
        """Note that by now there were so many events in all."""
        before = self._recent[-1][1] if self._recent else total - 1
        self._recent.append((now, total))
        second = floor(now)
        self._seconds[second] = self._seconds.get(second, 0) + total - before
        if len(self._seconds) > HISTORY_SECONDS + 1:
            del self._seconds[next(iter(self._seconds))]

    def rate(self, now: float) -> float:
        """Give the events per second of the last moments."""
        recent = [pair for pair in self._recent if now - pair[0] <= RECENT_SECONDS]
        if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
            return 0.0
        return (recent[-1][1] - recent[0][1]) / (recent[-1][0] - recent[0][0])

    def history(self, now: float) -> tuple[int, ...]:
        """Count the events of each of the last whole seconds, from the first event on."""
        if not self._seconds:
            return ()
        end = floor(now)
        begin = max(next(iter(self._seconds)) + 1, end - HISTORY_SECONDS)
        return tuple(self._seconds.get(second, 0) for second in range(begin, end))


@dataclass(frozen=True)
class NumberedPicture:
    """A picture and its place in the order of showing, from 1."""

    number: int
    picture: Picture


@dataclass(frozen=True)
class TimedNotice:
    """A notice, and when it came (monotonic seconds)."""

    notice: Notice
    at: float


@dataclass(frozen=True)
class Snapshot:
    """What the hub knows at one moment."""

    results: int
    ages_ms: tuple[float, ...]
    fps: float
    captured_fps: float
    rates: tuple[int, ...]
    """Results in each of the last seconds."""
    notices: tuple[TimedNotice, ...]
    """What happened to the source, the newest last."""
    idle_ms: float | None
    """How long ago the newest result came; None before the first."""
    ended: bool


class LiveState:
    """Keeps the newest result and the newest picture, and wakes whoever waits for that; older ones are gone."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        self._condition = threading.Condition()
        self._results = 0
        self._shown: NumberedPicture | None = None
        self._ended = False
        self._result_at: float | None = None
        self._masks, self._frames = RateCounter(), RateCounter()
        self._notices: deque[TimedNotice] = deque(maxlen=KEPT_NOTICES)
        self._ages: deque[float] = deque(maxlen=KEPT_FRAMES)

    def publish(self, result: Result) -> None:
        """Make a result the newest."""
        with self._condition:
            self._results += 1
            self._result_at = monotonic()
            self._masks.add(self._result_at, self._results)
            self._ages.append(result.age_ms)

    def count_frame(self, frame: Frame) -> None:
        """Note that a frame was captured."""
        with self._condition:
            self._frames.add(monotonic(), frame.number)

    def add_notice(self, notice: Notice) -> None:
        """Keep what happened to the source."""
        with self._condition:
            self._notices.append(TimedNotice(notice, monotonic()))

    def show(self, picture: Picture) -> None:
        """Make a picture the newest."""
        with self._condition:
            self._shown = NumberedPicture(self._shown_number() + 1, picture)
            self._condition.notify_all()

    def end(self) -> None:
        """Tell everyone who waits that nothing more will come."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    @property
    def ended(self) -> bool:
        """Say whether nothing more will come."""
        return self._ended

    def wait_newer(self, seen: int, timeout: float) -> NumberedPicture | None:
        """Wait for a picture after the one numbered `seen`; None when none came in time or none will come."""
        with self._condition:
            self._condition.wait_for(lambda: self._ended or self._shown_number() > seen, timeout)
            return self._shown if self._shown_number() > seen else None

    def wait_end(self, timeout: float) -> None:
        """Sleep, but not past the end."""
        with self._condition:
            self._condition.wait_for(lambda: self._ended, timeout)

    def snapshot(self) -> Snapshot:
        """Take a snapshot."""
        with self._condition:
            now = monotonic()
            return Snapshot(
                results=self._results,
                ages_ms=tuple(self._ages),
                fps=self._masks.rate(now),
                captured_fps=self._frames.rate(now),
                rates=self._masks.history(now),
                notices=tuple(self._notices),
                idle_ms=None if self._result_at is None else 1e3 * (now - self._result_at),
                ended=self._ended,
            )

    def _shown_number(self) -> int:
        return self._shown.number if self._shown else 0


class Viewers:
    """Counts who watches."""

    def __init__(self) -> None:
        self._by_address: Counter[str] = Counter()
        self._taken = 0
        self._change = threading.Condition()
        self._pages: dict[str, float] = {}

    @contextmanager
    def join(self, address: str) -> Iterator[bool]:
        """Hold a seat for a picture; False when all are taken, or as many as one address may have."""
        with self._change:
            joined = self._taken < MAX_VIEWERS and self._by_address[address] < MAX_VIEWERS_PER_ADDRESS
            self._count(address, joined)
        try:
            yield joined
        finally:
            with self._change:
                self._count(address, -joined)

    def has_any(self) -> bool:
        """Say whether anyone looks at the picture."""
        return self._taken > 0

    def _count(self, address: str, change: int) -> None:
        self._taken += change
        self._by_address[address] += change
        if not self._by_address[address]:
            del self._by_address[address]

    def note_poll(self, page: str, saw_end: bool) -> None:
        """Remember that a page has just got the numbers, and whether they said that the stream has ended."""
        with self._change:
            self._pages[page] = monotonic()
            if saw_end:
                del self._pages[page]
            self._forget_gone()
            while len(self._pages) > MAX_PAGES:  # a client may call itself by another name each time
                del self._pages[next(iter(self._pages))]
            self._change.notify_all()

    def wait_for_pages(self) -> None:
        """Wait shortly until every open page has heard of the end, so that none takes it for a lost connection."""
        with self._change:
            self._forget_gone()
            self._change.wait_for(lambda: not self._pages, FAREWELL_SECONDS)

    def _forget_gone(self) -> None:
        oldest = monotonic() - GONE_AFTER_SECONDS
        self._pages = {page: seen for page, seen in self._pages.items() if seen >= oldest}


class ThermalCache:
    """Remembers a reading for two seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._reading = Thermal(None, None)

    def read(self) -> Thermal:
        """Give a reading that is no older than that."""
        with self._lock:
            if self._read_at is None or monotonic() - self._read_at > FRESH_SECONDS:
                self._reading, self._read_at = read_thermal(), monotonic()
            return self._reading


@dataclass(frozen=True)
class ViewerContext:
    """What is shown, and to whom."""

    info: StreamInfo
    classes: tuple[ClassSpec, ...]
    recording: LatestResultSink | None = None
    """What the page may switch on and off."""
    live_state: LiveState = field(default_factory=LiveState)
    viewers: Viewers = field(default_factory=Viewers)
    thermal: ThermalCache = field(default_factory=ThermalCache)


@dataclass(frozen=True)
class ClassFigures:
    """One class: its colour as CSS writes it, and its area in the mask that is shown."""

    name: str
    colour: str
    area_px: int
    area_mm2: float | None


@dataclass(frozen=True)
class PictureFigures:
    """What is told of one picture."""

    stream: str
    """Differs from stream to stream."""
    number: int
    """Of the frame that is shown."""
    name: str
    """Of its file, where it has one."""
    mask_number: int
    """Of the frame that the network drew the mask for; an older one where the mask was carried onto this frame."""
    frame_px: tuple[int, int]
    """Width and height."""
    classes: tuple[ClassFigures, ...]


def measure_picture(
    picture: Picture, classes: Sequence[ClassSpec], mm_per_px: float | None, stream: str = ""
) -> PictureFigures:
    """Measure the mask of a picture as it is shown."""
    height, width = picture.labels.shape
    areas = measure_areas(picture.labels, classes, mm_per_px)
    return PictureFigures(
        stream=stream,
        number=picture.number,
        name=picture.name,
        mask_number=picture.mask_number,
        frame_px=(width, height),
        classes=tuple(
            ClassFigures(area.name, write_colour(spec), area.area_px, area.area_mm2)
            for spec, area in zip(classes, areas, strict=True)
        ),
    )


def write_colour(spec: ClassSpec) -> str:
    """Write a colour as CSS does."""
    return "#{:02x}{:02x}{:02x}".format(*spec.colour)
