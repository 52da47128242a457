"""`ManyPipeline`: several sources of one process at the same time, each with its own figures and sinks.

Every source has a grabber, which keeps its newest frame. A few threads, each with the model loaded once, take these
frames in turn: the source that was served longest ago goes first (docs/decisions/0079). One source is never segmented
by two threads, so its masks stay in order.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from time import monotonic
from types import TracebackType

from edgeseg.backends.select import AUTO, Selection
from edgeseg.core.errors import SourceError
from edgeseg.inference.segmenter import Segmenter
from edgeseg.machine.thermal import Thermal, read_thermal
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.live import StreamPipeline, open_stream
from edgeseg.streaming.member import JOIN_S, MemberPipeline, NamedSource, name_many
from edgeseg.streaming.options import (
    DEFAULT_SINK_OPTIONS,
    DEFAULT_STREAM_OPTIONS,
    SinkOptions,
    StreamOptions,
)
from edgeseg.streaming.sinks.base import CLOSE_SECONDS, Member, Result, Sink, StreamInfo
from edgeseg.streaming.sinks.choose import open_many_sinks
from edgeseg.streaming.sources.base import Frame
from edgeseg.streaming.sources.choose import is_browser, open_among_others
from edgeseg.streaming.switching import CONNECTING

# At the end of the stream, how long a source may take to finish its sinks.
_CLOSE_S = CLOSE_SECONDS + JOIN_S
# Values of each time that are kept of one source: two minutes at 30 per second.
_KEPT = 4096


class ManyPipeline:
    """Several sources at the same time: iterate over it, inside its `with` block, to get the results of all.

    Segmenting runs on threads of its own, and so does `Sink.publish`. A source that fails, hangs or ends leaves the
    others as they are; the stream ends with the last one.
    """

    def __init__(
        self,
        segmenters: Sequence[Segmenter],
        members: Sequence[MemberPipeline],
        recorder: LatencyRecorder,
        shared: Sequence[Sink] = (),
        options: StreamOptions = DEFAULT_STREAM_OPTIONS,
        mm_per_px: float | None = None,
    ) -> None:
        """Prepare a stream; entering the context starts the captures.

        Args:
            segmenters: The same model, loaded once for each thread; closed at the end.
            members: The sources.
            recorder: Collects the times of all sources.
            shared: Sinks of all sources; closed at the end.
            options: When to stop, the budget, and how frames are captured.
            mm_per_px: The pixel size that the user named, for all sources.
        """
        self.segmenters, self.members, self.recorder = tuple(segmenters), tuple(members), recorder
        self.shared, self.options, self.mm_per_px = tuple(shared), options, mm_per_px
        self.name = ", ".join(member.name for member in members)
        self.thermal: Thermal = read_thermal()
        self._began = monotonic()
        self._ended: float | None = None
        # what the threads wait for: a frame of a source that none of them is busy with
        self._condition = threading.Condition()
        self._handing_over = threading.Condition()
        self._queue: deque[MemberPipeline] = deque(members)
        """The sources that are not being segmented, the one that was served longest ago first."""
        self._running = len(members)
        self._threads: list[threading.Thread] = []
        self._working = 0
        self._delivers = False
        self._results: deque[Result] = deque()
        self._stopped, self._closed = False, False
        self._error: BaseException | None = None

    def __enter__(self) -> ManyPipeline:
        for member in self.members:
            member.start(self._wake)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._closed:
            return
        self._closed = True
        self._ended = monotonic()
        self.stop(waits_for_sinks=True)
        for thread in self._threads:
            thread.join(_CLOSE_S)
        with self._condition:
            for member in self.members:
                member.end()
        ends_at = monotonic() + _CLOSE_S
        for member in self.members:
            member.join(max(0.0, ends_at - monotonic()))
        for sink in self.shared:
            sink.close()
        _close(self.segmenters)

    @property
    def segmenter(self) -> Segmenter:
        """The model, as the first thread has it."""
        return self.segmenters[0]

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """The sinks of all sources together."""
        return self.shared

    @property
    def processed(self) -> int:
        """Number of masks of all sources."""
        return sum(member.processed for member in self.members)

    @property
    def seconds(self) -> float:
        """Duration of the stream so far, or in all when it has ended."""
        return (monotonic() if self._ended is None else self._ended) - self._began

    def stop(self, waits_for_sinks: bool = False) -> None:
        """End the stream from another thread or a signal handler; current frames are finished.

        Args:
            waits_for_sinks: Whether sinks that keep every result may still wait for their readers.
        """
        for condition in (self._condition, self._handing_over):
            with condition:
                self._stopped = True
                condition.notify_all()
        for member in self.members:
            member.stop()
            if not waits_for_sinks:
                member.stop_waiting()

    def run(self) -> None:
        """Segment until all sources have ended, for what the sinks do with the results.

        Raises:
            EdgesegError: The model failed, or no source gave a frame.
        """
        self._start_threads(delivers=False)
        with self._handing_over:
            self._handing_over.wait_for(lambda: not self._working)
        self._check_end()

    def __iter__(self) -> Iterator[Result]:
        """Give the results of all sources as they come; a caller who is slow gets newer frames, not a queue.

        Raises:
            EdgesegError: The model failed, or no source gave a frame.
        """
        self._start_threads(delivers=True)
        while True:
            with self._handing_over:
                self._handing_over.wait_for(lambda: self._results or not self._working)
                result = self._results.popleft() if self._results else None
                self._handing_over.notify_all()
            if result is None:
                self._check_end()
                return
            yield result

    def _start_threads(self, delivers: bool) -> None:
        if self._threads:
            return
        self._delivers, self._working = delivers, len(self.segmenters)
        for number, segmenter in enumerate(self.segmenters, 1):
            name = f"edgeseg-network-{number}"
            self._threads.append(threading.Thread(target=self._work, args=(segmenter,), name=name, daemon=True))
            self._threads[-1].start()

    def _check_end(self) -> None:
        if self._error is not None:
            raise self._error
        failed = [f"{member.label}: {member.failure}" for member in self.members if member.failure is not None]
        if not self.processed and not self._stopped and failed:
            hint = "While one source gives frames, live ones that do not open are looked for."
            raise SourceError(f"Expected frames from {self.name}, got none. {' '.join(failed)}", hint)

    def _work(self, segmenter: Segmenter) -> None:
        """Segment, on a thread of its own, until all sources have ended."""
        try:
            while (taken := self._take()) is not None:
                self._serve(*taken, segmenter)
        except BaseException as error:  # noqa: BLE001 - raised again by run() and by the iteration
            self._error = error
            self.stop()
        finally:
            with self._handing_over:
                self._working -= 1
                self._handing_over.notify_all()

    def _take(self) -> tuple[MemberPipeline, Frame] | None:
        """Wait for a frame of any source that no other thread is busy with; None at the end of the stream."""
        with self._condition:
            while self._running and not self._stopped:
                for member in tuple(self._queue):
                    frame = self._poll(member)
                    if frame is not None:
                        self._queue.remove(member)
                        return member, frame
                self._give_up_search()
                if self._running:
                    self._condition.wait()
        return None

    def _give_up_search(self) -> None:
        """Leave the sources that cannot be opened, where no other gives frames or may; the condition is held."""
        left = [member for member in self.members if not member.is_over]
        if all(member.state == CONNECTING for member in left):
            for member in left:
                member.give_up()
                self._leave(member)

    def _poll(self, member: MemberPipeline) -> Frame | None:
        # looked at first: an error that comes in between is raised by the next call
        is_over = member.grabber.is_over
        try:
            frame = member.poll()
        except Exception as error:  # noqa: BLE001 - a driver may raise anything; printed, and the others go on
            self._end(member, error)
            return None
        if frame is None and is_over:
            self._end(member)
        return frame

    def _serve(self, member: MemberPipeline, frame: Frame, segmenter: Segmenter) -> None:
        """Segment a frame, and put its source at the end of the queue."""
        try:
            with member.lock:
                result = member.segment(frame, segmenter)
        except SourceError as error:
            with self._condition:
                self._end(member, error)
            return
        member.publish(result)
        if any(sink.wants_end for sink in member.sinks):
            self.stop()
        if self._delivers:
            self._hand_over(result)
        with self._condition:
            if self.options.frames is not None and member.processed >= self.options.frames:
                self._end(member)
            else:
                # this thread looks for a frame at once, so no other need be woken for the source
                self._queue.append(member)

    def _hand_over(self, result: Result) -> None:
        """Wait until the iteration takes results: no further frame is segmented for a caller who is slow."""
        with self._handing_over:
            self._handing_over.wait_for(lambda: not self._results or self._stopped)
            self._results.append(result)
            self._handing_over.notify_all()

    def _end(self, member: MemberPipeline, error: Exception | None = None) -> None:
        """Leave a source; the condition is held."""
        if error is None and member.grabber.captured == 0 and not self._stopped:
            error = SourceError(f"Expected frames from {member.name}, got its end before the first one.")
        member.end(error)
        self._leave(member)

    def _leave(self, member: MemberPipeline) -> None:
        if member in self._queue:
            self._queue.remove(member)
        self._running -= 1
        self._condition.notify_all()

    def _wake(self) -> None:
        # one thread: whichever wakes looks at all sources
        with self._condition:
            self._condition.notify()


def count_workers(sources: int, threads: int, segmenter: Segmenter) -> int:
    """Say how many threads segment: as many as the processors allow, and one on an accelerator, which is there once.

    Args:
        sources: How many there are; none is segmented by two threads.
        threads: CPU threads that each network may use.
        segmenter: The model, loaded.
    """
    if not segmenter.selection.backend.computes_in_memory():
        return 1
    return max(1, min(sources, len(os.sched_getaffinity(0)) // threads))


def open_sources(
    segmenter: Segmenter,
    open_another: Callable[[str], Segmenter],
    threads: int,
    source: str | Sequence[str],
    options: StreamOptions = DEFAULT_STREAM_OPTIONS,
    sink_options: SinkOptions = DEFAULT_SINK_OPTIONS,
    listeners: Sequence[Sink] = (),
) -> StreamPipeline | ManyPipeline:
    """Open a stream of one source or of several; several are the modalities of one picture where the model has some.

    Args:
        segmenter: The model, loaded; closed with the stream, or here when a step fails.
        open_another: Loads the same model once more, on a backend of this name.
        threads: CPU threads that each of them may use.
        source: As `edgeseg stream --source` takes it, or several.
        options: When to stop, the budget, and how frames are captured.
        sink_options: Which sinks to open.
        listeners: Further sinks, already open; closed in the same way.

    Raises:
        EdgesegError: A source or a sink cannot be opened, or the model fails.
        LiveSourceError: The options do not fit these sources.
    """
    if isinstance(source, str) or len(source) < 2 or segmenter.card.input.is_stack or options.one_at_a_time:
        return open_stream(segmenter, source, options, sink_options, listeners)
    return open_many(segmenter, open_another, threads, source, options, sink_options, listeners)


def open_many(
    segmenter: Segmenter,
    open_another: Callable[[str], Segmenter],
    threads: int,
    texts: Sequence[str],
    options: StreamOptions = DEFAULT_STREAM_OPTIONS,
    sink_options: SinkOptions = DEFAULT_SINK_OPTIONS,
    listeners: Sequence[Sink] = (),
) -> ManyPipeline:
    """Load the model for every thread and open the sinks; entering the returned stream opens the sources.

    Args:
        segmenter: The model, loaded; closed with the stream, or here when a step fails.
        open_another: Loads the same model once more, on a backend of this name.
        threads: CPU threads that each of them may use.
        texts: The sources, as `edgeseg stream --source` takes them, each with or without a name in front.
        options: When to stop, the budget, and how frames are captured.
        sink_options: Which sinks to open for all sources alike.
        listeners: Further sinks, already open; closed in the same way.

    Raises:
        EdgesegError: A source is of no known kind, a sink cannot be opened, or the model fails.
        LiveSourceError: The options do not fit several sources.
    """
    segmenters = [segmenter]
    with ExitStack() as opened:
        opened.callback(_close, segmenters)
        for listener in listeners:
            opened.callback(listener.close)
        sources = name_many(texts)
        sink_options.check_many(any(is_browser(source.text) for source in sources))
        more = count_workers(len(sources), threads, segmenter) - 1
        # one by one, so that those that were loaded are closed when the next one fails
        segmenters.extend(open_another(_name_backend(segmenter.selection)) for _ in range(more))
        first = [one.warm_up() for one in segmenters]
        total = LatencyRecorder(options.budget_ms, first[0])
        members = [_make_member(source, segmenter, total, options, sink_options) for source in sources]
        infos = [_describe_member(member, segmenter, sink_options) for member in members]
        own, shared = open_many_sinks(
            sink_options, infos, segmenter.card.output.classes, lambda: tuple(member.describe() for member in members)
        )
        # from here on the stream closes everything
        opened.pop_all()
    for member, sinks in zip(members, own, strict=True):
        member.attach(sinks, [*shared, *listeners])
    return ManyPipeline(segmenters, members, total, [*shared, *listeners], options, sink_options.mm_per_px)


def _name_backend(selection: Selection) -> str:
    """Name what is loaded again: "auto" could settle for another backend, and one that fell back would hang again."""
    if selection.requested != AUTO and selection.fallback_reason is None:
        return selection.requested
    return selection.backend.name


def _close(segmenters: Sequence[Segmenter]) -> None:
    for segmenter in segmenters:
        segmenter.close()


def _make_member(
    source: NamedSource, segmenter: Segmenter, total: LatencyRecorder, options: StreamOptions, sinks: SinkOptions
) -> MemberPipeline:
    card, size = segmenter.card, sinks.mm_per_px
    opener = partial(open_among_others, source.text, card.input.in_colour, options.capture, size, waits=True)
    return MemberPipeline(source, opener, card.output.classes, total.begin_part(_KEPT), total, options, size)


def _describe_member(member: MemberPipeline, segmenter: Segmenter, sink_options: SinkOptions) -> StreamInfo:
    source, grabber = member.source, member.grabber
    named = "" if source.label == str(source.number) else f"{source.label}: "
    return StreamInfo(
        segmenter.card.name,
        f"{named}{source.shown}",
        segmenter.report,
        member.recorder,
        sink_options.mm_per_px,
        every_frame=member.options.capture.every_frame,
        member=Member(
            source.number, source.label, is_browser(source.text), lambda: grabber.latest_slot, lambda: member.state
        ),
    )
