"""Run a stream to its end: signals, the report with its verdict, and systemd's watchdog."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic

from edgeseg.backends.select import BackendReport
from edgeseg.core.errors import EdgesegError, OutputError
from edgeseg.core.stats import Percentiles
from edgeseg.inference.segmenter import WARM_UP_RUNS
from edgeseg.machine.thermal import Thermal, read_thermal
from edgeseg.streaming.latency import WindowReport
from edgeseg.streaming.live import StreamPipeline
from edgeseg.streaming.many import ManyPipeline
from edgeseg.streaming.member import MemberPipeline
from edgeseg.streaming.options import StreamOptions
from edgeseg.streaming.sinks.base import Result, Sink, SinkReport
from edgeseg.streaming.sources.base import Health
from edgeseg.streaming.states import StateReport
from edgeseg.streaming.switching import SourceReport

MISSED, NOT_MEASURED, NOT_JUDGED = "missed", "not measured", "not judged"
# Keep-alive messages per watchdog timeout; sd_watchdog_enabled(3) advises two or more.
NOTIFIES_PER_LIMIT = 4


@dataclass(frozen=True)
class FrameCounts:
    """Counts of frames: captured = processed + dropped; `late` are processed frames over the budget."""

    captured: int
    processed: int
    dropped: int
    late: int

    @classmethod
    def balance(cls, captured: int, processed: int, late: int) -> FrameCounts:
        """Count every frame without a mask as dropped.

        This holds for every end of a stream: a frame that still waited, or whose segmentation failed, counts too.
        """
        # of a running stream, `processed` is read a moment after `captured`
        captured = max(captured, processed)
        return cls(captured, processed, captured - processed, late)


@dataclass(frozen=True)
class StreamReport:
    """The figures of a stream.

    `verdict` compares `misses` with `max_miss`: "held" or "missed". It is "not measured" for a stream without a mask,
    and "not judged" with --every-frame, where a recorded source waits for the segmenter and frame age means nothing.
    """

    model: str
    source: str
    frames: FrameCounts
    latency_ms: dict[str, Percentiles]
    frame_age_ms: Percentiles
    interval_ms: Percentiles
    jitter_ms: float
    window: WindowReport
    states: StateReport
    """Seconds in each state, flicker and area jitter of every class."""
    first_inference_ms: float
    warm_up_runs: int
    """Blank frames that were segmented before the stream; in no figure here."""
    budget_ms: float
    misses: float
    max_miss: float
    verdict: str
    seconds: float
    backend: BackendReport
    source_health: Health
    incidents: tuple[str, ...]
    """Faults of the backend and what was done about them."""
    frozen: int
    """Processed frames on which the picture stood still."""
    sinks: tuple[SinkReport, ...]
    sources: tuple[SourceReport, ...]
    """Of a stream with several sources; empty for one."""
    thermal: tuple[Thermal, Thermal]
    """At the beginning and at the end."""
    workers: int = 1
    """Threads that segment, each with the model loaded once."""


@dataclass(frozen=True)
class MemberReport(SourceReport):
    """The figures of one of several sources that were segmented at the same time; `StreamReport` explains them."""

    source: str
    """The user's name for it, or else its number."""
    state: str
    latency_ms: dict[str, Percentiles]
    interval_ms: Percentiles
    jitter_ms: float
    window: WindowReport
    states: StateReport
    budget_ms: float
    misses: float
    verdict: str
    source_health: Health
    frozen: int
    sinks: tuple[SinkReport, ...]


class BrokenStreamError(EdgesegError):
    """A stream failed after its first frame; `report` has the figures until then."""

    def __init__(self, error: EdgesegError, report: StreamReport) -> None:
        super().__init__(error.message, error.hint)
        self.report = report


def run_stream(live: StreamPipeline | ManyPipeline) -> StreamReport:
    """Run a stream until the source ends, enough frames are done, a sink wants to end or a signal arrives.

    Raises:
        BrokenStreamError: The source or the model failed after the first frame.
    """
    failure = None
    with stop_on_signal(live.stop), live:
        try:
            live.run()
        except EdgesegError as error:
            # before the first mask there are no figures to report
            if not live.processed:
                raise
            failure = error
    report = make_report(live)
    if failure is not None:
        raise BrokenStreamError(failure, report) from failure
    return report


def make_report(live: StreamPipeline | ManyPipeline) -> StreamReport:
    """Collect the figures of a stream; final once it is closed."""
    if isinstance(live, ManyPipeline):
        return _report_many(live)
    latency, grabber, options = live.recorder.report(), live.grabber, live.options
    reports = (sink.report() for sink in live.sinks)
    return StreamReport(
        model=live.segmenter.card.name,
        source=live.name,
        frames=FrameCounts.balance(grabber.captured, live.processed, latency.late),
        latency_ms=latency.latency_ms,
        frame_age_ms=latency.frame_age_ms,
        interval_ms=latency.interval_ms,
        jitter_ms=latency.jitter_ms,
        window=live.recorder.report_window(),
        states=live.states.report(),
        first_inference_ms=latency.first_inference_ms,
        warm_up_runs=WARM_UP_RUNS,
        budget_ms=latency.budget_ms,
        misses=latency.misses,
        max_miss=options.max_miss,
        verdict=_judge(live.processed, latency.misses, options),
        seconds=round(live.seconds, 3),
        backend=live.segmenter.report(),
        source_health=grabber.health,
        incidents=tuple(live.segmenter.incidents),
        frozen=live.frozen,
        sinks=tuple(report for report in reports if report is not None),
        sources=() if live.switch is None else live.switch.report(),
        thermal=(live.thermal, read_thermal()),
    )


def _report_many(live: ManyPipeline) -> StreamReport:
    """Collect the figures of several sources: those of all masks, and those of each source."""
    latency, options = live.recorder.report(), live.options
    sources = tuple(_report_member(member) for member in live.members)
    counts = [FrameCounts.balance(one.captured, one.processed, one.late) for one in sources]
    health = Health()
    for one in sources:
        health += one.source_health
    return StreamReport(
        model=live.segmenter.card.name,
        source=live.name,
        frames=FrameCounts.balance(
            sum(count.captured for count in counts),
            sum(count.processed for count in counts),
            sum(count.late for count in counts),
        ),
        latency_ms=latency.latency_ms,
        frame_age_ms=latency.frame_age_ms,
        interval_ms=latency.interval_ms,
        jitter_ms=latency.jitter_ms,
        window=live.recorder.report_window(),
        states=_sum_states([one.states for one in sources]),
        first_inference_ms=latency.first_inference_ms,
        warm_up_runs=WARM_UP_RUNS,
        budget_ms=latency.budget_ms,
        misses=latency.misses,
        max_miss=options.max_miss,
        verdict=_judge_all([one.verdict for one in sources]),
        seconds=round(live.seconds, 3),
        backend=live.segmenter.report(),
        source_health=health,
        incidents=tuple(incident for segmenter in live.segmenters for incident in segmenter.incidents),
        frozen=sum(one.frozen for one in sources),
        sinks=tuple(replace(sink, name=f"{sink.name} of source {one.source}") for one in sources for sink in one.sinks),
        sources=sources,
        thermal=(live.thermal, read_thermal()),
        workers=len(live.segmenters),
    )


def _report_member(member: MemberPipeline) -> MemberReport:
    # between two frames, so that no figure is of half a frame
    with member.lock:
        latency, grabber = member.recorder.report(), member.grabber
        counts = FrameCounts.balance(grabber.captured, member.processed, latency.late)
        states = member.states.report()
    return MemberReport(
        name=member.name,
        chosen=1,
        captured=counts.captured,
        processed=counts.processed,
        dropped=counts.dropped,
        late=counts.late,
        seconds=round(member.seconds, 3),
        frame_age_ms=latency.frame_age_ms,
        failure=member.failure,
        source=member.label,
        state=member.state,
        latency_ms=latency.latency_ms,
        interval_ms=latency.interval_ms,
        jitter_ms=latency.jitter_ms,
        window=member.recorder.report_window(),
        states=states,
        budget_ms=latency.budget_ms,
        misses=latency.misses,
        verdict=_judge(counts.processed, latency.misses, member.options),
        source_health=grabber.health,
        frozen=member.frozen,
        sinks=member.report_sinks(),
    )


def _sum_states(reports: Sequence[StateReport]) -> StateReport:
    """Sum up what can be summed over sources; states over time are those of one source."""
    points = {name: value for report in reports for name, value in report.operating_points.items()}
    return StateReport((), sum(report.out_of_distribution for report in reports), points)


def _judge_all(verdicts: Sequence[str]) -> str:
    """Judge several sources: the budget is held where every source that gave frames held it."""
    found = [verdict for verdict in verdicts if verdict != NOT_MEASURED]
    if not found:
        return NOT_MEASURED
    return MISSED if MISSED in found else found[0]


def _judge(processed: int, misses: float, options: StreamOptions) -> str:
    if not processed:
        return NOT_MEASURED
    if options.capture.every_frame:
        return NOT_JUDGED
    return "held" if misses <= options.max_miss else MISSED


@contextmanager
def stop_on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the first SIGINT or SIGTERM; a second one has its usual effect.

    Python allows signal handlers only on the main thread; on any other this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # getsignal() returns None for a handler that C code installed; it could not be restored, so it stays
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    kept = {number: handler for number, handler in found.items() if handler is not None}

    def handle(number: int, _: object) -> None:
        # restored first: a stream that does not stop can still be ended by the same key
        signal.signal(number, kept[signal.Signals(number)])
        stop()

    for number in kept:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


class Watchdog(Sink):
    """Notifies systemd: READY with the first mask, WATCHDOG with later ones, STOPPING at the end (sd_notify(3)).

    A stream that hangs publishes no masks, so systemd restarts it.
    """

    def __init__(self, address: str, limit_s: float | None) -> None:
        """Open the notification socket.

        Args:
            address: The value of NOTIFY_SOCKET: a path, or an abstract socket's name after an @.
            limit_s: The watchdog timeout; None where the service has none.
        """
        self._limit_s = limit_s
        self._notified_at: float | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # an abstract socket has a NUL byte where systemd writes an @ (unix(7), sd_notify(3))
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def publish(self, result: Result) -> None:  # noqa: ARG002 - any result proves that the stream works
        """Send a keep-alive message, if one is due."""
        now = monotonic()
        if self._notified_at is None:
            self._notify("READY=1")
        elif self._limit_s is None or now - self._notified_at < self._limit_s / NOTIFIES_PER_LIMIT:
            return
        self._notify("WATCHDOG=1")
        self._notified_at = now

    def close(self) -> None:
        """Announce a regular end."""
        with self._socket:
            self._notify("STOPPING=1")

    def _notify(self, state: str) -> None:
        try:
            self._socket.sendto(state.encode("ascii"), self._address)
        except OSError as error:
            raise OutputError(
                f"Expected systemd to listen at NOTIFY_SOCKET, got: {error.strerror}.",
                "Outside of a service, start the stream with NOTIFY_SOCKET unset.",
            ) from error


def find_watchdogs(environment: Mapping[str, str] = os.environ) -> list[Watchdog]:
    """Make the watchdog sink of a systemd service of Type=notify; none outside of one."""
    address = environment.get("NOTIFY_SOCKET")
    if not address:
        return []
    # child processes inherit the variables; WATCHDOG_PID names the process that they are for
    is_for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    microseconds = environment.get("WATCHDOG_USEC") if is_for_us else None
    return [Watchdog(address, int(microseconds) / 1e6 if microseconds else None)]
