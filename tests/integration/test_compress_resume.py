"""A compression that is interrupted goes on with what was finished; nothing half-made gets a final name."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest

from edgeseg.core.errors import OutputError, RunError
from edgeseg.core.files import partial_path
from edgeseg.core.modelfile import read_model, write_model
from tests.commands import full_disk, read_files

if TYPE_CHECKING:
    from edgeseg.compression.compress import Outcome

pytestmark = pytest.mark.integration

TIMED = ("latency_ms", "gzip_bytes", "bytes")
"""Of a variant, what another run of the same command may give otherwise: times, and the card that tells them."""


@pytest.fixture
def interrupted(trained_run: Path, compressed: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """Lay out a compression that was killed when all but its last file, float16, were finished."""
    from edgeseg.compression.compress import describe_plan
    from edgeseg.compression.recipe import load_recipe
    from edgeseg.training.resume import begin_plan

    out = tmp_path / "small"
    partial = partial_path(out)
    partial.mkdir()
    begin_plan(partial, describe_plan(trained_run, [load_recipe(name) for name in ("int8-ptq", "float16")], None))
    shutil.copy(compressed[0] / "int8-ptq.tflite", partial)
    return out


def compress(run: Path, out: Path, *options: str) -> list[str]:
    recipes = ("--recipe", "float16,int8-ptq", "--max-drop", "0.05")
    return [sys.executable, "-m", "edgeseg", "compress", str(run), "--out", str(out), *recipes, *options]


def wait_for_file(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a file is there, or fail after two minutes."""
    deadline = monotonic() + 120
    while not path.is_file():
        assert process.poll() is None, "the compression ended before it could be killed"
        assert monotonic() < deadline, "the compression never got that far"
        sleep(0.02)


def describe_variants(folder: Path) -> dict[str, Any]:
    report = json.loads((folder / "compress.json").read_text(encoding="utf-8"))
    return {
        variant["name"]: {key: value for key, value in variant.items() if key not in TIMED}
        for variant in report["variants"]
    }


def test_killed_compression_goes_on_with_what_was_finished(
    trained_run: Path, compressed: tuple[Path, Outcome], tmp_path: Path
) -> None:
    out, partial = tmp_path / "small", tmp_path / "small.partial"
    parent = read_files(trained_run)
    process = subprocess.Popen(compress(trained_run, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_file(partial / "float16.tflite", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    assert not (partial / "int8-ptq.tflite").exists()
    finished, begun = read_model(partial / "float16.tflite"), (partial / "recipes" / "float16.toml").stat()

    subprocess.run(compress(trained_run, out, "--resume"), check=True, capture_output=True)
    again = (out / "recipes" / "float16.toml").stat()
    assert (again.st_ino, again.st_mtime_ns) == (begun.st_ino, begun.st_mtime_ns)
    assert read_model(out / "float16.tflite").flatbuffer == finished.flatbuffer
    uninterrupted = describe_variants(compressed[0])
    assert describe_variants(out) == {name: uninterrupted[name] for name in ("float32", "float16", "int8-ptq")}
    assert not partial.exists()
    assert read_files(trained_run) == parent


def test_full_disk_is_told_and_leaves_nothing_half_made(
    trained_run: Path, interrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeseg.compression.compress import compress_run, open_folder
    from edgeseg.compression.gate import Gate
    from edgeseg.compression.recipe import load_recipe

    def write_on_full_disk(*arguments: Any) -> None:
        with full_disk():
            write_model(*arguments)

    before = read_files(trained_run)
    monkeypatch.setattr("edgeseg.compression.compress.write_model", write_on_full_disk)
    recipes = [load_recipe(name) for name in ("int8-ptq", "float16")]
    with (
        pytest.raises(OutputError, match="File too large") as caught,
        open_folder(interrupted, resume=True) as folder,
    ):
        compress_run(trained_run, folder, recipes, Gate(max_drop=0.05))
    assert "disk" in caught.value.hint
    assert not interrupted.exists()
    left = {str(path.relative_to(partial_path(interrupted))) for path in read_files(partial_path(interrupted))}
    assert left == {".edgeseg", "plan.json", "float32.tflite", "int8-ptq.tflite", "recipes/float16.toml"}
    assert read_files(trained_run) == before


def test_changed_recipes_and_runs_are_refused(trained_run: Path, interrupted: Path, tmp_path: Path) -> None:
    from edgeseg.compression.compress import describe_plan
    from edgeseg.compression.recipe import load_recipe
    from edgeseg.training.resume import begin_plan

    other = tmp_path / "other"
    shutil.copytree(trained_run, other)
    (other / "weights.h5").write_bytes(b"trained again")
    recipes = [load_recipe(name) for name in ("int8-ptq", "float16")]
    for run, asked, changed in ((trained_run, recipes[:1], "recipes"), (other, recipes, "run")):
        with pytest.raises(RunError, match=f"same {changed} .*interrupted compression"):
            begin_plan(partial_path(interrupted), describe_plan(run, asked, None))
    begin_plan(partial_path(interrupted), describe_plan(trained_run, recipes, None))


def test_beginning_again_and_going_on_from_nothing_are_refused(interrupted: Path, tmp_path: Path) -> None:
    from edgeseg.compression.compress import open_folder

    with pytest.raises(RunError, match="interrupted compression") as caught, open_folder(interrupted):
        pass
    assert "--resume" in caught.value.hint
    with pytest.raises(RunError, match="got none"), open_folder(tmp_path / "none", resume=True):
        pass
    assert (partial_path(interrupted) / "int8-ptq.tflite").is_file()


def test_run_whose_float_file_belongs_to_another_training_is_refused(trained_run: Path) -> None:
    from edgeseg.compression.context import check_card
    from edgeseg.core.spec import InputSpec
    from edgeseg.training.run import read_run

    record = read_run(trained_run)
    check_card(trained_run, record)
    with pytest.raises(RunError, match="calibration"):
        check_card(trained_run, dataclasses.replace(record, input=InputSpec(64, 64, resize="stretch")))
