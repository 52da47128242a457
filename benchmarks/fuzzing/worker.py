"""A process that feeds mutants to the product, one after the other, and says what came of each."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter

from fuzzing.doors import Refusal
from fuzzing.kind import Kind
from fuzzing.kinds import make_kind

MIB = 2**20
ADDRESS_BYTES = 6 * 2**30
"""No more address space than this: what asks for more fails at once instead of taking the machine with it."""
FILE_BYTES = 2**30
ACCEPTED, REFUSED, EXCEPTION, BROKEN = "accepted", "refused", "exception", "broken"
"""What can come of a mutant that the process survives; broken is the fuzzer itself."""
LOOK_S = 0.02
CACHES = ("XDG_CACHE_HOME", "CACHE_DIRECTORY", "STATE_DIRECTORY")
"""Where edgeseg may remember what it has tried; nothing of a run shall stay there."""
CURRENT, NOTES = "current", "notes"
"""Files in a worker's folder: the mutant it is at, and what native code and the fault handler wrote meanwhile."""


@dataclass(frozen=True)
class Task:
    """One mutant, by its number, or the bytes of a kept one."""

    kind: str
    index: int
    seed: int
    data: bytes | None = None


@dataclass(frozen=True)
class Answer:
    """What came of a mutant."""

    verdict: str
    name: str
    """What a hand-made one is called."""
    seconds: float
    peak_mb: float
    child_mb: float
    """The most that any process held which was started meanwhile."""
    detail: str = ""
    trace: str = ""


class PeakWatch:
    """Looks at this process's memory while a mutant is fed, and notes where the code stands when it is too much."""

    def __init__(self, limit_mb: float) -> None:
        """Start looking, on a thread."""
        self._limit_pages = limit_mb * MIB / resource.getpagesize()
        self._thread = threading.get_ident()
        self.is_on = False
        self.trace = ""
        threading.Thread(target=self._look, daemon=True).start()

    def begin(self) -> None:
        """Forget the last mutant."""
        self.trace, self.is_on = "", True

    def end(self) -> str:
        """Stop looking and give where it was too much."""
        self.is_on = False
        return self.trace

    def _look(self) -> None:
        with open("/proc/self/statm", "rb", 0) as file:  # noqa: PTH123 - unbuffered
            while True:
                threading.Event().wait(LOOK_S)
                if not self.is_on or self.trace:
                    continue
                file.seek(0)
                if int(file.read().split()[1]) > self._limit_pages:
                    self.trace = "".join(traceback.format_stack(sys._current_frames()[self._thread]))


@dataclass(frozen=True)
class Begin:
    """The mutant is made and kept: from here on its time runs."""

    name: str


def work(connection: Connection, folder: Path, memory_mb: float) -> None:
    """Take tasks until there are no more."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    notes = _redirect(folder / NOTES)
    faulthandler.enable(notes)
    faulthandler.register(signal.SIGUSR1, notes)
    os.environ |= {"COLUMNS": "200", **{name: str(folder / "cache") for name in CACHES}}
    kinds: dict[str, Kind] = {}
    watch = PeakWatch(memory_mb)
    while (task := _receive(connection)) is not None:
        try:
            if task.kind not in kinds:
                kinds[task.kind] = make_kind(task.kind, folder)
            made = ("", task.data) if task.data is not None else kinds[task.kind].make(task.seed, task.index)
        except Exception:  # noqa: BLE001 - told to the parent, which ends
            connection.send(Answer(BROKEN, "", 0.0, 0.0, 0.0, "the mutator", traceback.format_exc()))
            continue
        (folder / CURRENT).write_bytes(made[1])
        os.ftruncate(notes, 0)
        connection.send(Begin(made[0]))
        connection.send(_try(kinds[task.kind], *made, watch))


def _receive(connection: Connection) -> Task | None:
    try:
        task: Task | None = connection.recv()
    except EOFError:
        return None
    return task


def _redirect(path: Path) -> int:
    """Send what is printed into nothing, and what goes to stderr into a file."""
    notes = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.dup2(notes, 2)
    return 2


def _try(kind: Kind, name: str, data: bytes, watch: PeakWatch) -> Answer:
    children = _read_child_peak()
    _reset_peak()
    watch.begin()
    start = perf_counter()
    verdict, detail, trace = _feed(kind, data)
    seconds, grown, place = perf_counter() - start, _read_child_peak(), watch.end()
    return Answer(verdict, name, seconds, _read_peak(), grown if grown > children else 0.0, detail, trace or place)


def _feed(kind: Kind, data: bytes) -> tuple[str, str, str]:
    from edgeseg.core.errors import EdgesegError

    try:
        kind.feed(data)
    except (EdgesegError, Refusal) as error:
        return REFUSED, type(error).__name__, ""
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        return EXCEPTION, f"{type(error).__name__}: {error}"[:500], "".join(traceback.format_exception(error))[-6000:]
    return ACCEPTED, "", ""


def _reset_peak() -> None:
    """Let the kernel forget the most that this process has held."""
    Path("/proc/self/clear_refs").write_bytes(b"5")


def _read_peak() -> float:
    """Read the most that this process held since, in MiB."""
    lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def _read_child_peak() -> float:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
