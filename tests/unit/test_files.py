"""Results appear whole or not at all, and an interrupted overwrite leaves the old one."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from edgeseg.core.errors import OutputError, RunError
from edgeseg.core.files import (
    explained_writes,
    partial_path,
    refuse_taken,
    staged_folder,
    write_bytes,
    write_json,
)


def interrupt_while_writing(path: Path) -> None:
    path.write_text("half", encoding="utf-8")
    raise KeyboardInterrupt


def test_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged_folder(out) as folder:
        (folder / "a.txt").write_text("a", encoding="utf-8")
        assert not out.exists()
    assert (out / "a.txt").read_text(encoding="utf-8") == "a"
    assert not partial_path(out).exists()


def test_existing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("old", encoding="utf-8")
    with pytest.raises(OutputError, match="already there") as caught, staged_folder(tmp_path):
        pytest.fail("must not get here")
    assert "--overwrite" in caught.value.hint


def test_a_folder_that_is_taken_is_refused_before_any_work(tmp_path: Path) -> None:
    refuse_taken(tmp_path / "new", overwrite=False, what="training")
    (tmp_path / "old.txt").write_text("old", encoding="utf-8")
    with pytest.raises(OutputError, match="already there"):
        refuse_taken(tmp_path, overwrite=False, what="training")
    refuse_taken(tmp_path, overwrite=True, what="training")


def test_interrupted_result_beside_an_old_one_goes_on_and_replaces_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "old").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), staged_folder(out, overwrite=True, keep_partial=True) as folder:
        interrupt_while_writing(folder / "new.txt")
    with pytest.raises(RunError) as begun:
        refuse_taken(out, overwrite=False, what="training")
    with pytest.raises(OutputError) as continued, staged_folder(out, keep_partial=True, go_on=True):
        pytest.fail("must not get here")
    assert all("with --resume --overwrite" in caught.value.hint for caught in (begun, continued))
    with staged_folder(out, overwrite=True, keep_partial=True, go_on=True):
        pass
    assert [path.name for path in out.iterdir()] == ["new.txt"]


def test_interrupted_overwrite_leaves_the_old_folder_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old.txt").write_text("old", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt), staged_folder(out, overwrite=True) as folder:
        interrupt_while_writing(folder / "new.txt")
    assert [p.name for p in out.iterdir()] == ["old.txt"]
    assert not partial_path(out).exists()


def test_finished_overwrite_replaces_everything(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("old", "new"):
        with staged_folder(out, overwrite=True) as folder:
            (folder / name).touch()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert [p.name for p in out.iterdir()] == ["new"]


def test_interrupted_training_can_be_kept(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), staged_folder(out, keep_partial=True) as folder:
        interrupt_while_writing(folder / "weights")
    assert (partial_path(out) / "weights").is_file()
    assert not out.exists()


def test_the_folder_one_works_in_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "precious").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="folder you work in"), staged_folder(tmp_path, overwrite=True):
        pytest.fail("must not get here")


def test_unwritable_place_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"failed: (Not a directory|File exists)"):
        write_bytes(tmp_path / "file" / "below.txt", b"x")


def test_full_disk_is_a_sentence() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with (
        pytest.raises(OutputError, match="No space left"),
        explained_writes(full),
        full.open("wb", buffering=0) as file,
    ):
        file.write(b"x")


def test_what_could_not_be_read_is_not_told_as_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), staged_folder(tmp_path / "out") as folder:
        (folder / "copy").write_bytes((tmp_path / "none").read_bytes())
    with pytest.raises(OSError, match="truncated file"), staged_folder(tmp_path / "out"):
        raise OSError("truncated file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EFBIG, "File too large"),
        OSError(errno.EACCES, "Permission denied", "out.partial/weights.h5"),
        OSError(None, "Out of range", "out.partial/checkpoint"),
    ],
)
def test_what_could_not_be_written_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match=r"Writing out\.partial failed") as caught, staged_folder(Path("out")):
        raise error
    assert caught.value.__cause__ is error


def test_json_never_holds_what_others_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    write_json(tmp_path / "a.json", {"x": [1, 2]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"x": [1, 2]}
