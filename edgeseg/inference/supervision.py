"""`SupervisedSegmenter`: a stream survives a backend that fails or hangs.

A watchdog timeout guards every inference on an accelerator. On a fault the CPU takes over at once (failover), and the
accelerator is loaded again in the background with exponential back-off. `TimeoutWorker` is the watchdog.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from numpy.typing import NDArray

from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.select import AUTO, Selection, select_backend
from edgeseg.core.errors import BackendError, EdgesegError
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.process import restore_output
from edgeseg.core.redact import redact
from edgeseg.inference.masks import DEFAULT_MASK_OPTIONS, MaskOptions
from edgeseg.inference.segmenter import Segmenter

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
# Longer than any first inference that compiles shaders; a hang lasts for ever.
INVOKE_LIMIT_S = 10.0
LOAD_LIMIT_S = 120.0
# Back-off before each attempt to reload an accelerator; the last value repeats.
RETRY_PAUSES_S = (1.0, 10.0, 60.0, 300.0, 1800.0)
# After so long without a fault the back-off starts again with its shortest pause.
HEALTHY_AFTER_S = 600.0
# A thread that hangs in a driver cannot be ended; with so many, no new one is started until one returns.
MAX_HUNG_THREADS = 8


class SupervisedSegmenter(Segmenter):
    """A segmenter for streams, which fails over to the CPU and reloads the accelerator in the background.

    Accelerators are called through a `TimeoutWorker`; the CPU is called directly, since it is the fallback and the
    hand-over between threads costs about 20 microseconds. No frame waits for a reload, with one exception: a file that
    the CPU cannot run, such as one compiled for the Edge TPU, is reloaded at once while the frame waits.
    """

    def __init__(
        self,
        model: ModelFile,
        requested: str = AUTO,
        threads: int = 1,
        enforce_parity: bool = True,
        masks: MaskOptions = DEFAULT_MASK_OPTIONS,
        limit_s: float = INVOKE_LIMIT_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Load a model file.

        Args:
            model: The file, read and verified.
            requested: "auto", or the name of a backend.
            threads: CPU threads the backend may use.
            enforce_parity: Whether to refuse a backend whose masks differ from the file's golden pairs.
            masks: Post-processing beyond the card.
            limit_s: An inference that takes longer counts as hung.
            clock: Returns seconds; a test passes its own.
        """
        self._worker: TimeoutWorker | None = None
        self._hung: list[TimeoutWorker] = []
        super().__init__(model, requested, threads, enforce_parity, masks)
        self._model, self._threads, self._enforce_parity = model, threads, enforce_parity
        self._limit_s, self._clock = limit_s, clock
        # a reload asks for the backend that was found, since "auto" could settle for another one
        self._wanted = self.selection.backend.name if requested == AUTO else requested
        self._first_selection = self.selection
        self._attempt: ReloadAttempt | None = None
        self._attempts, self._due_at = 0, 0.0
        self._healthy_since = clock()
        self._on_fallback = False

    def close(self) -> None:
        """End the threads that call and load the accelerator."""
        self._abandon_worker()
        if self._attempt is not None:
            self._attempt.worker.abandon()
            self._attempt = None

    def _load(self, model: ModelFile, requested: str, threads: int, enforce_parity: bool) -> Selection:
        """Load the first backend within a time limit: a driver may hang, and nothing would be said of it."""
        if requested == CpuBackend.name:
            return super()._load(model, requested, threads, enforce_parity)
        self._worker = TimeoutWorker("edgeseg-backend")
        try:
            load = partial(select_backend, model, requested, threads, enforce_parity)
            selection = self._worker.run(load, LOAD_LIMIT_S)
        except TimeLimitError as hang:
            self._abandon_worker()
            reason = f"Loading the backend {requested} took more than {LOAD_LIMIT_S:g} s."
            if requested != AUTO:
                raise BackendError(reason, "Choose another one: --backend cpu.") from hang
            standby = select_backend(model, CpuBackend.name, threads, enforce_parity)
            return replace(standby, requested=requested, fallback_reason=reason)
        except EdgesegError:
            self._worker.stop()
            raise
        if selection.backend.name == CpuBackend.name:
            self._worker.stop()
            self._worker = None
        return selection

    def _invoke(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        while True:
            if self._on_fallback:
                self._poll_reload()
            backend = self.selection.backend
            try:
                return self._run_limited(partial(backend.invoke, tensor), self._limit_s, backend.name)
            except Exception as error:  # noqa: BLE001 - a native runtime may raise anything; it is reported and survived
                self._recover(error)

    def _run_limited(self, task: Callable[[], T], limit_s: float, name: str) -> T:
        if name == CpuBackend.name:
            return task()
        if self._worker is None:
            self._worker = TimeoutWorker("edgeseg-backend")
        return self._worker.run(task, limit_s)

    def _abandon_worker(self) -> None:
        if self._worker is not None:
            self._worker.abandon()
            self._hung.append(self._worker)
            self._worker = None

    def _recover(self, error: Exception) -> None:
        """Fail over to the CPU; where it cannot run the file, reload the backend while the frame waits."""
        name, now = self.selection.backend.name, self._clock()
        self._abandon_worker()
        # the CPU is checked after the report, so that its last fault is in the incidents, too
        fault = self._report_incident(f"The backend {name} failed in the stream: {_describe(error)}")
        if name == CpuBackend.name:
            raise BackendError(fault, "Check the model file with edgeseg inspect.") from error
        was_healthy, self._healthy_since = now - self._healthy_since >= HEALTHY_AFTER_S, now
        self._attempts = 0 if was_healthy else self._attempts
        try:
            standby = self._select(CpuBackend.name)
        except EdgesegError as refusal:
            self._reload_now(name, refusal)
            return
        pause = self._schedule_retry(now)
        self._on_fallback = True
        self._use(standby, f"{fault} It is loaded again in {pause:g} s.")
        self._report_incident(f"The stream goes on with the backend cpu; {name} is loaded again in {pause:g} s.")

    def _reload_now(self, name: str, refusal: EdgesegError) -> None:
        """Reload a backend that has no fallback; only once until it has been healthy for a while.

        Raises:
            BackendError: It was reloaded shortly before.
            EdgesegError: It cannot be loaded.
        """
        self._attempts += 1
        if self._attempts > 1:
            raise BackendError(f"The backend {name} failed again, and: {refusal.message}", refusal.hint) from refusal
        self._use(self._run_limited(partial(self._select, self._wanted), LOAD_LIMIT_S, self._wanted), None)
        self._report_incident(f"The backend {name} was loaded again.")

    def _poll_reload(self) -> None:
        """Advance the reload without blocking: start it when due, switch over when done, give up when it hangs."""
        now = self._clock()
        if self._attempt is None:
            if now >= self._due_at:
                self._begin_reload(now)
        elif self._attempt.answer.done():
            self._finish_reload(self._attempt, now)
        elif now - self._attempt.since > LOAD_LIMIT_S:
            self._give_up_reload(f"it did not answer within {LOAD_LIMIT_S:g} s.", now)

    def _begin_reload(self, now: float) -> None:
        self._hung = [worker for worker in self._hung if not worker.has_ended]
        # each hung thread keeps its model's memory
        if len(self._hung) >= MAX_HUNG_THREADS:
            self._schedule_retry(now)
            return
        worker = TimeoutWorker("edgeseg-backend")
        self._attempt = ReloadAttempt(worker, worker.begin(partial(self._select, self._wanted)), now)

    def _finish_reload(self, attempt: ReloadAttempt, now: float) -> None:
        error = attempt.answer.exception()
        if error is not None:
            self._give_up_reload(_describe(error), now)
            return
        self._attempt, self._on_fallback = None, False
        # the worker that loaded the accelerator goes on as the one that invokes it
        self._worker, self._healthy_since = attempt.worker, now
        self._use(attempt.answer.result(), self._first_selection.fallback_reason)
        self._report_incident(f"The backend {self.selection.backend.name} was loaded again and serves the stream.")

    def _give_up_reload(self, reason: str, now: float) -> None:
        if self._attempt is not None:
            self._attempt.worker.abandon()
            self._hung.append(self._attempt.worker)
            self._attempt = None
        pause = self._schedule_retry(now)
        line = self._report_incident(
            f"The backend {self._wanted} could not be loaded again: {reason} Next in {pause:g} s."
        )
        self.selection = replace(self.selection, fallback_reason=line)

    def _schedule_retry(self, now: float) -> float:
        """Set when the next attempt is due; returns the pause until then."""
        pause = RETRY_PAUSES_S[min(self._attempts, len(RETRY_PAUSES_S) - 1)]
        self._attempts += 1
        self._due_at = now + pause
        return pause

    def _select(self, wanted: str) -> Selection:
        return select_backend(self._model, wanted, self._threads, self._enforce_parity)

    def _use(self, selection: Selection, reason: str | None) -> None:
        self.selection = replace(selection, requested=self._first_selection.requested, fallback_reason=reason)

    def _report_incident(self, sentence: str) -> str:
        line = redact(sentence)
        self.incidents.append(line)
        _LOG.warning("%s", line)
        return line


@dataclass(frozen=True)
class ReloadAttempt:
    """An accelerator that is being loaded; the thread that loads it will also invoke it."""

    worker: TimeoutWorker
    answer: Future[Selection]
    since: float


def _describe(error: BaseException) -> str:
    return error.message if isinstance(error, EdgesegError) else f"{type(error).__name__}: {error}."


class TimeLimitError(BackendError):
    """A backend did not answer in time."""


class TimeoutWorker:
    """Runs one task at a time on its own thread, so that the caller can stop waiting for a task that hangs."""

    def __init__(self, name: str) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def begin(self, task: Callable[[], T]) -> Future[T]:
        """Queue a task and return its future."""
        answer: Future[T] = Future()
        self._tasks.put(partial(_fulfil, task, answer))
        return answer

    def run(self, task: Callable[[], T], limit_s: float) -> T:
        """Run a task and return its result, or raise its exception.

        Raises:
            TimeLimitError: It did not end in time; the thread hangs, so call `abandon`.
        """
        answer = self.begin(task)
        try:
            return answer.result(limit_s)
        except FutureTimeout as timeout:
            # the task itself raised a TimeoutError
            if answer.done():
                raise
            # the hung thread may have redirected the process's output while it loaded a driver
            restore_output(self._thread.ident)
            raise TimeLimitError(f"Expected an answer within {limit_s:g} s, got none.") from timeout

    @property
    def has_ended(self) -> bool:
        """Whether the thread has ended; one that hangs lives until its task returns."""
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """End the thread after its current task; one that hangs ends with the process."""
        self._tasks.put(None)

    def stop(self) -> None:
        """End the thread, which has no task left, and wait for it."""
        self.abandon()
        self._thread.join()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()


def _fulfil(task: Callable[[], T], answer: Future[T]) -> None:
    try:
        answer.set_result(task())
    except Exception as error:  # noqa: BLE001 - raised again by Future.result()
        answer.set_exception(error)
