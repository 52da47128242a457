"""The live loop: newest frame, mask, sinks, times; and the report at its end."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from edgeseg.backends.select import BackendReport
from edgeseg.core.errors import EdgesegError, OutputError
from edgeseg.core.stats import Percentiles
from edgeseg.inference.segmenter import WARM_UP_RUNS
from edgeseg.machine.thermal import Thermal, read_thermal
from edgeseg.streaming.latency import WindowReport
from edgeseg.streaming.live import StreamOptions, StreamPipeline
from edgeseg.streaming.sinks.base import Result, Sink, SinkReport
from edgeseg.streaming.sources.base import Health

MISSED, NOT_MEASURED, NOT_JUDGED = "missed", "not measured", "not judged"
NOTIFIES_PER_LIMIT = 4
"""How often a stream that runs well says so within the time after which it would be restarted."""


@dataclass(frozen=True)
class FrameCounts:
    """What became of the frames: each that was captured was either processed or dropped."""

    captured: int
    processed: int
    dropped: int
    late: int

    @classmethod
    def balance(cls, captured: int, processed: int, late: int) -> FrameCounts:
        """Count as dropped whatever got no mask.

        That is one rule for every ending: also a frame that waits when the stream is told to end, and one whose
        segmentation failed, was captured for nothing.
        """
        captured = max(captured, processed)
        return cls(captured, processed, captured - processed, late)


@dataclass(frozen=True)
class StreamReport:
    """How a stream went.

    `verdict` is "held" or "missed" where frames were due at their time; "not measured" where the stream ended before
    its first mask, and "not judged" where every frame of a recorded source was waited for, since nothing is late there.
    """

    model: str
    source: str
    frames: FrameCounts
    latency_ms: dict[str, Percentiles]
    frame_age_ms: Percentiles
    interval_ms: Percentiles
    jitter_ms: float
    window: WindowReport
    first_inference_ms: float
    warm_up_runs: int
    """Blank frames after the first inference and before the stream; no figure here contains them."""
    budget_ms: float
    misses: float
    max_miss: float
    verdict: str
    seconds: float
    backend: BackendReport
    source_health: Health
    incidents: tuple[str, ...]
    """Faults of a backend while the stream ran, and what was done."""
    sinks: tuple[SinkReport, ...]
    thermal: tuple[Thermal, Thermal]
    """At the beginning and at the end."""


class BrokenStreamError(EdgesegError):
    """A stream ended by an error; `report` says how it went until then."""

    def __init__(self, error: EdgesegError, report: StreamReport) -> None:
        super().__init__(error.message, error.hint)
        self.report = report


def run_stream(live: StreamPipeline) -> StreamReport:
    """Segment the newest frame again and again until the source ends, enough frames are done or a signal comes.

    Raises:
        BrokenStreamError: The source or the model failed after the first frame.
    """
    failure = None
    with stop_on_signal(live.stop), live:
        try:
            deque(live, maxlen=0)
        except EdgesegError as error:
            if not live.processed:
                raise
            failure = error
    report = make_report(live)
    if failure is not None:
        raise BrokenStreamError(failure, report) from failure
    return report


def make_report(live: StreamPipeline) -> StreamReport:
    """Summarise a stream; complete when it is closed."""
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
        sinks=tuple(report for report in reports if report is not None),
        thermal=(live.thermal, read_thermal()),
    )


def _judge(processed: int, misses: float, options: StreamOptions) -> str:
    if not processed:
        return NOT_MEASURED
    if options.capture.every_frame:
        return NOT_JUDGED
    return "held" if misses <= options.max_miss else MISSED


@contextmanager
def stop_on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGINT and SIGTERM instead of ending the process; a second signal ends it after all.

    Python lets the main thread alone handle signals. On another one nothing is changed: the program that runs the
    stream there handles them, or does not.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # a handler that C code has installed reads as None and cannot be put back: that one stays
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    kept = {number: handler for number, handler in found.items() if handler is not None}

    def handle(number: int, _: object) -> None:
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
    """Says "ready" with the first mask, "alive" with later ones, and "stopping" at the end."""

    def __init__(self, address: str, limit_s: float | None) -> None:
        """Reach systemd.

        Args:
            address: What NOTIFY_SOCKET says: a path, or an abstract name behind an @.
            limit_s: After how many seconds of silence the stream is restarted; None where it never is.
        """
        self._limit_s = limit_s
        self._notified_at: float | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def publish(self, result: Result) -> None:  # noqa: ARG002 - that there is one is the whole message
        """Say that a mask is done, when it is time to say so."""
        now = monotonic()
        if self._notified_at is None:
            self._tell("READY=1")
        elif self._limit_s is None or now - self._notified_at < self._limit_s / NOTIFIES_PER_LIMIT:
            return
        self._tell("WATCHDOG=1")
        self._notified_at = now

    def close(self) -> None:
        """Say that the stream ends by itself."""
        with self._socket:
            self._tell("STOPPING=1")

    def _tell(self, state: str) -> None:
        try:
            self._socket.sendto(state.encode("ascii"), self._address)
        except OSError as error:
            raise OutputError(
                f"Expected systemd to listen at NOTIFY_SOCKET, got: {error.strerror}.",
                "Outside of a service, start the stream with NOTIFY_SOCKET unset.",
            ) from error


def find_watchdogs(environment: Mapping[str, str] = os.environ) -> list[Watchdog]:
    """Give the sink that this process owes to systemd: one as a service of the type notify, else none."""
    address = environment.get("NOTIFY_SOCKET")
    if not address:
        return []
    meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    microseconds = environment.get("WATCHDOG_USEC") if meant else None
    return [Watchdog(address, int(microseconds) / 1e6 if microseconds else None)]
