"""Open a folder of trials: strangers and other plans are refused, what a killed process left is mended."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from edgeseg.core.errors import OutputError, RunError
from edgeseg.trials.task import Direction

JOURNAL, LOCK, TRIALS = "journal.log", "study.lock", "trials"

optuna.logging.set_verbosity(optuna.logging.WARNING)


def refuse_strangers(folder: Path) -> None:
    """Refuse a folder that holds something else."""
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found - {LOCK, TRIALS} and JOURNAL not in found:
        raise OutputError(f"Expected a study or an empty folder at {folder}, got other files.", "Name another --out.")


def mend_journal(path: Path) -> None:
    """Take away what a process that was killed while it wrote has left: half a line, and Optuna's own lock."""
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    if path.is_file() and not (text := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)


def open_study(path: Path, directions: tuple[Direction, ...]) -> optuna.Study:
    """Open Optuna's study, or begin it."""
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.create_study(storage=storage, study_name="edgeseg", directions=directions, load_if_exists=True)


def refuse_other_plan(folder: Path, begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a plan that is not the one that the folder was begun with."""
    differing = next((name for name in wanted if wanted[name] != begun.get(name)), None)
    if differing is not None:
        raise RunError(
            f"Expected the search that {folder} was begun with, {differing} {begun.get(differing)}, "
            f"got {wanted[differing]}.",
            "Repeat the options it was begun with (--trials may grow), or name another --out.",
        )
