"""`MemberPipeline`: one of several sources that are segmented at the same time, and the names of all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from edgeseg.core.errors import EdgesegError, SourceError
from edgeseg.core.redact import to_one_line
from edgeseg.core.spec import ClassSpec
from edgeseg.streaming.grabber import Grabber
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.options import DEFAULT_STREAM_OPTIONS, MAX_SOURCES, StreamOptions
from edgeseg.streaming.pipeline import SourcePipeline
from edgeseg.streaming.sinks.base import Sink, SinkReport
from edgeseg.streaming.sources.address import hide_path, show_source, split_address, split_name
from edgeseg.streaming.sources.base import Frame, Notice, Source
from edgeseg.streaming.sources.choose import check_known
from edgeseg.streaming.sources.reconnect import TRYING
from edgeseg.streaming.switching import CONNECTING, ENDED, FAILED, LIVE, LOST, OPENING, SourceStatus

# At the end of a source, how long a capture that hangs is waited for; its thread ends with the process.
JOIN_S = 2.0


@dataclass(frozen=True)
class NamedSource:
    """One of several sources, as the user gave it."""

    number: int
    """From 1."""
    label: str
    """The user's name for it, or else its number: what figures, folders and pages call it."""
    text: str
    """As `edgeseg stream --source` takes it; may hold a password."""
    shown: str
    """Without secrets and folders."""


def name_many(texts: Sequence[str]) -> list[NamedSource]:
    """Name several sources: by the user's NAME=SOURCE, or else by their numbers.

    Raises:
        SourceError: A name or a source is there twice, there are too many, or one is of no known kind.
    """
    if len(texts) > MAX_SOURCES:
        raise SourceError(f"Expected at most {MAX_SOURCES} sources, got {len(texts)}.", "Start another stream.")
    named = [(number, *split_name(text)) for number, text in enumerate(texts, 1)]
    for _, _, text in named:
        check_known(text)
    # two threads that read one pipe would each get halves of frames
    piped = [text for _, _, text in named if split_address(text)[0] == "-"]
    if len(piped) > 1:
        raise SourceError(f"Expected standard input as one source, got it {len(piped)} times.", "Name other sources.")
    sources = [NamedSource(number, name or str(number), text, show_source(text)) for number, name, text in named]
    _refuse_twice(list(texts), "source", "Write NAME=SOURCE for one that is meant to be there twice.")
    # a folder is named after each, and some file systems ignore case
    _refuse_twice([source.label.lower() for source in sources], "name of a source", "Give every source its own name.")
    return sources


def _refuse_twice(values: Sequence[str], what: str, hint: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise SourceError(
                f"Expected every {what} once, got {show_source(value)} {values.count(value)} times.", hint
            )


class MemberPipeline(SourcePipeline):
    """One source of several: its grabber, its state, and how it ends."""

    def __init__(
        self,
        source: NamedSource,
        opener: Callable[[], Source],
        classes: Sequence[ClassSpec],
        recorder: LatencyRecorder,
        total: LatencyRecorder,
        options: StreamOptions = DEFAULT_STREAM_OPTIONS,
        mm_per_px: float | None = None,
    ) -> None:
        """Prepare; `start` opens the source on the thread that captures it.

        Args:
            source: Its name and address.
            opener: Opens it.
            classes: Of the model's card.
            recorder: Collects its times.
            total: Collects the times of all sources.
            options: The budget, the number of frames, and how they are captured.
            mm_per_px: The pixel size that the user named, for all sources.
        """
        super().__init__(classes, recorder, (), options, source.shown, mm_per_px)
        self.source = source
        self._label = source.label
        self._total = total
        self.grabber = Grabber(opener, options.capture, self.on_frame, source.number)
        self.grabber.on_notice = self._note
        self.state, self.sentence = OPENING, ""
        self.began, self.ended = monotonic(), 0.0
        self.lock = threading.Lock()
        """Held while a frame is segmented, so that figures are not read halfway."""
        self._own: tuple[Sink, ...] = ()
        self._closing: threading.Thread | None = None

    def attach(self, own: Sequence[Sink], shared: Sequence[Sink] = ()) -> None:
        """Take sinks: its own are closed with the source, shared ones are not."""
        self._own, self.sinks = tuple(own), (*own, *shared)

    @property
    def label(self) -> str:
        """What figures, folders and pages call it."""
        return self.source.label

    @property
    def failure(self) -> str | None:
        """Why it gives no frames, where that is no regular end."""
        return self.sentence if self.state in (CONNECTING, LOST, FAILED) else None

    @property
    def is_over(self) -> bool:
        """Whether its end was noted."""
        return self._closing is not None

    @property
    def seconds(self) -> float:
        """For how long it has been captured."""
        return (self.ended or monotonic()) - self.began

    def describe(self) -> SourceStatus:
        """Describe its state for the page."""
        return SourceStatus(self.source.number, self.name, self.state, self.sentence)

    def list_recorders(self) -> tuple[LatencyRecorder, ...]:
        """List what collects its times: its own recorder, and that of all sources."""
        return (self.recorder, self._total)

    def report_sinks(self) -> tuple[SinkReport, ...]:
        """Count what its own sinks wrote and missed."""
        reports = (sink.report() for sink in self._own)
        return tuple(report for report in reports if report is not None)

    def start(self, on_ready: Callable[[], None]) -> None:
        """Start the capture.

        Args:
            on_ready: Called when there is a new frame, its end, or a try to open it that failed.
        """
        self.grabber.on_ready = on_ready
        self.began = monotonic()
        self.grabber.start()

    def poll(self) -> Frame | None:
        """Take the newest frame, if one was not taken yet.

        Raises:
            EdgesegError: The source failed.
        """
        frame = self.grabber.poll()
        if frame is not None and self.state == OPENING:
            self.state = LIVE
        return frame

    def end(self, error: Exception | None = None) -> None:
        """Note the end of the source, and begin to close it on a thread of its own: nobody waits for a slow sink."""
        if self._closing is not None:
            return
        self.ended, self.sentence = monotonic(), self.sentence.removesuffix(TRYING)
        if error is not None:
            self._fail(error)
        elif self.state in (OPENING, LIVE, LOST) and not self.grabber.stopped:
            self.state, self.sentence = ENDED, "The source has ended."
        self._closing = threading.Thread(target=self._close, name=f"edgeseg-end-{self.source.number}", daemon=True)
        self._closing.start()

    def give_up(self) -> None:
        """End a source that gave no frame so far, since no other gives one either."""
        # told already, when the search began
        self.state = FAILED
        self.end()

    def stop(self) -> None:
        """End the capture, from any thread."""
        self.grabber.stop()

    def stop_waiting(self) -> None:
        """Let its sinks wait for nobody any more."""
        for sink in self._own:
            sink.stop_waiting()

    def join(self, seconds: float) -> None:
        """Wait until everything is closed."""
        if self._closing is not None:
            self._closing.join(seconds)

    def _close(self) -> None:
        try:
            # interrupting a source may take a moment
            self.grabber.stop()
        finally:
            for sink in self._own:
                sink.close()
            self.grabber.join(JOIN_S)

    def _fail(self, error: Exception) -> None:
        unknown = f"Unexpected {type(error).__name__}: {to_one_line(error)}."
        sentence = error.message if isinstance(error, EdgesegError) else unknown
        notice = Notice(FAILED, hide_path(sentence, self.source.text))
        self.state, self.sentence = FAILED, notice.sentence
        self.on_notice(notice)

    def _note(self, notice: Notice) -> None:
        if self.is_over:
            return
        if notice.state in (LOST, CONNECTING):
            self.state, self.sentence = notice.state, notice.sentence
        elif notice.state == "back":
            self.state, self.sentence = LIVE, ""
        self.on_notice(notice)
        if notice.state == CONNECTING and self.grabber.on_ready is not None:
            self.grabber.on_ready()
