"""What an interruption left is gone on with where there is something, begun anew where not, and never mistaken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeseg.compression.compress import open_folder
from edgeseg.core.errors import OutputError, RunError
from edgeseg.core.files import partial_path, refuse_taken, staged_folder
from edgeseg.core.marks import MARK, write_mark
from edgeseg.training.resume import COMPRESSION, FOLDS, INTERRUPTED_TRAINING, NOTHING, find_partial

FILES: dict[str, dict[str, Any]] = {
    NOTHING: {},
    INTERRUPTED_TRAINING: {"run.json": {"schema": 1}},
    FOLDS: {"plan.json": {"folds": 3}},
    COMPRESSION: {"plan.json": {"recipes": []}},
}


def leave(out: Path, kind: str) -> Path:
    """Lay out what an interruption leaves."""
    partial_path(out).mkdir(parents=True)
    write_mark(partial_path(out), whole=False)
    (partial_path(out) / "half").write_text("half", encoding="utf-8")
    for name, content in FILES[kind].items():
        (partial_path(out) / name).write_text(json.dumps(content), encoding="utf-8")
    return out


@pytest.mark.parametrize("kind", [INTERRUPTED_TRAINING, FOLDS, COMPRESSION])
def test_each_kind_is_known_and_gone_on_with(kind: str, tmp_path: Path) -> None:
    partial = find_partial(leave(tmp_path / "out", kind), kind)
    assert (partial.kind, partial.expect(kind)) == (kind, True)


def test_what_holds_nothing_begins_anew_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert find_partial(leave(tmp_path / "out", NOTHING), INTERRUPTED_TRAINING).expect(INTERRUPTED_TRAINING) is False
    assert "begins anew" in caplog.text


@pytest.mark.parametrize(
    ("left", "wanted"), [(INTERRUPTED_TRAINING, COMPRESSION), (FOLDS, COMPRESSION), (COMPRESSION, INTERRUPTED_TRAINING)]
)
def test_another_kind_is_kept_and_its_own_command_named(left: str, wanted: str, tmp_path: Path) -> None:
    out = leave(tmp_path / "out", left)
    with pytest.raises(RunError, match=f"an interrupted {left}") as caught:
        find_partial(out, wanted).expect(wanted)
    assert f"--out {out} --resume" in caught.value.hint
    assert (partial_path(out) / "half").is_file()


def test_no_partial_folder_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="got none"):
        find_partial(tmp_path / "out", INTERRUPTED_TRAINING)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\x00", '{"folds": NaN}', "[" * 5000])
def test_a_damaged_plan_is_told(text: str, tmp_path: Path) -> None:
    out = leave(tmp_path / "out", NOTHING)
    (partial_path(out) / "plan.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"plan\.json") as caught:
        find_partial(out, COMPRESSION)
    assert "--overwrite" in caught.value.hint


def test_a_compression_that_was_stopped_before_its_plan_begins_anew(tmp_path: Path) -> None:
    out = leave(tmp_path / "out", NOTHING)
    with pytest.raises(RunError, match="interrupted compression") as caught, open_folder(out):
        pass
    assert "--resume" in caught.value.hint
    with open_folder(out, resume=True) as folder:
        assert [path.name for path in folder.iterdir()] == [MARK]
    assert out.is_dir()


def test_beginning_anew_never_replaces_what_is_finished(tmp_path: Path) -> None:
    out = leave(tmp_path / "out", NOTHING)
    out.mkdir()
    (out / "precious").write_text("x", encoding="utf-8")
    with pytest.raises(OutputError, match="already there"), open_folder(out, resume=True):
        pass
    assert (out / "precious").is_file()
    assert (partial_path(out) / "half").is_file()


def test_two_at_work_in_one_folder_are_kept_apart(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged_folder(out, keep_partial=True) as folder:
        (folder / "mine").write_text("x", encoding="utf-8")
        for overwrite, go_on in ((True, False), (False, True)):
            with (
                pytest.raises(OutputError, match="another edgeseg"),
                staged_folder(out, overwrite, keep_partial=True, go_on=go_on),
            ):
                pass
        with pytest.raises(OutputError, match="another edgeseg"):
            refuse_taken(out, overwrite=True, what="training")
        assert (folder / "mine").is_file()
    assert (out / "mine").is_file()


HOLD = "import sys, pathlib; from edgeseg.core.marks import held_folder as h; h(pathlib.Path(sys.argv[1])).__enter__()"


def test_who_ended_holds_nothing(tmp_path: Path) -> None:
    partial = partial_path(leave(tmp_path / "out", NOTHING))
    subprocess.run([sys.executable, "-c", HOLD, str(partial)], check=True, timeout=60)
    with staged_folder(tmp_path / "out", overwrite=True) as folder:
        assert [path.name for path in folder.iterdir()] == [MARK]
