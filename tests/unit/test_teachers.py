"""Who teaches a student, and whether the teachers have been trained on the student's test cases."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeseg.core.errors import ModelFileError, RunError
from edgeseg.core.files import write_rows
from edgeseg.model.keras import tf
from edgeseg.training import teachers
from edgeseg.training.distillation import average_teachers
from edgeseg.training.run import read_run
from edgeseg.training.teachers import choose_teachers, count_seen, fingerprint_teacher
from tests.commands import assert_says
from tests.ensembles import change_member, make_folds


def write_split(run: Path, train: str, test: str) -> None:
    rows = [*((stem, stem, "train") for stem in train), *((stem, stem, "test") for stem in test)]
    write_rows(run / "split.csv", ("stem", "group", "part"), rows)


def make_student(test: str, data: str = "0" * 64) -> tuple[set[str], str]:
    return set(test), data


@pytest.fixture
def folds(tmp_path: Path) -> Path:
    """A cross-validation of six cases, two in each fold: ab, cd and ef are tested in turn."""
    folder = make_folds(tmp_path / "cv")
    for number, (train, test) in enumerate((("ef", "ab"), ("ab", "cd"), ("cd", "ef")), start=1):
        write_split(folder / f"fold-{number}", train, test)
    return folder


def test_of_a_cross_validation_those_teach_that_have_not_been_trained_on_the_test_cases(folds: Path) -> None:
    chosen = choose_teachers(folds, *make_student("ab"))
    assert [run.name for run in chosen.runs] == ["fold-1", "fold-3"]
    assert "2 of the 3 networks" in chosen.notices[0]
    everybody = choose_teachers(folds, *make_student("xy"))
    assert (len(everybody.runs), everybody.notices, everybody.name) == (3, (), "cv (3 networks)")


def test_all_teach_with_a_warning_where_each_knows_a_test_case(folds: Path) -> None:
    chosen = choose_teachers(folds, *make_student("ace"))
    assert (len(chosen.runs), chosen.ensemble) == (3, True)
    assert_says(chosen.notices[0], "flatter", "1 test cases")


def test_a_run_of_other_data_is_told_by_the_names_of_its_cases(folds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = SimpleNamespace(name="big", data_fingerprint="1" * 64)
    monkeypatch.setattr(teachers, "read_run", lambda _: record)
    assert choose_teachers(folds / "fold-1", *make_student("ab")).notices == ()
    assert_says(choose_teachers(folds / "fold-2", *make_student("ab")).notices[0], "big", "2 test cases")
    # the same data are looked after by how they were divided
    record.data_fingerprint = "0" * 64
    assert choose_teachers(folds / "fold-2", *make_student("ab")).notices == ()


def test_runs_of_old_versions_do_not_say_what_they_saw(folds: Path) -> None:
    (folds / "fold-1" / "split.csv").unlink()
    assert count_seen(folds / "fold-1", {"e"}) == 0


@pytest.mark.parametrize("text", ["stem\na\n", "", "stem,part,group\n\0\n", "stem,part\na,train,b,c\n", '"'])
def test_a_damaged_split_is_one_sentence_or_no_case(folds: Path, text: str) -> None:
    (folds / "fold-1" / "split.csv").write_text(text, encoding="utf-8")
    try:
        assert count_seen(folds / "fold-1", {"x"}) == 0
    except RunError as error:
        assert_says(error, "split.csv")


def test_networks_that_do_not_belong_together_do_not_teach(folds: Path) -> None:
    change_member(folds, 2, data="2" * 64)
    with pytest.raises(ModelFileError, match="same data"):
        choose_teachers(folds, *make_student("ab"))


def test_a_cross_validation_is_no_run(folds: Path) -> None:
    with pytest.raises(RunError) as caught:
        read_run(folds)
    assert_says(caught.value, "cross-validation", "fold-1")


def test_teachers_are_averaged() -> None:
    def teach(mask: float, finding: float | None) -> Any:
        drawn = tf.fill((1, 2, 2, 1), mask)
        return lambda _: drawn if finding is None else (drawn, tf.fill((1, 1, 1, 2), finding))

    masks, findings = average_teachers([teach(0.2, 0.0), teach(0.6, 1.0)])(None)
    np.testing.assert_allclose(masks, 0.4, atol=1e-6)
    np.testing.assert_allclose(findings, 0.5)
    # what is unknown to all stays so
    assert float(average_teachers([teach(0.2, -1.0)] * 3)(None)[1][0, 0, 0, 0]) == -1.0
    np.testing.assert_allclose(average_teachers([teach(0.2, None), teach(0.6, None)])(None), 0.4, atol=1e-6)
    # those that know a finding teach it
    for unknown in (None, -1.0):
        masks, findings = average_teachers([teach(0.2, unknown), teach(0.6, 0.25)])(None)
        np.testing.assert_allclose(masks, 0.4, atol=1e-6)
        np.testing.assert_allclose(findings, 0.25)


def test_an_interrupted_compression_knows_its_teachers_by_their_weights(folds: Path) -> None:
    for number in (1, 2, 3):
        for name in ("run.json", "weights.h5"):
            (folds / f"fold-{number}" / name).write_bytes(bytes([number]))
    before = fingerprint_teacher(folds)
    assert fingerprint_teacher(folds / "fold-1") != before
    (folds / "fold-3" / "weights.h5").write_bytes(b"other")
    assert fingerprint_teacher(folds) != before
