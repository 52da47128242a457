"""A compression that is interrupted goes on with what was finished; nothing half-made gets a final name."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeseg.core.errors import OutputError, RunError
from edgeseg.core.files import partial_path

if TYPE_CHECKING:
    from edgeseg.compress.plan import Outcome

pytestmark = pytest.mark.integration


@pytest.fixture
def interrupted(trained_run: Path, compressed: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """Lay out a compression that was killed when all but its last file, float16, were finished."""
    from edgeseg.compress.recipe import load_recipe
    from edgeseg.compress.resume import begin_plan

    out = tmp_path / "small"
    partial = partial_path(out)
    partial.mkdir()
    begin_plan(partial, trained_run, [load_recipe(name) for name in ("int8-ptq", "float16")], None)
    shutil.copy(compressed[0] / "int8-ptq.tflite", partial)
    return out


def read_files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_finished_files_are_kept_and_the_rest_is_made(trained_run: Path, interrupted: Path) -> None:
    from edgeseg.compress.gate import Gate
    from edgeseg.compress.plan import compress_run
    from edgeseg.compress.recipe import load_recipe
    from edgeseg.compress.resume import open_folder

    recipes = [load_recipe(name) for name in ("int8-ptq", "float16")]
    with open_folder(interrupted, resume=True) as folder:
        outcome = compress_run(trained_run, folder, recipes, Gate(max_drop=0.05))
        made = {path.stem for path in (folder / "recipes").iterdir()}
    assert made == {"float16"}
    assert [variant.name for variant in outcome.report.variants] == ["float32", "int8-ptq", "float16"]
    assert (interrupted / "float16.tflite").is_file()
    assert not partial_path(interrupted).exists()


def test_full_disk_is_told_and_leaves_nothing_half_made(
    trained_run: Path, interrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeseg.compress.gate import Gate
    from edgeseg.compress.plan import compress_run
    from edgeseg.compress.recipe import load_recipe
    from edgeseg.compress.resume import open_folder

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = read_files(trained_run)
    monkeypatch.setattr(os, "fsync", refuse)
    recipes = [load_recipe(name) for name in ("int8-ptq", "float16")]
    with (
        pytest.raises(OutputError, match="No space left on device"),
        open_folder(interrupted, resume=True) as folder,
    ):
        compress_run(trained_run, folder, recipes, Gate(max_drop=0.05))
    assert not interrupted.exists()
    assert {path.name for path in partial_path(interrupted).iterdir()} == {"plan.json", "int8-ptq.tflite"}
    assert read_files(trained_run) == before


def test_changed_recipes_and_runs_are_refused(trained_run: Path, interrupted: Path, tmp_path: Path) -> None:
    from edgeseg.compress.recipe import load_recipe
    from edgeseg.compress.resume import begin_plan

    other = tmp_path / "other"
    shutil.copytree(trained_run, other)
    (other / "weights.h5").write_bytes(b"trained again")
    recipes = [load_recipe(name) for name in ("int8-ptq", "float16")]
    for run, asked, changed in ((trained_run, recipes[:1], "recipes"), (other, recipes, "run")):
        with pytest.raises(RunError, match=f"Expected the same {changed} as the interrupted compression"):
            begin_plan(partial_path(interrupted), run, asked, None)
    begin_plan(partial_path(interrupted), trained_run, recipes, None)


def test_beginning_again_and_going_on_from_nothing_are_refused(interrupted: Path, tmp_path: Path) -> None:
    from edgeseg.compress.resume import open_folder

    with pytest.raises(RunError, match="Expected no interrupted compression") as caught, open_folder(interrupted):
        pass
    assert "Continue it with --resume" in caught.value.hint
    with pytest.raises(RunError, match="got none"), open_folder(tmp_path / "none", resume=True):
        pass
    assert (partial_path(interrupted) / "int8-ptq.tflite").is_file()


def test_run_whose_float_file_belongs_to_another_training_is_refused(trained_run: Path) -> None:
    from edgeseg.compress.workshop import check_card
    from edgeseg.core.spec import InputSpec
    from edgeseg.train.run import read_run

    record = read_run(trained_run)
    check_card(trained_run, record)
    with pytest.raises(RunError, match="calibration images would not match"):
        check_card(trained_run, dataclasses.replace(record, input=InputSpec(64, 64, resize="stretch")))
