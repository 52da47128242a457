"""A thread that can be given up: a call into a driver that never returns must not hold the caller for ever."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Unanswered
from functools import partial
from typing import TypeVar

from edgeseg.core.errors import BackendError
from edgeseg.core.quiet import restore_output

T = TypeVar("T")


class Hands:
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

    def do(self, task: Callable[[], T], limit_s: float) -> T:
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

    def let_go(self) -> None:
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
