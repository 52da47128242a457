"""Between the stream, which never waits, and a consumer that takes its time: a thread with the newest result."""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from typing import ClassVar

from edgeseg.core.errors import EdgesegError, OutputError
from edgeseg.runtime.sinks.base import Result, Sink, SinkReport

CLOSE_SECONDS = 10.0


class Outlet(ABC):
    """Writes or shows one result at a time, as slowly as it must."""

    name: ClassVar[str]
    wants_end: bool = False
    """Set when the stream has no more reason to go on."""

    @abstractmethod
    def write(self, result: Result) -> None:
        """Bring one result out.

        Raises:
            EdgesegError: Nothing more can be brought out; the stream goes on without this outlet.
        """

    def hurry(self) -> None:  # noqa: B027 - most outlets wait for nobody
        """Hear, from another thread, that the stream has ended: wait for nobody any longer."""

    def close(self) -> None:  # noqa: B027 - an outlet that holds nothing open has nothing to close
        """Finish what was begun."""


class Courier(Sink):
    """Hands the newest result to an outlet on a thread of its own; what came and went meanwhile is counted."""

    def __init__(self, outlet: Outlet, is_on: bool = True) -> None:
        """Start the thread; while it is off, results pass by uncounted."""
        self._outlet, self._is_on = outlet, is_on
        self._news = threading.Condition()
        self._newest: Result | None = None
        self._closing = False
        self._taken, self._missed = 0, 0
        self._failure: EdgesegError | None = None
        self._thread = threading.Thread(target=self._run, name=f"edgeseg-{outlet.name}", daemon=True)
        self._thread.start()

    def publish(self, result: Result) -> None:
        """Make a result the next one to be carried."""
        with self._news:
            if not self._is_on:
                return
            self._missed += self._newest is not None or self._failure is not None
            self._newest = result if self._failure is None else None
            self._news.notify_all()

    @property
    def is_on(self) -> bool:
        """Say whether results are carried."""
        return self._is_on

    def turn(self, is_on: bool) -> None:
        """Begin to carry results, or let them pass by."""
        with self._news:
            self._is_on = is_on

    @property
    def wants_end(self) -> bool:
        """Say whether the outlet has no more reason to go on."""
        return self._outlet.wants_end

    def report(self) -> SinkReport:
        """Count what was carried and what was missed."""
        with self._news:
            failure = self._failure
            message, hint = (failure.message, failure.hint) if failure is not None else (None, "")
            return SinkReport(self._outlet.name, self._taken, self._missed, message, hint)

    def close(self) -> None:
        """Bring the last result out and end the thread."""
        with self._news:
            self._closing = True
            self._news.notify_all()
        self._outlet.hurry()
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            self._fail(OutputError(f"Expected {self._outlet.name} to end within {CLOSE_SECONDS:g} s, but it hangs."))

    def _run(self) -> None:
        try:
            while (result := self._take()) is not None:
                self._outlet.write(result)
                with self._news:
                    self._taken += 1
        except EdgesegError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - told at once and at the end; the stream goes on
            self._fail(OutputError(f"Unexpected {type(error).__name__}: {error}", "This is a defect."))
        finally:
            self._outlet.close()

    def _take(self) -> Result | None:
        with self._news:
            self._news.wait_for(lambda: self._newest is not None or self._closing)
            result, self._newest = self._newest, None
            return result

    def _fail(self, error: EdgesegError) -> None:
        with self._news:
            self._failure, self._newest = error, None
        if not self._outlet.wants_end:
            print(f"edgeseg: {self._outlet.name} ended, the stream goes on: {error.message}", file=sys.stderr)
