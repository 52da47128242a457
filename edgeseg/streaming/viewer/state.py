"""`LiveState`: the newest picture and the figures of a stream, shared between its threads and the clients' threads."""

from __future__ import annotations

import secrets
import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import floor
from time import monotonic

from edgeseg.core.spec import ClassSpec
from edgeseg.machine.thermal import Thermal, read_thermal
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.sinks.base import LatestResultSink, Result, StreamInfo
from edgeseg.streaming.sources.base import Frame, Notice
from edgeseg.streaming.switching import Turn
from edgeseg.streaming.tracking import Picture

# The window of the frame rate.
RATE_SECONDS = 2.0
HISTORY_SECONDS = 60
MAX_EVENTS = 600
KEPT_FRAMES = 300
KEPT_NOTICES = 5
MAX_VIEWERS = 8
# So that two stay free for others, even if a client never reads its picture.
MAX_VIEWERS_PER_ADDRESS = 6
MAX_PAGES = 64
# Of so many ways to draw a picture the newest one is kept.
KEPT_OPTIONS = 8
# Pictures that were just sent, and their bytes: a page that pauses shows an older one than the newest.
KEPT_SENT, SENT_BYTES = 16, 24 * 2**20
# A page polls twice a second; one that is silent for so long was closed.
GONE_AFTER_SECONDS = 1.5
# How long the end waits for the pages' next poll.
FAREWELL_SECONDS = 1.2
# How long a temperature reading is reused: every client asks for it, and sensors are slow to read.
THERMAL_SECONDS = 2.0


@dataclass(frozen=True)
class NumberedPicture:
    """A picture and its sequence number, from 1."""

    number: int
    picture: Picture
    stream: str
    """The random name of the stream, or of the turn of its source."""
    source: int = 1
    """The number of its source."""


@dataclass(frozen=True)
class TimedNotice:
    """A notice, and when it came (monotonic seconds)."""

    notice: Notice
    at: float


@dataclass(frozen=True)
class Snapshot:
    """The figures of a `LiveState` at one moment."""

    stream: str
    turn: Turn | None
    """Of a stream with several sources."""
    recorder: LatencyRecorder | None
    """Of the times of this turn."""
    results: int
    ages_ms: tuple[float, ...]
    fps: float
    captured_fps: float
    rates: tuple[int, ...]
    """Results in each of the last seconds."""
    notices: tuple[TimedNotice, ...]
    """The newest last."""
    idle_ms: float | None
    """Age of the newest result; None before the first."""
    ended: bool


class LiveState:
    """The newest picture (a latest-value slot) and counters of results, frames and notices.

    The stream's threads write, a thread per client reads: `wait_newer` blocks until a newer picture is there, so each
    client gets the newest one at its own pace, and a slow client slows nobody down.
    """

    def __init__(self, source: int = 1) -> None:
        """Begin without a picture.

        Args:
            source: The number of the source, where all of several are segmented.
        """
        self._name, self._source = _make_name(), source
        self._condition = threading.Condition()
        self._shown: NumberedPicture | None = None
        self._pictures = 0
        # a condition of its own would wake clients that sleep at every picture
        self._ended = threading.Event()
        self._turn: Turn | None = None
        self._recorder: LatencyRecorder | None = None
        self._sent: deque[NumberedPicture] = deque()
        self._held: dict[str, NumberedPicture] = {}
        self._restart()

    def _restart(self) -> None:
        self._results = 0
        self._result_at: float | None = None
        self._masks, self._frames = RateCounter(), RateCounter()
        self._notices: deque[TimedNotice] = deque(maxlen=KEPT_NOTICES)
        self._ages: deque[float] = deque(maxlen=KEPT_FRAMES)

    @property
    def name(self) -> str:
        """A random name, by which a page notices that another stream, or another source of it, is shown."""
        return self._name

    def begin_turn(self, turn: Turn, recorder: LatencyRecorder) -> None:
        """Begin anew with another source: pictures of the last one that are still on their way are dropped."""
        with self._condition:
            self._name, self._turn, self._recorder = _make_name(), turn, recorder
            self._shown = None
            self._sent.clear()
            self._held.clear()
            self._restart()

    def count_result(self, result: Result) -> None:
        """Count a result and its age."""
        with self._condition:
            self._results += 1
            self._result_at = monotonic()
            self._masks.add(self._result_at, self._results)
            self._ages.append(result.age_ms)

    def count_frame(self, frame: Frame) -> None:
        """Count a captured frame."""
        with self._condition:
            self._frames.add(monotonic(), frame.number)

    def add_notice(self, notice: Notice) -> None:
        """Keep a notice; old ones are dropped."""
        with self._condition:
            self._notices.append(TimedNotice(notice, monotonic()))

    def show(self, picture: Picture) -> None:
        """Put a picture into the slot and wake all clients."""
        with self._condition:
            turn = self._turn
            # the mask tracker may have begun with it before the source was changed
            if turn is not None and picture.mask_number < turn.first_frame:
                return
            self._pictures += 1
            source = self._source if turn is None else turn.number
            self._shown = NumberedPicture(self._pictures, picture, self._name, source)
            self._condition.notify_all()

    def remember(self, shown: NumberedPicture) -> None:
        """Keep a picture that is sent to a client for a moment, so that a page can pause on it."""
        with self._condition:
            if shown.stream != self._name or (self._sent and self._sent[-1].number >= shown.number):
                return
            self._sent.append(shown)
            while len(self._sent) > 1 and (len(self._sent) > KEPT_SENT or _count_bytes(self._sent) > SENT_BYTES):
                self._sent.popleft()

    def hold(self, number: float, page: str) -> NumberedPicture | None:
        """Find a picture that was sent, and keep it until the page asks for another; None where it is gone."""
        with self._condition:
            kept = (*self._sent, *self._held.values())
            found = next((shown for shown in kept if shown.number == number), None)
            if found is not None:
                self._held.pop(page, None)
                self._held[page] = found
                while len(self._held) > MAX_VIEWERS:
                    del self._held[next(iter(self._held))]
            return found

    def end(self) -> None:
        """Mark the end of the stream and wake all clients."""
        self._ended.set()
        with self._condition:
            self._condition.notify_all()

    @property
    def ended(self) -> bool:
        """Whether the stream has ended."""
        return self._ended.is_set()

    def wait_newer(self, seen: int, timeout: float) -> NumberedPicture | None:
        """Wait for a picture after number `seen`; None after the timeout or at the end of the stream."""
        with self._condition:
            self._condition.wait_for(lambda: self.ended or self._shown_number() > seen, timeout)
            return self._shown if self._shown_number() > seen else None

    @property
    def newest(self) -> NumberedPicture | None:
        """The newest picture."""
        return self._shown

    def wait_end(self, timeout: float) -> None:
        """Sleep for so many seconds, or until the end of the stream."""
        self._ended.wait(timeout)

    def snapshot(self) -> Snapshot:
        """Read all figures at once."""
        with self._condition:
            now = monotonic()
            return Snapshot(
                stream=self._name,
                turn=self._turn,
                recorder=self._recorder,
                results=self._results,
                ages_ms=tuple(self._ages),
                fps=self._masks.rate(now),
                captured_fps=self._frames.rate(now),
                rates=self._masks.history(now),
                notices=tuple(self._notices),
                idle_ms=None if self._result_at is None else 1e3 * (now - self._result_at),
                ended=self.ended,
            )

    def _shown_number(self) -> int:
        return self._shown.number if self._shown else 0


def _make_name() -> str:
    return secrets.token_hex(8)


def _count_bytes(pictures: Iterable[NumberedPicture]) -> int:
    return sum(shown.picture.image.nbytes + shown.picture.labels.nbytes for shown in pictures)


class RateCounter:
    """Events per second, now and over the last minute; not thread-safe."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int]] = deque(maxlen=MAX_EVENTS)
        self._seconds: dict[int, int] = {}

    def add(self, now: float, total: int) -> None:
        """Add an event; `total` counts those up to now, so that skipped frames are included."""
        # the first event counts as one, whatever its number
        before = self._recent[-1][1] if self._recent else total - 1
        self._recent.append((now, total))
        second = floor(now)
        self._seconds[second] = self._seconds.get(second, 0) + total - before
        if len(self._seconds) > HISTORY_SECONDS + 1:
            del self._seconds[next(iter(self._seconds))]

    def rate(self, now: float) -> float:
        """Events per second over the last `RATE_SECONDS`."""
        recent = [pair for pair in self._recent if now - pair[0] <= RATE_SECONDS]
        if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
            return 0.0
        return (recent[-1][1] - recent[0][1]) / (recent[-1][0] - recent[0][0])

    def history(self, now: float) -> tuple[int, ...]:
        """Events in each of the last whole seconds, from the first event on."""
        if not self._seconds:
            return ()
        end = floor(now)
        # the first second is left out, since it is not a whole one
        begin = max(next(iter(self._seconds)) + 1, end - HISTORY_SECONDS)
        return tuple(self._seconds.get(second, 0) for second in range(begin, end))


class Viewers:
    """The clients that watch: subscribers to the picture, limited in number, and pages that poll the figures."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0
        self._by_address: Counter[str] = Counter()
        self._by_source: Counter[int] = Counter()
        self._pages: dict[str, float] = {}

    @contextmanager
    def subscribe(self, address: str, source: int = 1) -> Iterator[bool]:
        """Count a subscriber to the picture while the context is open; yields False when a limit is reached.

        Args:
            address: Of the client.
            source: Which of several sources it watches; 0 is the page of all.
        """
        with self._condition:
            admitted = self._count < MAX_VIEWERS and self._by_address[address] < MAX_VIEWERS_PER_ADDRESS
            self._add(address, source, admitted)
        try:
            yield admitted
        finally:
            with self._condition:
                self._add(address, source, -admitted)

    def has_any(self, source: int = 1) -> bool:
        """Whether anybody watches the picture of a source."""
        return self._by_source[source] > 0

    def _add(self, address: str, source: int, change: int) -> None:
        self._count += change
        self._by_source[source] += change
        self._by_address[address] += change
        if not self._by_address[address]:
            del self._by_address[address]

    def note_poll(self, page: str, saw_end: bool) -> None:
        """Note that a page got the figures, and whether they said that the stream has ended."""
        with self._condition:
            self._pages[page] = monotonic()
            if saw_end:
                del self._pages[page]
            self._forget_gone()
            # a hostile client may use a new name for every poll
            while len(self._pages) > MAX_PAGES:
                del self._pages[next(iter(self._pages))]
            self._condition.notify_all()

    def wait_for_pages(self) -> None:
        """Wait briefly until every open page has seen the end, so that none shows a lost connection instead."""
        with self._condition:
            self._forget_gone()
            self._condition.wait_for(lambda: not self._pages, FAREWELL_SECONDS)

    def _forget_gone(self) -> None:
        oldest = monotonic() - GONE_AFTER_SECONDS
        # pages that were closed never poll again; the end must not wait for them
        self._pages = {page: seen for page, seen in self._pages.items() if seen >= oldest}


class ThermalCache:
    """A temperature reading, reused for `THERMAL_SECONDS`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._reading = Thermal(None, None)

    def read(self) -> Thermal:
        """Return a reading that is recent enough."""
        with self._lock:
            if self._read_at is None or monotonic() - self._read_at > THERMAL_SECONDS:
                self._reading, self._read_at = read_thermal(), monotonic()
            return self._reading


@dataclass
class _Encoded:
    """The newest part that was written with some options."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    stream: str = ""
    number: int = 0
    at: float = 0.0
    data: bytes = b""


class SharedParts:
    """Draws and encodes a picture once for all clients that want it alike."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """Begin without any part; `clock` returns seconds."""
        self._clock, self._lock = clock, threading.Lock()
        self._encoded: dict[Hashable, _Encoded] = {}

    def take(
        self, options: Hashable, fps: float, newest: tuple[str, int], seen: int, write: Callable[[], bytes]
    ) -> tuple[int, bytes]:
        """Give a client its next part: one that another client just got, or a new one of the newest picture.

        A part may be half as old as the client's pace, so that clients of a stream that is faster than they are meet.

        Args:
            options: How the client wants its pictures.
            fps: Its pace.
            newest: The stream, and the number of its newest picture.
            seen: The number of the picture that the client got last.
            write: Writes the newest picture.

        Returns:
            The number of the picture, and the part.
        """
        encoded = self._find(options)
        stream, number = newest
        with encoded.lock:
            fits = encoded.stream == stream and encoded.number > seen
            if fits and (encoded.number >= number or self._clock() - encoded.at < 0.5 / fps):
                return encoded.number, encoded.data
            data = write()
            encoded.stream, encoded.number, encoded.at, encoded.data = stream, number, self._clock(), data
            return number, data

    def _find(self, options: Hashable) -> _Encoded:
        with self._lock:
            found = self._encoded.pop(options, None) or _Encoded()
            # the newest last; a client that was forgotten is served all the same
            self._encoded[options] = found
            while len(self._encoded) > KEPT_OPTIONS:
                del self._encoded[next(iter(self._encoded))]
            return found


@dataclass(frozen=True)
class ViewerContext:
    """What the handler of every request needs."""

    info: StreamInfo
    classes: tuple[ClassSpec, ...]
    recording: LatestResultSink | None = None
    """The recording that the page's button switches on and off."""
    live_state: LiveState = field(default_factory=LiveState)
    viewers: Viewers = field(default_factory=Viewers)
    thermal: ThermalCache = field(default_factory=ThermalCache)
    parts: SharedParts = field(default_factory=SharedParts)

    @property
    def number(self) -> int:
        """Of the source among several, or 1."""
        return 1 if self.info.member is None else self.info.member.number
