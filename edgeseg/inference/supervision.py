"""A stream outlives its backend: where one fails or hangs the CPU takes over, until it could be loaded again."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Unanswered
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
from edgeseg.inference.masks import AS_THE_CARD_SAYS, MaskOptions
from edgeseg.inference.segmenter import Segmenter

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
INVOKE_LIMIT_S = 10.0
"""Longer than any first inference that compiles shaders; a hang lasts for ever."""
LOAD_LIMIT_S = 120.0
PAUSES_S = (1.0, 10.0, 60.0, 300.0, 1800.0)
"""How long to wait before each attempt to load an accelerator again; the last holds for all that follow."""
SOUND_S = 600.0
"""After so long without a fault, the next one is a new story: the pauses begin with the shortest again."""
MOST_STUCK = 8
"""Threads that hang in a driver; with so many, no further one is started until one of them has ended."""


class TimeoutWorker:
    """Does one thing at a time on a thread of its own, within a time limit."""

    def __init__(self, name: str) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def begin(self, task: Callable[[], T]) -> Future[T]:
        """Do a task as soon as the one before it is done, and give at once where its answer will be."""
        answer: Future[T] = Future()
        self._tasks.put(partial(_settle, task, answer))
        return answer

    def run(self, task: Callable[[], T], limit_s: float) -> T:
        """Do a task and give what it gives, or raise what it raises.

        Raises:
            BackendError: It did not end in time; these hands are stuck and must be let go.
        """
        answer = self.begin(task)
        try:
            return answer.result(limit_s)
        except Unanswered as silence:
            if answer.done():
                raise
            restore_output(self._thread.ident)
            raise BackendError(f"Expected an answer within {limit_s:g} s, got none.") from silence

    @property
    def have_ended(self) -> bool:
        """Say whether the thread is gone: one that is stuck stays until its task ends."""
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """End the thread as soon as its task ends; a stuck one ends with the process."""
        self._tasks.put(None)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()


def _settle(task: Callable[[], T], answer: Future[T]) -> None:
    try:
        answer.set_result(task())
    except Exception as error:  # noqa: BLE001 - raised again by do()
        answer.set_exception(error)


@dataclass(frozen=True)
class Attempt:
    """An accelerator that is being loaded on a thread of its own; it will be called on that thread as well."""

    worker: TimeoutWorker
    answer: Future[Selection]
    since: float


class GuardedSegmenter(Segmenter):
    """A segmenter for streams; accelerators are called on a thread that can be given up.

    The CPU is called directly: it is what is fallen back to, and a thread in between costs some 20 microseconds. While
    it stands in for an accelerator, that one is loaded again in the background, after pauses that grow; no frame waits
    for it. A file that runs on nothing else is the exception: its backend is loaded again at once, and frames wait.
    """

    def __init__(
        self,
        model: ModelFile,
        requested: str = AUTO,
        threads: int = 1,
        enforce_parity: bool = True,
        masks: MaskOptions = AS_THE_CARD_SAYS,
        limit_s: float = INVOKE_LIMIT_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Load a model file as a segmenter does.

        Args:
            model: The file, read and verified.
            requested: "auto", or the name of a backend.
            threads: CPU threads the model may use.
            enforce_parity: Whether a backend with other masks than the file's golden ones is refused.
            masks: Holes filled, frames smoothed.
            limit_s: An inference that takes longer counts as hung.
            clock: Gives seconds.
        """
        self._worker: TimeoutWorker | None = None
        super().__init__(model, requested, threads, enforce_parity, masks)
        self._model, self._threads, self._enforce_parity = model, threads, enforce_parity
        self._limit_s, self._clock = limit_s, clock
        self._wanted = self.selection.backend.name if requested == AUTO else requested
        self._first = self.selection
        self._attempt: Attempt | None = None
        self._attempts, self._due_at = 0, 0.0
        self._sound_since = clock()
        self._stands_in = False
        """Whether the CPU stands in for an accelerator."""
        self._stuck: list[TimeoutWorker] = []

    def close(self) -> None:
        """End the threads that call and load the accelerator."""
        self._let_go()
        if self._attempt is not None:
            self._attempt.worker.abandon()
            self._attempt = None

    def _invoke(self, tensor: NDArray[Any]) -> NDArray[Any]:
        while True:
            if self._stands_in:
                self._look_after_accelerator()
            backend = self.selection.backend
            try:
                return self._do(partial(backend.invoke, tensor), self._limit_s, backend.name)
            except Exception as error:  # noqa: BLE001 - whatever a native runtime raises is its fault, told and survived
                self._recover(error)

    def _do(self, task: Callable[[], T], limit_s: float, name: str) -> T:
        if name == CpuBackend.name:
            return task()
        if self._worker is None:
            self._worker = TimeoutWorker("edgeseg-backend")
        return self._worker.run(task, limit_s)

    def _let_go(self) -> None:
        if self._worker is not None:
            self._worker.abandon()
            self._stuck.append(self._worker)
            self._worker = None

    def _recover(self, error: Exception) -> None:
        """Let the CPU take over; where it cannot, load the backend again while the frame waits."""
        name, now = self.selection.backend.name, self._clock()
        self._let_go()
        fault = self._tell(f"The backend {name} failed in the stream: {_describe(error)}")
        if name == CpuBackend.name:
            raise BackendError(fault, "Check the model file with edgeseg inspect.") from error
        was_sound, self._sound_since = now - self._sound_since >= SOUND_S, now
        self._attempts = 0 if was_sound else self._attempts
        try:
            standby = self._select(CpuBackend.name)
        except EdgesegError as refusal:
            self._load_at_once(name, refusal)
            return
        pause = self._plan(now)
        self._stands_in = True
        self._take(standby, f"{fault} It is loaded again in {pause:g} s.")
        self._tell(f"The stream goes on with the backend cpu; {name} is loaded again in {pause:g} s.")

    def _load_at_once(self, name: str, refusal: EdgesegError) -> None:
        """Load a backend again without which there are no masks: once, until it has been sound for a while.

        Raises:
            BackendError: It was loaded again shortly before.
            EdgesegError: It cannot be loaded again.
        """
        self._attempts += 1
        if self._attempts > 1:
            raise BackendError(f"The backend {name} failed again, and: {refusal.message}", refusal.hint) from refusal
        self._take(self._do(partial(self._select, self._wanted), LOAD_LIMIT_S, self._wanted), None)
        self._tell(f"The backend {name} was loaded again.")

    def _look_after_accelerator(self) -> None:
        """Begin to load the accelerator when that is due, and change over when it is there; never wait."""
        now = self._clock()
        if self._attempt is None:
            if now >= self._due_at:
                self._begin_attempt(now)
        elif self._attempt.answer.done():
            self._end_attempt(self._attempt, now)
        elif now - self._attempt.since > LOAD_LIMIT_S:
            self._give_up_attempt(f"it did not answer within {LOAD_LIMIT_S:g} s.", now)

    def _begin_attempt(self, now: float) -> None:
        self._stuck = [worker for worker in self._stuck if not worker.have_ended]
        if len(self._stuck) >= MOST_STUCK:
            self._plan(now)
            return
        worker = TimeoutWorker("edgeseg-backend")
        self._attempt = Attempt(worker, worker.begin(partial(self._select, self._wanted)), now)

    def _end_attempt(self, attempt: Attempt, now: float) -> None:
        error = attempt.answer.exception()
        if error is not None:
            self._give_up_attempt(_describe(error), now)
            return
        self._attempt, self._stands_in = None, False
        self._worker, self._sound_since = attempt.worker, now
        self._take(attempt.answer.result(), self._first.fallback_reason)
        self._tell(f"The backend {self.selection.backend.name} was loaded again and serves the stream.")

    def _give_up_attempt(self, reason: str, now: float) -> None:
        if self._attempt is not None:
            self._attempt.worker.abandon()
            self._stuck.append(self._attempt.worker)
            self._attempt = None
        pause = self._plan(now)
        said = self._tell(f"The backend {self._wanted} could not be loaded again: {reason} Next in {pause:g} s.")
        self.selection = replace(self.selection, fallback_reason=said)

    def _plan(self, now: float) -> float:
        """Set when the next attempt is due; gives the pause until then."""
        pause = PAUSES_S[min(self._attempts, len(PAUSES_S) - 1)]
        self._attempts += 1
        self._due_at = now + pause
        return pause

    def _select(self, wanted: str) -> Selection:
        return select_backend(self._model, wanted, self._threads, self._enforce_parity)

    def _take(self, selection: Selection, reason: str | None) -> None:
        self.selection = replace(selection, requested=self._first.requested, fallback_reason=reason)

    def _tell(self, sentence: str) -> str:
        said = redact(sentence)
        self.incidents.append(said)
        _LOG.warning("%s", said)
        return said


def _describe(error: BaseException) -> str:
    return error.message if isinstance(error, EdgesegError) else f"{type(error).__name__}: {error}."
