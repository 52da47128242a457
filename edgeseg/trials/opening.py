"""Open a folder of trials: strangers and other plans are refused, what a killed process left is mended."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from edgeseg.core.errors import OutputError, RunError
from edgeseg.core.limits import TABLE_BYTES, read_regular
from edgeseg.trials.task import Direction

JOURNAL, LOCK, TRIALS = "journal.log", "study.lock", "trials"
STUDY = "edgeseg"
_OWN_LOCK = f"{JOURNAL}.lock"
"""Optuna's own lock, which a process that ended may have left; what counts is LOCK, which the system opens then."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def refuse_strangers(folder: Path) -> None:
    """Refuse a folder that holds something else."""
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found - {LOCK, TRIALS, _OWN_LOCK} and JOURNAL not in found:
        raise OutputError(f"Expected a study or an empty folder at {folder}, got other files.", "Name another --out.")


def mend_journal(path: Path) -> None:
    """Take away what a process that was killed while it wrote has left: half a line, and Optuna's own lock."""
    path.with_name(_OWN_LOCK).unlink(missing_ok=True)
    if not path.exists():
        return
    text = read_regular(path, TABLE_BYTES)
    if not text.endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)


def open_study(path: Path, directions: tuple[Direction, ...]) -> optuna.Study:
    """Open Optuna's study, or begin it; a journal with lines of another hand is refused."""
    with readable_journal(path):
        storage = JournalStorage(JournalFileBackend(str(path)))
        study = optuna.create_study(storage=storage, study_name=STUDY, directions=directions, load_if_exists=True)
        if [direction.name.lower() for direction in study.directions] != list(directions):
            raise ValueError("a search for something else")
    return study


@contextmanager
def readable_journal(path: Path) -> Iterator[None]:
    """Turn what reading a damaged journal ends with into a sentence."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError) as error:
        raise RunError(
            f"Expected the journal of a search in {path}, got a file with lines that are none: "
            f"{type(error).__name__}: {str(error).partition(chr(10))[0][:80]}.",
            "Put back the file as it was, or begin a new search with another --out.",
        ) from error


def refuse_other_plan(folder: Path, begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a plan that is not the one that the folder was begun with."""
    differing = next((name for name in wanted if wanted[name] != begun.get(name)), None)
    if differing is not None:
        raise RunError(
            f"Expected the search that {folder} was begun with, {differing} {begun.get(differing)}, "
            f"got {wanted[differing]}.",
            "Repeat the options it was begun with (--trials may grow), or name another --out.",
        )
