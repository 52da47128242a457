"""Watch workers: end those that hang, notice those that die, and start new ones in their place."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from fuzzing.worker import BROKEN, CURRENT, EXCEPTION, NOTES, Answer, Begin, Task, work

CRASH, HANG, MEMORY = "crash", "hang", "memory"
FAILURES = (CRASH, HANG, MEMORY, EXCEPTION)
START_S = 120.0
"""For how long a worker may import and prepare."""
KEPT_MB = 500.0
"""A worker that still holds so much after a mutant is replaced: the next one's peak would not be its own."""
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Limits:
    """What counts as a failure."""

    hang_s: float = 10.0
    memory_mb: float = 1024.0


@dataclass(frozen=True)
class Outcome:
    """What came of a task."""

    task: Task
    verdict: str
    name: str
    seconds: float
    peak_mb: float
    detail: str
    trace: str
    data: bytes | None
    """The mutant, where it is to be kept."""

    @property
    def failed(self) -> bool:
        """Say whether it is one of what there should be none of."""
        return self.verdict in FAILURES

    @property
    def cause(self) -> str:
        """Name the place in the product that failed, which many mutants share."""
        return f"{find_kind_of_failure(self)} at {find_place(self.trace)}"


def find_kind_of_failure(outcome: Outcome) -> str:
    """Name the signal, the exception's type, or what else it was."""
    return outcome.detail.partition(":")[0] if outcome.verdict in (EXCEPTION, CRASH) else outcome.verdict


def find_place(trace: str) -> str:
    """Find the innermost line of edgeseg in a traceback of Python or of the fault handler."""
    places = re.findall(r'File "[^"]*?/(edgeseg/[^"]+)", line (\d+)(?:,)? in (\w+)', trace)
    if not places:
        return "no line of edgeseg"
    innermost = places[0] if "most recent call first" in trace else places[-1]
    return f"{innermost[0]}:{innermost[1]} {innermost[2]}"


@dataclass
class _Worker:
    folder: Path
    process: Any
    connection: Connection
    task: Task | None = None
    deadline: float = 0.0
    began: float = 0.0
    name: str = ""
    tried: set[Task] = field(default_factory=set)


class Crew:
    """A few workers that go through tasks."""

    def __init__(self, folder: Path, workers: int, limits: Limits) -> None:
        """Prepare to start workers, each in a folder below this one."""
        self._folder, self._count, self._limits = folder, workers, limits
        self._started = 0
        self._workers: list[_Worker] = []
        self._again: list[Task] = []
        self._tried: set[tuple[str, int]] = set()

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Go through the tasks; outcomes come as they are ready."""
        left = iter(tasks)
        try:
            while True:
                for place in range(self._count):
                    self._give(place, left)
                busy = [worker for worker in self._workers if worker.task is not None]
                if not busy:
                    return
                ready = wait(
                    [worker.connection for worker in busy], max(0.0, min(w.deadline for w in busy) - monotonic())
                )
                for worker in busy:
                    outcome = self._look(worker, worker.connection in ready)
                    if outcome is not None:
                        yield outcome
        finally:
            for worker in list(self._workers):
                self._end(worker)

    def _give(self, place: int, left: Iterator[Task]) -> None:
        """Give the worker at a place something to do, where it has nothing."""
        if place < len(self._workers) and self._workers[place].task is not None:
            return
        task = self._again.pop() if self._again else next(left, None)
        if task is None:
            return
        if place >= len(self._workers):
            self._workers.append(self._start())
            place = len(self._workers) - 1
        worker = self._workers[place]
        worker.task, worker.deadline, worker.began, worker.name = task, monotonic() + START_S, monotonic(), ""
        with contextlib.suppress(BrokenPipeError):  # it has died: its end is read next
            worker.connection.send(task)

    def _look(self, worker: _Worker, is_ready: bool) -> Outcome | None:
        """Take a worker's message, its end, or that it has been silent for too long."""
        assert worker.task is not None
        if is_ready:
            try:
                message = worker.connection.recv()
            except (EOFError, ConnectionResetError):
                return self._bury(worker)
            if isinstance(message, Begin):
                worker.began, worker.deadline = monotonic(), monotonic() + self._limits.hang_s
                worker.name = message.name
                return None
            return self._take(worker, message)
        return self._give_up(worker) if monotonic() > worker.deadline else None

    def _take(self, worker: _Worker, answer: Answer) -> Outcome:
        task, worker.task = worker.task, None
        assert task is not None
        if answer.verdict == BROKEN:
            raise RuntimeError(f"the mutator failed at {task.kind} {task.index}:\n{answer.trace}")
        verdict, detail, peak = answer.verdict, answer.detail, max(answer.peak_mb, answer.child_mb)
        if peak > self._limits.memory_mb and verdict != EXCEPTION:
            verdict, detail = (
                MEMORY,
                f"{peak:.0f} MiB{' in a child' if answer.child_mb == peak else ''}, then {verdict}",
            )
        data = (worker.folder / CURRENT).read_bytes() if verdict in FAILURES else None
        outcome = Outcome(task, verdict, answer.name, answer.seconds, peak, detail, answer.trace, data)
        if peak > KEPT_MB:
            self._end(worker)
        return outcome

    def _bury(self, worker: _Worker) -> Outcome:
        """Put down how a worker died."""
        worker.process.join(10.0)
        code = worker.process.exitcode
        detail = signal.Signals(-code).name if code is not None and code < 0 else f"exit status {code}"
        return self._close(worker, CRASH, detail)

    def _give_up(self, worker: _Worker) -> Outcome | None:
        """End a worker that is stuck; a mutant counts as a hang the second time, since the machine may have been."""
        task = worker.task
        assert task is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.process.pid, signal.SIGUSR1)
        sleep(0.3)
        if (task.kind, task.index) not in self._tried:
            self._tried.add((task.kind, task.index))
            self._again.append(task)
            self._end(worker)
            return None
        return self._close(worker, HANG, f"more than {self._limits.hang_s:g} s")

    def _close(self, worker: _Worker, verdict: str, detail: str) -> Outcome:
        assert worker.task is not None
        trace = (worker.folder / NOTES).read_text("utf-8", "replace")[-6000:]
        current = worker.folder / CURRENT
        outcome = Outcome(
            worker.task,
            verdict,
            worker.name,
            monotonic() - worker.began,
            0.0,
            detail,
            trace,
            current.read_bytes() if current.is_file() else b"",
        )
        self._end(worker)
        return outcome

    def _start(self) -> _Worker:
        self._started += 1
        folder = self._folder / f"worker-{self._started}"
        folder.mkdir(parents=True)
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=work, args=(theirs, folder, self._limits.memory_mb), daemon=False)
        process.start()
        theirs.close()
        return _Worker(folder, process, ours)

    def _end(self, worker: _Worker) -> None:
        """End a worker with all that it has started, which is a session of its own."""
        self._workers.remove(worker)
        worker.connection.close()
        for act in (lambda: os.killpg(worker.process.pid, signal.SIGKILL), worker.process.kill):
            with contextlib.suppress(ProcessLookupError):
                act()
        worker.process.join()
        shutil.rmtree(worker.folder, ignore_errors=True)
