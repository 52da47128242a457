"""`SourceSwitch`: several sources of one stream, of which one is captured and segmented at a time.

It takes the place of a `Grabber`. Every source has a grabber of its own while it is chosen, opened on that grabber's
thread: one that hangs, in opening or in a read, keeps nobody from choosing another. Segmenting several sources at the
same time would need a pipeline for each entry; frames carry the number of their source for that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from types import TracebackType

from edgeseg.core.errors import EdgesegError, SourceError
from edgeseg.core.redact import to_one_line
from edgeseg.core.stats import Percentiles, summarise_times
from edgeseg.streaming.grabber import Grabber
from edgeseg.streaming.latency import TimeSeries
from edgeseg.streaming.options import MAX_SOURCES, CaptureOptions
from edgeseg.streaming.sources.address import hide_path, show_source
from edgeseg.streaming.sources.base import Frame, Health, LatestSlot, Notice
from edgeseg.streaming.sources.choose import is_browser, open_among_others

# States of a source: not chosen, being opened, giving frames, lost and looked for, at its end, given up.
IDLE, OPENING, LIVE, LOST, ENDED, FAILED = "idle", "opening", "live", "lost", "ended", "failed"
# It could not be opened so far, and is tried again.
CONNECTING = "connecting"
# Of one of several that are all captured.
MEMBER_STATES = (OPENING, CONNECTING, LIVE, LOST, ENDED, FAILED)
# Frames of a source that the report's frame age covers: four minutes at 30 per second.
_KEPT_AGES = 8192
# How often a switch looks whether the last capture of the source has ended.
_POLL_S = 0.05
# At the end of the stream, how long a capture that hangs is waited for; its thread ends with the process.
_JOIN_S = 2.0


@dataclass(frozen=True)
class SourceStatus:
    """What a page shows of a source."""

    number: int
    """From 1, in the order in which the sources were given."""
    name: str
    state: str
    sentence: str
    """Why it gives no frames."""


@dataclass(frozen=True)
class SourceReport:
    """What was counted of a source, over all the times that it was chosen; captured = processed + dropped."""

    name: str
    chosen: int
    captured: int
    processed: int
    dropped: int
    late: int
    seconds: float
    frame_age_ms: Percentiles
    failure: str | None
    """Why it gives no frames any more."""


@dataclass(frozen=True)
class Turn:
    """A source begins to be captured: frames from `first_frame` on are its own."""

    number: int
    name: str
    first_frame: int


@dataclass
class _Entry:
    number: int
    text: str
    name: str
    state: str = IDLE
    sentence: str = ""
    grabber: Grabber | None = None
    chosen: int = 0
    captured: int = 0
    processed: int = 0
    late: int = 0
    seconds: float = 0.0
    began: float = 0.0
    ages: TimeSeries = field(default_factory=partial(TimeSeries, _KEPT_AGES))
    health: Health = field(default_factory=Health)

    def report(self) -> SourceReport:
        captured = max(self.captured, self.processed)
        return SourceReport(
            self.name,
            self.chosen,
            captured,
            self.processed,
            captured - self.processed,
            self.late,
            round(self.seconds, 3),
            summarise_times(self.ages.newest()),
            self.sentence if self.state in (LOST, FAILED) else None,
        )


class SourceSwitch:
    """Gives the newest frames of the source that was chosen last; the first one at the beginning.

    `newest` runs on the stream's thread and does the switching; `choose` may be called from any thread, and of several
    calls before the next frame the last one counts.
    """

    def __init__(self, texts: Sequence[str], colour: bool, options: CaptureOptions, mm_per_px: float | None) -> None:
        """Prepare a stream of several sources; the first is opened when the context is entered.

        Args:
            texts: As `edgeseg stream --source` takes them.
            colour: Whether the model's input is colour.
            options: How frames are captured; rate and loop apply to recorded sources.
            mm_per_px: The pixel size that the user named, for all sources.
        """
        if not 1 < len(texts) <= MAX_SOURCES:
            raise ValueError(f"expected 2 to {MAX_SOURCES} sources to switch between, got {len(texts)}")
        self._entries = [_Entry(number, text, show_source(text)) for number, text in enumerate(texts, 1)]
        self._colour, self._options, self._mm_per_px = colour, options, mm_per_px
        self._on_frame: Callable[[Frame], None] | None = None
        self._on_turn: Callable[[Turn], None] | None = None
        self._on_notice: Callable[[Notice], None] | None = None
        self._condition = threading.Condition()
        self._shown = 1
        self._current: _Entry | None = None
        self._wanted: int | None = 1
        self._next_frame = 0
        self._stopped = False

    def listen(
        self,
        on_frame: Callable[[Frame], None],
        on_turn: Callable[[Turn], None],
        on_notice: Callable[[Notice], None],
    ) -> None:
        """Set what is called: with every frame of the chosen source, before a source's first frame, with notices."""
        self._on_frame, self._on_turn, self._on_notice = on_frame, on_turn, on_notice

    def __enter__(self) -> SourceSwitch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._current is not None:
            self._leave(self._current, IDLE)
        ends_at = monotonic() + _JOIN_S
        for entry in self._entries:
            if entry.grabber is not None:
                entry.grabber.join(max(0.0, ends_at - monotonic()))

    @property
    def name(self) -> str:
        """The names of all sources."""
        return ", ".join(entry.name for entry in self._entries)

    @property
    def needs_page(self) -> bool:
        """Whether a source takes its frames from the page."""
        return any(is_browser(entry.text) for entry in self._entries)

    @property
    def latest_slot(self) -> LatestSlot | None:
        """Where the page puts the images of its camera, while that is the source."""
        with self._condition:
            return None if self._current is None or self._current.grabber is None else self._current.grabber.latest_slot

    @property
    def chosen(self) -> int:
        """The number of the source that is shown, or is about to be."""
        with self._condition:
            return self._wanted or self._shown

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    @property
    def captured(self) -> int:
        """Number of captured frames of all sources."""
        with self._condition:
            return sum(entry.captured for entry in self._entries) + self._count_running()

    @property
    def health(self) -> Health:
        """Faults of all sources so far."""
        with self._condition:
            total = Health()
            for entry in self._entries:
                total += entry.health
            if self._current is not None and self._current.grabber is not None:
                total += self._current.grabber.health
            return total

    def describe(self) -> tuple[SourceStatus, ...]:
        """Describe the state of every source."""
        with self._condition:
            return tuple(
                SourceStatus(
                    entry.number,
                    entry.name,
                    OPENING if entry.number == self._wanted else entry.state,
                    "" if entry.number == self._wanted else entry.sentence,
                )
                for entry in self._entries
            )

    def report(self) -> tuple[SourceReport, ...]:
        """Summarise every source; final once the context was left."""
        with self._condition:
            return tuple(entry.report() for entry in self._entries)

    def choose(self, number: int) -> bool:
        """Choose a source by its number; False where there is none. One that has ended or failed is opened again."""
        if not 1 <= number <= len(self._entries):
            return False
        with self._condition:
            current = self._current
            if current is not None and current.number == number and self._wanted is None:
                return True
            if number == self._wanted:
                return True
            self._wanted = number
            self._condition.notify_all()
        # outside of the lock: interrupting a source may take a moment
        if current is not None and current.grabber is not None:
            current.grabber.stop()
        return True

    def stop(self) -> None:
        """End the capture from any thread; `newest` then returns None."""
        with self._condition:
            self._stopped = True
            grabbers = [entry.grabber for entry in self._entries if entry.grabber is not None]
            self._condition.notify_all()
        for grabber in grabbers:
            grabber.stop()

    def newest(self) -> Frame | None:
        """Wait for a frame of the chosen source that was not taken yet; None once the stream is stopped."""
        while (taken := self._take_turn()) is not None:
            entry, grabber = taken
            try:
                frame = grabber.newest()
            except EdgesegError as error:
                self.give_up(error)
                continue
            except Exception as error:  # noqa: BLE001 - a driver may raise anything; printed, and the others go on
                self.give_up(SourceError(f"Unexpected {type(error).__name__}: {to_one_line(error)}."))
                continue
            if frame is not None:
                self._mark_live(entry)
                return frame
            self._leave_ended(entry)
        return None

    def give_up(self, error: EdgesegError) -> None:
        """Leave the current source, which failed or gives frames that the model refuses; others can be chosen."""
        entry = self._current
        if entry is None:
            return
        sentence = hide_path(error.message, entry.text)
        self._leave(entry, FAILED, sentence)
        if self._on_notice is not None:
            self._on_notice(Notice(FAILED, f"{sentence} Choose another source, or this one to try again."))

    def count(self, age_ms: float, is_late: bool) -> None:
        """Count a mask of the current source."""
        entry = self._current
        if entry is not None:
            with self._condition:
                entry.processed += 1
                entry.late += is_late
                entry.ages.add(age_ms)

    def _take_turn(self) -> tuple[_Entry, Grabber] | None:
        """Give the current source, after switching where another one was chosen; None once the stream is stopped."""
        while not self._stopped:
            with self._condition:
                current, wanted = self._current, self._wanted
                if wanted is None and current is None:
                    self._condition.wait(1.0)
                    continue
            if wanted is not None:
                if current is not None:
                    self._leave(current, IDLE)
                self._begin(self._entries[wanted - 1])
            elif current is not None and current.grabber is not None:
                return current, current.grabber
        return None

    def _begin(self, entry: _Entry) -> None:
        """Start to capture a source, once its last capture has ended: a camera can be open only once."""
        with self._condition:
            if entry.grabber is not None and not entry.grabber.has_ended:
                self._condition.wait(_POLL_S)
                return
            if self._stopped or self._wanted != entry.number:
                return
        # sinks forget the last source before the first frame of this one can come
        if self._on_turn is not None:
            self._on_turn(Turn(entry.number, entry.name, self._next_frame))
        grabber = Grabber(
            partial(open_among_others, entry.text, self._colour, self._options, self._mm_per_px),
            self._options,
            number=entry.number,
            first_frame=self._next_frame,
        )
        grabber.on_frame = partial(self._pass_frame, grabber)
        grabber.on_notice = partial(self._pass_notice, grabber)
        with self._condition:
            entry.grabber, entry.state, entry.sentence = grabber, OPENING, ""
            entry.chosen += 1
            entry.began = monotonic()
            self._current, self._shown = entry, entry.number
            # where another one was chosen meanwhile, this one ends at once
            is_wanted = self._wanted == entry.number and not self._stopped
            if is_wanted:
                self._wanted = None
        grabber.start()
        if not is_wanted:
            grabber.stop()

    def _leave_ended(self, entry: _Entry) -> None:
        """Leave a source that gives no more frames: another one was chosen, or it is at its end."""
        if self._wanted is not None or self._stopped:
            self._leave(entry, IDLE)
        elif entry.grabber is not None and entry.grabber.captured == 0:
            self.give_up(SourceError(f"Expected frames from {entry.name}, got its end before the first one."))
        else:
            self._leave(entry, ENDED, "The recording has ended.")

    def _leave(self, entry: _Entry, state: str, sentence: str = "") -> None:
        grabber = entry.grabber
        if grabber is not None:
            grabber.stop()
        with self._condition:
            if self._current is not entry:
                return
            self._current = None
            entry.state, entry.sentence = state, sentence
            entry.seconds += monotonic() - entry.began
            if grabber is not None:
                entry.captured += grabber.captured
                entry.health += grabber.health
                self._next_frame = max(self._next_frame, grabber.next_frame)

    def _mark_live(self, entry: _Entry) -> None:
        if entry.state == OPENING:
            with self._condition:
                entry.state = LIVE

    def _count_running(self) -> int:
        return 0 if self._current is None or self._current.grabber is None else self._current.grabber.captured

    def _is_current(self, grabber: Grabber) -> bool:
        """Say whether a grabber's source is the chosen one; a source that was left may still give a frame."""
        return self._current is not None and self._current.grabber is grabber and self._wanted is None

    def _pass_frame(self, grabber: Grabber, frame: Frame) -> None:
        if self._on_frame is not None and self._is_current(grabber):
            self._on_frame(frame)

    def _pass_notice(self, grabber: Grabber, notice: Notice) -> None:
        with self._condition:
            if not self._is_current(grabber) or self._current is None:
                return
            if notice.state == "lost":
                self._current.state, self._current.sentence = LOST, notice.sentence
            elif notice.state == "back":
                self._current.state, self._current.sentence = LIVE, ""
        if self._on_notice is not None:
            self._on_notice(notice)
