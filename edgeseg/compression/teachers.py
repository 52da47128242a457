"""Teachers to distil from: one run, or the networks of a cross-validation together; and which of them know too much.

A teacher that was trained on the student's test cases passes on what it knows of them, so that the student's test
figures flatter. Of a cross-validation only networks teach that have not been trained on them, where there are any.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from edgeseg.compression.context import CompressContext
from edgeseg.core.errors import RunError
from edgeseg.core.files import read_rows
from edgeseg.core.modelfile import find_members, is_ensemble
from edgeseg.inference.ensemble import read_ensemble
from edgeseg.training.run import SPLIT, fingerprint_run, read_run


@dataclass(frozen=True)
class Teachers:
    """The runs that teach, what they are called together, and what must be known of them."""

    runs: tuple[Path, ...]
    name: str
    notices: tuple[str, ...] = ()
    ensemble: bool = False


def choose_teachers(teacher: Path, context: CompressContext) -> Teachers:
    """Choose who teaches a student.

    Args:
        teacher: A finished run, or the folder of a cross-validation.
        context: The student, opened.

    Raises:
        RunError: A run is damaged or not finished.
        ModelFileError: The networks of the cross-validation do not belong together.
    """
    tests = frozenset(case.stem for case in context.data.split.test)
    if not is_ensemble(teacher):
        record = read_run(teacher)
        # the same data must be divided alike, which `check_teacher` looks after
        other = record.data_fingerprint != context.record.data_fingerprint
        return Teachers((teacher,), record.name, _warn(record.name, count_seen(teacher, tests)) if other else ())
    ensemble = read_ensemble(teacher)
    runs, name = tuple(path.parent for path in find_members(teacher)), ensemble.card.name
    seen = {run: count_seen(run, tests) for run in runs}
    unseeing = tuple(run for run, cases in seen.items() if not cases)
    if not unseeing:
        return Teachers(runs, name, _warn(name, max(seen.values())), ensemble=True)
    left_out = f"{len(unseeing)} of the {len(runs)} networks of {name} teach: the others were trained on test cases."
    return Teachers(unseeing, name, (left_out,) if len(unseeing) < len(runs) else (), ensemble=True)


def _warn(name: str, seen: int) -> tuple[str, ...]:
    if not seen:
        return ()
    return (
        f"The teacher {name} was trained on cases with the names of {seen} test cases: the figures of files that it "
        "taught flatter, so judge them on other data.",
    )


def count_seen(run: Path, stems: Set[str]) -> int:
    """Count the cases of those names that a run was trained on; runs of old versions do not say."""
    path = run / SPLIT
    if not path.is_file():
        return 0
    try:
        return len(stems & {row["stem"] for row in read_rows(path) if row["part"] == "train"})
    except (KeyError, TypeError, AttributeError, csv.Error) as error:
        raise RunError(
            f"Expected the columns stem and part in {path}, got a damaged table.",
            "Copy the run again, or train the teacher again.",
        ) from error


def fingerprint_teacher(teacher: Path) -> str:
    """Hash what a teacher learned; of a cross-validation all its runs."""
    if not is_ensemble(teacher):
        return fingerprint_run(teacher)
    members = "".join(fingerprint_run(path.parent) for path in find_members(teacher))
    return hashlib.sha256(members.encode("ascii")).hexdigest()
