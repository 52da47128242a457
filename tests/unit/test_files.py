"""Results appear whole or not at all, and an interrupted overwrite leaves the old one."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeseg.core.errors import OutputError, RunError
from edgeseg.core.files import (
    explained_writes,
    partial_path,
    read_rows,
    refuse_existing,
    refuse_taken,
    staged_folder,
    write_bytes,
    write_json,
    write_rows,
)
from edgeseg.core.marks import MARK, read_mark, remove_folder, write_mark


def finish(out: Path, *names: str) -> Path:
    """Let a folder be written whole, with files of these names."""
    with staged_folder(out, overwrite=True) as folder:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name, encoding="utf-8")
    return out


def list_names(folder: Path) -> list[str]:
    """List what is in a folder beside its mark."""
    return sorted(path.name for path in folder.iterdir() if path.name != MARK)


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
    finish(tmp_path / "new", "old.txt")
    with pytest.raises(OutputError, match="already there"):
        refuse_taken(tmp_path / "new", overwrite=False, what="training")
    refuse_taken(tmp_path / "new", overwrite=True, what="training")


def test_interrupted_result_beside_an_old_one_goes_on_and_replaces_it(tmp_path: Path) -> None:
    out = finish(tmp_path / "out", "old.txt")
    with pytest.raises(KeyboardInterrupt), staged_folder(out, overwrite=True, keep_partial=True) as folder:
        interrupt_while_writing(folder / "new.txt")
    with pytest.raises(RunError) as begun:
        refuse_taken(out, overwrite=False, what="training")
    with pytest.raises(OutputError) as continued, staged_folder(out, keep_partial=True, go_on=True):
        pytest.fail("must not get here")
    assert all("with --resume --overwrite" in caught.value.hint for caught in (begun, continued))
    with staged_folder(out, overwrite=True, keep_partial=True, go_on=True):
        pass
    assert list_names(out) == ["new.txt"]


def test_interrupted_overwrite_leaves_the_old_folder_whole(tmp_path: Path) -> None:
    out = finish(tmp_path / "out", "old.txt")
    with pytest.raises(KeyboardInterrupt), staged_folder(out, overwrite=True) as folder:
        interrupt_while_writing(folder / "new.txt")
    assert list_names(out) == ["old.txt"]
    assert not partial_path(out).exists()


def test_finished_overwrite_replaces_everything(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("old", "new"):
        with staged_folder(out, overwrite=True) as folder:
            (folder / name).touch()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert list_names(out) == ["new"]


def test_interrupted_training_can_be_kept(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), staged_folder(out, keep_partial=True) as folder:
        interrupt_while_writing(folder / "weights")
    assert (partial_path(out) / "weights").is_file()
    assert not out.exists()


def test_the_folder_one_works_in_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "precious").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="work"), staged_folder(tmp_path, overwrite=True):
        pytest.fail("must not get here")


def test_unwritable_place_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"Not a directory|File exists"):
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


def put(*paths: Path) -> None:
    for path in paths:
        path.touch()


def snapshot(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text("utf-8") for p in folder.rglob("*") if p.is_file()}


FOREIGN = [
    ["thesis.txt"],
    ["images/thesis.txt"],
    ["a b\n-rf"],
    ["run.json", "thesis.txt"],
    ["SOURCE.md", "images/1.png", "masks/1.png"],
    [".edgeseg"],
]


@pytest.mark.parametrize("names", FOREIGN)
def test_what_is_not_edgesegs_is_never_replaced(tmp_path: Path, names: list[str]) -> None:
    out = tmp_path / "out"
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine", encoding="utf-8")
    before = snapshot(out)
    for place in (out, tmp_path / "link"):
        if place != out:
            place.symlink_to(out)
        with pytest.raises(OutputError) as caught, staged_folder(place, overwrite=True):
            pytest.fail("must not get here")
        assert "overwrite" not in caught.value.hint
    with pytest.raises(OutputError):
        remove_folder(out)
    assert snapshot(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out"]


@pytest.mark.parametrize("name", ["thesis.txt", "images/thesis.txt"])
def test_a_file_that_others_added_is_named_and_stays(tmp_path: Path, name: str) -> None:
    out = finish(tmp_path / "out", "images/1.png", "groups.csv")
    (out / name).write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match=name), staged_folder(out, overwrite=True):
        pytest.fail("must not get here")
    assert (out / name).read_text(encoding="utf-8") == "mine"


def test_a_file_that_others_add_meanwhile_stays_and_so_does_the_new_result(tmp_path: Path) -> None:
    out = finish(tmp_path / "out", "old.txt")
    with pytest.raises(OutputError, match=r"thesis\.txt"), staged_folder(out, overwrite=True) as folder:
        put(folder / "new.txt", out / "thesis.txt")
    assert (list_names(out), list_names(partial_path(out))) == (["old.txt", "thesis.txt"], ["new.txt"])
    other = tmp_path / "other"
    with pytest.raises(OutputError), staged_folder(other):
        (other / "made-meanwhile").mkdir(parents=True)
    assert (list_names(other), partial_path(other).is_dir()) == (["made-meanwhile"], True)


@pytest.mark.parametrize("suffix", [".old", ".partial", ".replaced"])
def test_folders_of_similar_names_stay(tmp_path: Path, suffix: str) -> None:
    out = finish(tmp_path / "first", "a.txt")
    similar = tmp_path / f"{'.' if suffix == '.replaced' else ''}first{suffix}"
    similar.mkdir()
    (similar / "mine.txt").write_text("mine", encoding="utf-8")
    with contextlib.suppress(OutputError), staged_folder(out, overwrite=True) as folder:
        (folder / "b.txt").touch()
    assert (similar / "mine.txt").is_file()
    assert list_names(out) == (["a.txt"] if suffix == ".partial" else ["b.txt"])


def test_a_copy_of_a_result_called_old_stays(tmp_path: Path) -> None:
    finish(tmp_path / "first", "a.txt").rename(tmp_path / "first.old")
    finish(tmp_path / "first", "b.txt")
    finish(tmp_path / "first", "c.txt")
    assert (list_names(tmp_path / "first.old"), list_names(tmp_path / "first")) == (["a.txt"], ["c.txt"])


def test_folders_from_before_the_mark_are_known_by_their_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "logs").mkdir(parents=True)
    for name in ("run.json", "weights.h5", "model.tflite"):
        (out / name).touch()
    assert list_names(finish(out, "new.txt")) == ["new.txt"]


def test_a_link_is_followed_and_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(finish(tmp_path / "real", "a.txt"))
    finish(tmp_path / "link", "b.txt")
    assert (list_names(tmp_path / "real"), (tmp_path / "link").is_symlink()) == (["b.txt"], True)


def test_a_partial_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out") as folder:
        (folder / "a.txt").touch()
        with pytest.raises(OutputError, match="at work"), staged_folder(tmp_path / "out"):
            pytest.fail("must not get here")
    assert list_names(tmp_path / "out") == ["a.txt"]


def test_every_state_that_a_kill_leaves_is_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The replacement is cut off before each of its renames and removals, and the next command sees a whole result."""
    for step in range(8):
        out = finish(tmp_path / f"{step}", "old.txt", "more/old.txt")
        left = [step]

        def count(act: Callable[..., Any], left: list[int] = left) -> Callable[..., Any]:
            def act_or_die(*arguments: Any, **options: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise SystemExit  # nothing in between catches it, as nothing catches a kill
                return act(*arguments, **options)

            return act_or_die

        new = staged_folder(out, overwrite=True)
        with monkeypatch.context() as dying, contextlib.suppress(SystemExit), new as folder:
            (folder / "new.txt").touch()
            for name in ("rename", "unlink", "rmdir", "replace"):
                dying.setattr(Path, name, count(getattr(Path, name)))
            dying.setattr(shutil, "rmtree", count(shutil.rmtree))
        with pytest.raises(OutputError, match="already there"):
            refuse_existing(out, overwrite=False)
        assert list_names(out) in (["more", "old.txt"], ["new.txt"])
        assert list_names(finish(out, "newest.txt")) == ["newest.txt"]
        assert {path.name for path in tmp_path.iterdir()} == {str(number) for number in range(step + 1)}


def test_a_finished_result_that_was_not_moved_yet_is_no_training_to_go_on_with(tmp_path: Path) -> None:
    out = finish(tmp_path / "out", "old.txt")
    finish(tmp_path / "other", "new.txt").rename(partial_path(out))
    with pytest.raises(RunError, match="finished one"), staged_folder(out, overwrite=True, go_on=True):
        pytest.fail("must not get here")
    assert list_names(out) == ["new.txt"]


@pytest.mark.parametrize("text", ["{", "[]", '{"made_by": "me"}', '{"made_by": "edgeseg", "files": 3}'])
def test_a_mark_that_cannot_be_read_is_none_or_lists_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / MARK).write_text(text, encoding="utf-8")
    mark = read_mark(tmp_path)
    assert mark is None or mark.files == frozenset()


def test_a_fifo_for_a_mark(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MARK)
    assert read_mark(tmp_path) is None


def test_names_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff")).touch()
    write_mark(tmp_path, whole=True)
    assert (mark := read_mark(tmp_path)) is not None
    assert mark.files == {os.fsdecode(b"\xff")}


FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+cmd",
    "-2+3",
    "@SUM(A1)",
    "\tx",
    "\r=x",
    "\n=x",
    "-",
    "-case_1",
    "'=x",
    "''+x",
    "\uff1dx",
]
PLAIN = ["case_1", "a=b", "'quoted'", "", " =x", "it's", "-0.5", "+1e-3", "-inf", "-nan", "0.25"]


@pytest.mark.parametrize("text", [*FORMULAS, *PLAIN])
def test_no_text_is_a_formula_to_a_spreadsheet(tmp_path: Path, text: str) -> None:
    write_rows(tmp_path / "a.csv", ("stem", "value"), [(text, -1.5)])
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        ((cell, number),) = list(csv.reader(file))[1:]
    assert (cell, number) == (f"'{text}" if text in FORMULAS else text, "-1.5")
    assert read_rows(tmp_path / "a.csv") == [{"stem": text, "value": "-1.5"}]


def test_a_device_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/dev/null")
    for name in ("fifo", "link"):
        with pytest.raises(OutputError, match=name):
            write_bytes(tmp_path / name, b"x")
    assert ((tmp_path / "fifo").is_fifo(), (tmp_path / "link").is_symlink()) == (True, True)
