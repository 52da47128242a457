"""Teachers to learn from: one run, or the networks of a cross-validation together; and which of them know too much.

A teacher that was trained on the student's test cases passes on what it knows of them, so that the student's test
figures flatter. Of a cross-validation only networks teach that have not been trained on them, where there are any.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import RunError, TrainingError
from edgeseg.core.files import read_rows
from edgeseg.core.modelfile import find_members, is_ensemble
from edgeseg.inference.ensemble import read_ensemble
from edgeseg.training.distillation import RunTeacher, check_teacher, open_teacher
from edgeseg.training.run import SPLIT, RunRecord, TeacherRecord, fingerprint_run, read_run


@dataclass(frozen=True)
class Teachers:
    """The runs that teach, what they are called together, and what must be known of them."""

    place: Path
    runs: tuple[Path, ...]
    name: str
    notices: tuple[str, ...] = ()
    ensemble: bool = False
    leaking: bool = False
    """Whether all networks of a cross-validation on the student's data were trained on its test cases."""

    def describe(self, out: Path) -> TeacherRecord:
        """Describe the teachers for a record in the folder `out`."""
        return TeacherRecord(
            os.path.relpath(self.place, out), self.name, len(self.runs), fingerprint_teacher(self.place)
        )


def choose_teachers(teacher: Path, tests: Set[str], data_fingerprint: str) -> Teachers:
    """Choose who teaches a student.

    Args:
        teacher: A finished run, or the folder of a cross-validation.
        tests: The names of the student's test cases.
        data_fingerprint: Of the student's data.

    Raises:
        RunError: A run is damaged or not finished.
        ModelFileError: The networks of the cross-validation do not belong together.
    """
    if not is_ensemble(teacher):
        record = read_run(teacher)
        # the same data must be divided alike, which `check_teacher` looks after
        other = record.data_fingerprint != data_fingerprint
        return Teachers(
            teacher, (teacher,), record.name, _warn(record.name, count_seen(teacher, tests)) if other else ()
        )
    ensemble = read_ensemble(teacher)
    runs, name = tuple(path.parent for path in find_members(teacher)), ensemble.card.name
    seen = {run: count_seen(run, tests) for run in runs}
    unseeing = tuple(run for run, cases in seen.items() if not cases)
    if not unseeing:
        same = ensemble.card.provenance.data_fingerprint == data_fingerprint
        return Teachers(teacher, runs, name, _warn(name, max(seen.values())), ensemble=True, leaking=same)
    left_out = f"{len(unseeing)} of the {len(runs)} networks of {name} teach: the others were trained on test cases."
    return Teachers(teacher, unseeing, name, (left_out,) if len(unseeing) < len(runs) else (), ensemble=True)


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


def find_teachers(places: Sequence[Path], student: RunRecord, tests: Set[str]) -> tuple[Teachers, ...]:
    """Find who teaches a training, and refuse who does not fit or would leak test cases, before any network is read.

    Args:
        places: Finished runs, or folders of cross-validations.
        student: The training's record.
        tests: The names of its test cases.
    """
    if places and student.options.strategy != "one":
        raise TrainingError(
            f"Expected one device for a training with a teacher, got --strategy {student.options.strategy}.",
            "Train with --strategy one, or without --teacher.",
        )
    found = tuple(choose_teachers(place, tests, student.data_fingerprint) for place in places)
    for teachers in found:
        if teachers.leaking:
            raise TrainingError(
                f"Expected a network in {teachers.place} that was not trained on this training's test cases, got "
                f"{len(teachers.runs)} that all were.",
                "Divide the cases as the cross-validation did: the same --folds, --seed and groups.csv.",
            )
        for run in teachers.runs:
            check_teacher(run, read_run(run), student, divided_alike=not teachers.ensemble)
    return found


def find_same_teachers(record: RunRecord, out: Path, tests: Set[str], place: Path | None) -> tuple[Teachers, ...]:
    """Find the teachers of an interrupted training again, and refuse where they have changed.

    Args:
        record: Of the training.
        out: The run folder it was to make.
        tests: The names of its test cases.
        place: Where its teacher is now; None takes all from where they were.
    """
    places = [Path(os.path.normpath(out / one.folder)) for one in record.teachers]
    if place is not None and len(record.teachers) != 1:
        raise RunError(
            f"Expected {'no teacher' if not places else f'{len(places)} teachers'} for {out}, as it was begun, got "
            f"{place}.",
            "Leave out --teacher, or begin again with --overwrite.",
        )
    found = find_teachers([place] if place is not None else places, record, tests)
    for teachers, begun in zip(found, record.teachers, strict=True):
        refuse_other_teacher(out, teachers.place, begun.fingerprint)
    return found


def refuse_other_teacher(out: Path, place: Path, begun: str) -> None:
    """Refuse a teacher that is no longer the one that a training was begun with.

    Args:
        out: What was to be made.
        place: The teacher now.
        begun: The fingerprint it had.
    """
    if not is_ensemble(place):
        # one that is missing, or not finished, says so
        read_run(place)
    if fingerprint_teacher(place) != begun:
        raise RunError(
            f"Expected the teacher that {out} was begun with, got another one in {place}.",
            "Put that one back, or begin again with --overwrite.",
        )


def open_teachers(found: Sequence[Teachers], student: RunRecord) -> list[RunTeacher]:
    """Read the networks of all teachers."""
    return [
        open_teacher(run, student, divided_alike=not teachers.ensemble) for teachers in found for run in teachers.runs
    ]
