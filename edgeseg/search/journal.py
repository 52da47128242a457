"""The journal of a study: a text file that only grows, with a JSON object in each line, and the locks around it.

{"version": 1, "kind": "networks", "plan": {...}, "source": "..."}      what the study searches, and on what
{"trial": 0, "choice": {...}}                                           trial 0 begins
{"trial": 0, "seconds": 61.2, "score": {...}, "sentence": ""}           trial 0 is finished
{"trial": 1, "seconds": 0.3, "score": null, "sentence": "..."}          trial 1 has failed
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Container, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from edgeseg.core.errors import RunError
from edgeseg.core.files import append_whole, explained_writes
from edgeseg.core.limits import TABLE_BYTES, read_regular
from edgeseg.core.schema import from_plain, parse_json, to_plain

VERSION = 1
# Stands in each line of Optuna's own journals, which edgeseg kept before it had this one.
_OPTUNA_KEY = "op_code"


@dataclass(frozen=True)
class Header:
    """What makes two studies the same one, so that a study can be continued and shared between processes."""

    kind: str
    plan: dict[str, Any]
    source: str
    """Fingerprint of the data or the run that the trials use."""
    version: int = VERSION


@dataclass(frozen=True)
class Beginning:
    """A trial begins."""

    trial: int
    choice: dict[str, Any]


@dataclass(frozen=True)
class Ending:
    """A trial has ended, with a score or with the reason why it has none."""

    trial: int
    seconds: float
    score: dict[str, Any] | None = None
    sentence: str = ""


@dataclass(frozen=True)
class Record:
    """A trial as it is kept."""

    number: int
    choice: dict[str, Any]
    ended: Ending | None
    running: bool
    """Whether a process works on it; without one, a trial that has not ended was interrupted."""


class Store(Protocol):
    """Where the trials of a study are kept, for all processes that work on it."""

    @property
    def name(self) -> str:
        """Name the place, for messages."""

    @property
    def shared(self) -> bool:
        """Say whether several processes may begin a trial at the same time, which `locked` then does not prevent."""

    def open(self, wanted: Header) -> Header:
        """Begin the study, or read what it was begun with."""

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes out of the study's folder within the block."""

    def read(self) -> list[Record]:
        """Read all trials, in the order of their numbers."""

    def begin(self, choice: dict[str, Any], held: ExitStack) -> int:
        """Begin a trial, which counts as running until the stack is closed; gives its number."""

    def end(self, ending: Ending) -> None:
        """Write down how a trial has ended."""

    def withdraw(self, number: int) -> None:
        """Take back a trial that was begun: another process has begun the same one."""


@dataclass(frozen=True)
class Entries:
    """The content of a journal; the position of a beginning is its trial's number."""

    header: Header | None
    begun: tuple[Beginning, ...] = ()
    ended: tuple[Ending, ...] = ()


@dataclass(frozen=True)
class Journal:
    """One journal file; the caller holds the study's lock."""

    path: Path

    def repair(self) -> None:
        """Cut off the half line that a process leaves when it is killed while it writes."""
        text = self._read_bytes()
        if text and not text.endswith(b"\n"):
            os.truncate(self.path, text.rfind(b"\n") + 1)

    def append(self, entry: Header | Beginning | Ending) -> None:
        """Write one line to the disk, whole or not at all."""
        line = json.dumps(to_plain(entry), allow_nan=False) + "\n"
        with explained_writes(self.path), self.path.open("ab", buffering=0) as file:
            append_whole(file.fileno(), line.encode("utf-8"))
            os.fsync(file.fileno())  # a trial takes minutes or hours: its result must survive a power cut

    def read(self) -> Entries:
        """Read and check all lines."""
        with readable_journal(self.path):
            # the whole file each time: a study has hundreds of lines at most, and other processes add to it
            tables = [parse_json(line) for line in self._read_bytes().decode("utf-8").splitlines()]
            if not tables:
                return Entries(None)
            _refuse_optuna(self.path, tables[0])
            header = from_plain(Header, tables[0])
            if header.version != VERSION:
                raise ValueError(f"version {header.version}")
            begun = tuple(from_plain(Beginning, table) for table in tables[1:] if "choice" in table)
            ended = tuple(from_plain(Ending, table) for table in tables[1:] if "choice" not in table)
            _check_numbers([entry.trial for entry in begun], [entry.trial for entry in ended])
        return Entries(header, begun, ended)

    def _read_bytes(self) -> bytes:
        return read_regular(self.path, TABLE_BYTES) if self.path.exists() else b""


JOURNAL, LOCK, TRIALS = "journal.log", "study.lock", "trials"


def trial_lock(folder: Path, number: int) -> Path:
    """Name the lock of a trial: held while it runs."""
    return folder / TRIALS / f"{number:04d}.lock"


@dataclass(frozen=True)
class JournalStore:
    """A study's journal in its folder, shared by the processes of one machine."""

    folder: Path
    shared: bool = False

    @property
    def name(self) -> str:
        """Name the folder."""
        return str(self.folder)

    @property
    def _journal(self) -> Journal:
        return Journal(self.folder / JOURNAL)

    def open(self, wanted: Header) -> Header:
        """Begin the journal, or read what it was begun with."""
        self._journal.repair()
        begun = self._journal.read().header
        if begun is None:
            self._journal.append(wanted)
        return begun or wanted

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock of the journal within the block."""
        return hold_lock(self.folder / LOCK)

    def read(self) -> list[Record]:
        """Read all trials."""
        entries = self._journal.read()
        endings = {entry.trial: entry for entry in entries.ended}
        return [
            Record(one.trial, one.choice, endings.get(one.trial), self._is_running(one, endings))
            for one in entries.begun
        ]

    def _is_running(self, beginning: Beginning, endings: Container[int]) -> bool:
        # not by a process id in a file: the id may belong to another process by now, or to one on another machine
        return beginning.trial not in endings and is_held(trial_lock(self.folder, beginning.trial))

    def begin(self, choice: dict[str, Any], held: ExitStack) -> int:
        """Begin a trial."""
        number = len(self._journal.read().begun)
        # the lock comes first: a trial that has begun without one counts as interrupted
        held.enter_context(hold_lock(trial_lock(self.folder, number)))
        self._journal.append(Beginning(number, choice))
        return number

    def end(self, ending: Ending) -> None:
        """Write down how a trial has ended."""
        self._journal.append(ending)

    def withdraw(self, number: int) -> None:
        """Never needed: nobody else begins a trial while the journal is locked."""
        raise NotImplementedError(number)


@contextmanager
def readable_journal(place: Path | str) -> Iterator[None]:
    """Turn the errors of a damaged journal into one sentence."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise RunError(
            f"Expected the trials of a search in {place}, got others: "
            f"{type(error).__name__}: {str(error).partition(chr(10))[0][:80]}.",
            "Put them back as they were, or begin a new search with another --out or --study.",
        ) from error


def _refuse_optuna(path: Path, first: Any) -> None:
    if isinstance(first, dict) and _OPTUNA_KEY in first:
        raise RunError(
            f"Expected a search of this version of edgeseg, got one of an earlier version in {path.parent}.",
            "Continue it with the version that began it, or begin a new search with another --out.",
        )


def _check_numbers(begun: list[int], ended: list[int]) -> None:
    if begun != list(range(len(begun))):
        raise ValueError("trials that are not numbered from 0 on")
    if len(set(ended)) < len(ended) or not set(ended) <= set(begun):
        raise ValueError("a trial that ends twice or never began")


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Wait for the lock on a file and hold it within the block; the kernel frees it however the process ends."""
    with _open_lock(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_held(path: Path) -> bool:
    """Say whether a process holds the lock on a file."""
    if not path.exists():
        return False
    with _open_lock(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _open_lock(path: Path) -> IO[bytes]:
    # O_NONBLOCK: to open a FIFO that somebody put in the lock's place would block for ever
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    return os.fdopen(handle, "r+b", buffering=0)
