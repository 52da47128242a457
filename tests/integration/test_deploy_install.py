"""An archive is installed, upgraded and refused for real, below a prefix; only systemd is a fake."""

from __future__ import annotations

import dataclasses
import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.modelfile import GoldenPair, ModelFile, read_model, write_model
from edgeseg.deploy.bundle import CHECKOUT, Packages, build_wheel, gather_files, pack_files, sign_archive
from tests.boards import FakeBoard, make_key, make_target, name_this_board, pack_model_for, unpack, write_wheel
from tests.commands import assert_says
from tests.networks import save_network

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build edgeseg's wheel once."""
    return build_wheel(CHECKOUT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> FakeBoard:
    """Install the model "first" on a board, once: its Python environment takes a while."""
    board = FakeBoard(tmp_path_factory.mktemp("board"))
    board.prepare()
    code, said = board.install(unpack_model(save_model(board.root, "first"), wheel, board.root / "unpacked"))
    assert code == 0, said
    assert "service" in said
    return board


@pytest.fixture
def board(prepared: FakeBoard, wheel: Path, tmp_path: Path) -> FakeBoard:
    """Give the board with "first" in use, whatever the test before has done."""
    if prepared.links()[0] != "first":
        code, said = prepared.install(unpack_model(save_model(tmp_path, "first"), wheel, tmp_path / "again"))
        assert code == 0, said
    return prepared


def save_model(folder: Path, name: str, wrong: bool = False, compiled: bool = False) -> ModelFile:
    """Write a model file of that name; a wrong one draws other masks than its golden pair says."""
    model = save_network(folder / f"{name}.tflite", custom="edgetpu-custom-op" if compiled else "")
    golden = model.golden[0]
    pair = GoldenPair(golden.input, np.full_like(golden.output, -128)) if wrong else golden
    write_model(model.path, model.flatbuffer, dataclasses.replace(model.card, name=name), (pair,))
    return read_model(model.path)


def unpack_model(model: ModelFile, wheel: Path, folder: Path) -> Path:
    return unpack(pack_model_for(name_this_board(), model, wheel), folder)


def test_upgrade_and_back(board: FakeBoard, wheel: Path, tmp_path: Path) -> None:
    code, said = board.install(unpack_model(save_model(tmp_path, "second"), wheel, tmp_path / "a"))
    assert (code, board.links()) == (0, ("second", "first")), said
    assert "already there" in said
    assert (board.prefix / "current" / "verify.json").is_file()
    code, said = board.manage("rollback")
    assert (code, board.links()) == (0, ("first", "second")), said
    assert board.manage("verify")[0] == 0


def test_installing_twice_changes_nothing(board: FakeBoard, wheel: Path, tmp_path: Path) -> None:
    before = board.links()
    code, said = board.install(unpack_model(save_model(tmp_path, "first"), wheel, tmp_path / "a"))
    assert (code, board.links()) == (0, before), said


def test_a_model_with_other_masks_is_not_put_in_use(board: FakeBoard, wheel: Path, tmp_path: Path) -> None:
    before, releases = board.links(), sorted((board.prefix / "releases").iterdir())
    code, said = board.install(unpack_model(save_model(tmp_path, "wrong", wrong=True), wheel, tmp_path / "a"))
    assert (code, "model in use" in said) == (3, True), said
    assert (board.links(), sorted((board.prefix / "releases").iterdir())) == (before, releases)


def test_a_budget_that_cannot_be_held(board: FakeBoard, wheel: Path, tmp_path: Path) -> None:
    settings = board.prefix / "stream.env"
    kept = settings.read_text(encoding="utf-8")
    settings.write_text(kept.replace("'60000'", "'0.0001'"), encoding="utf-8")
    code, said = board.install(unpack_model(save_model(tmp_path, "slow"), wheel, tmp_path / "a"))
    settings.write_text(kept, encoding="utf-8")
    assert (code, "Budget of 0.0001 ms missed" in said, board.links()[0]) == (3, True, "first"), said


def test_changed_files_are_refused(board: FakeBoard, wheel: Path, tmp_path: Path) -> None:
    folder = unpack_model(save_model(tmp_path, "second"), wheel, tmp_path / "a")
    (folder / "model.tflite").write_bytes(b"something else")
    code, said = board.install(folder)
    assert (code, "packed" in said, board.links()[0]) == (1, True, "first"), said


def test_an_archive_cut_short(board: FakeBoard, wheel: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.tar.gz"
    path.write_bytes(pack_model_for(name_this_board(), save_model(tmp_path, "second"), wheel)[:5000])
    code, said = board.manage("upgrade", path)
    assert (code, "cut.tar.gz" in said, board.links()[0]) == (1, True, "first"), said
    assert not list(board.prefix.glob("incoming.*"))


def test_an_archive_for_another_board(board: FakeBoard, wheel: Path, tmp_path: Path) -> None:
    (other,) = {"generic-x86_64", "generic-aarch64"} - {name_this_board()}
    folder = unpack(pack_model_for(other, save_model(tmp_path, "second"), wheel), tmp_path / "a")
    code, said = board.install(folder)
    assert (code, f"for {other}, got " in said, board.links()[0]) == (1, True, "first"), said


def test_a_full_disk(board: FakeBoard, wheel: Path, tmp_path: Path) -> None:
    folder, before = unpack_model(save_model(tmp_path, "large"), wheel, tmp_path / "a"), board.links()
    code, said = board.run("sh", "-c", 'ulimit -f 1; sh "$1" --prefix "$2"', "sh", folder / "install.sh", board.prefix)
    assert (code, "disk" in said, board.links()) == (1, True, before), said
    assert not list((board.prefix / "releases").glob("large*"))


def test_no_network_and_then_no_room_while_python_is_set_up(board: FakeBoard, tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "edgeseg-9-py3-none-any.whl", "edgeseg", "9", "nobody-has-this")
    folder, before = unpack_model(save_model(tmp_path, "large"), wheel, tmp_path / "a"), board.links()
    environments = sorted((board.prefix / "environments").iterdir())
    code, said = board.install(folder)
    assert (code, said.count("edgeseg: "), board.links()) == (1, 1, before), said
    assert_says(said, "Python", "model in use")
    script = 'ulimit -f 64; sh "$1" --prefix "$2"'
    code, said = board.run("sh", "-c", script, "sh", folder / "install.sh", board.prefix)
    assert (code, said.count("edgeseg: "), board.links()) == (1, 1, before), said
    assert_says(said, "Python", "model in use")
    assert sorted((board.prefix / "environments").iterdir()) == environments


def test_an_upgrade_that_is_killed_while_it_checks(board: FakeBoard, wheel: Path, tmp_path: Path) -> None:
    settings, before = board.prefix / "stream.env", board.links()
    kept = settings.read_text(encoding="utf-8")
    path = tmp_path / "fifth.tar.gz"
    path.write_bytes(pack_model_for(name_this_board(), save_model(tmp_path, "fifth"), wheel))
    settings.write_text(f"kill -9 $$\n{kept}", encoding="utf-8")
    code, said = board.manage("upgrade", path)
    settings.write_text(kept, encoding="utf-8")
    assert (code, board.links()) == (-9, before), said
    assert list((board.prefix / "releases").glob("fifth-*/model.tflite"))
    for name in ("incoming.4194305", "incoming.photos"):  # no process has this number
        (board.prefix / name).mkdir()
    (board.prefix / "incoming.4194305" / ".edgeseg").touch()
    assert board.manage("verify")[0] == 0
    code, said = board.manage("upgrade", path)
    assert (code, board.links()[0]) == (0, "fifth"), said
    assert [path.name for path in board.prefix.glob("incoming.*")] == ["incoming.photos"]
    (board.prefix / "incoming.photos").rmdir()


def test_the_service_runs_on_until_the_new_model_has_passed(board: FakeBoard, wheel: Path, tmp_path: Path) -> None:
    log = {"SYSTEMCTL_LOG": str(tmp_path / "systemctl.log")}
    code, said = board.install(unpack_model(save_model(tmp_path, "wrong", wrong=True), wheel, tmp_path / "a"), log)
    assert (code, (tmp_path / "systemctl.log").exists()) == (3, False), said
    code, said = board.install(unpack_model(save_model(tmp_path, "sixth"), wheel, tmp_path / "b"), log)
    asked = (tmp_path / "systemctl.log").read_text(encoding="utf-8")
    assert (code, board.links()[0], asked.count("--user restart"), "stop" in asked) == (0, "sixth", 1, False), said


def test_two_installations_at_once(board: FakeBoard, wheel: Path, tmp_path: Path) -> None:
    folder = unpack_model(save_model(tmp_path, "second"), wheel, tmp_path / "a")
    with (board.prefix / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, said = board.install(folder)
    assert (code, "nother installation" in said, board.links()[0]) == (1, True, "first"), said


def test_what_an_interruption_left_is_made_again(board: FakeBoard, wheel: Path, tmp_path: Path) -> None:
    folder = unpack_model(save_model(tmp_path, "third"), wheel, tmp_path / "a")
    name = (folder / "release.env").read_text(encoding="utf-8").split("'")[1]
    left = board.prefix / "releases" / name
    left.mkdir()
    (left / "model.tflite").write_bytes(b"half")
    code, said = board.install(folder)
    assert (code, board.links()[0]) == (0, "third"), said
    assert (left / "model.tflite").read_bytes() == (tmp_path / "third.tflite").read_bytes()


def test_only_signed_archives_where_there_is_a_key(board: FakeBoard, wheel: Path, tmp_path: Path) -> None:
    key, public = tmp_path / "key.pem", board.prefix / "key.pem"
    make_key(key)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    path = tmp_path / "signed.tar.gz"
    path.write_bytes(pack_model_for(name_this_board(), save_model(tmp_path, "signed"), wheel))
    try:
        assert "signed" in board.manage("upgrade", path)[1]
        whole = path.read_bytes()
        path.with_name("signed.tar.gz.sig").write_bytes(sign_archive(whole, key))
        path.write_bytes(pack_model_for(name_this_board(), save_model(tmp_path, "foreign"), wheel))
        code, said = board.manage("upgrade", path)
        assert (code, "key" in said, board.links()[0]) == (1, True, "first"), said
        path.write_bytes(whole)
        code, said = board.manage("upgrade", path)
        assert (code, board.links()[0]) == (0, "signed"), said
    finally:
        public.unlink()


def test_a_service_that_does_not_start_goes_back(board: FakeBoard, wheel: Path, tmp_path: Path) -> None:
    log, before = tmp_path / "systemctl.log", board.links()
    log.with_name("systemctl.log.broken").touch()
    folder = unpack_model(save_model(tmp_path, "fourth"), wheel, tmp_path / "a")
    code, said = board.install(folder, {"SYSTEMCTL_LOG": str(log)})
    assert (code, "fourth" in said, board.links()[0]) == (1, True, before[0]), said
    unit = board.root / "config/systemd/user/edgeseg-stream.service"
    assert f"ExecStart={board.prefix}/current/venv/bin/edgeseg stream" in unit.read_text(encoding="utf-8")
    assert log.read_text(encoding="utf-8").count("--user restart edgeseg-stream.service") == 2


def test_the_stream_runs_with_the_settings(board: FakeBoard) -> None:
    settings = board.prefix / "stream.env"
    kept = settings.read_text(encoding="utf-8")
    more = "EDGESEG_VIEW='none'\nEDGESEG_MORE='--frames 5 --json *.json --roi 0,0,32,32'\n"
    settings.write_text(kept.replace("'0'", "'phantom://?size=64'") + more, "utf-8")
    code, said = board.manage("stream")
    settings.write_text(kept, encoding="utf-8")
    assert (code, " 5 processed" in said) == (0, True), said
    assert (board.root / "*.json").is_file()  # as systemd would take it


def test_a_board_without_a_network(board: FakeBoard, wheel: Path, tmp_path: Path) -> None:
    python = f"3.{sys.version_info.minor}"
    files = gather_files(save_model(tmp_path, "alone"), make_target(name_this_board()), Packages(wheel, (), python), {})
    folder = unpack(pack_files(files), tmp_path / "a")
    shutil.rmtree(board.prefix / "environments")
    code, said = board.install(folder, {"PIP_NO_INDEX": "0"})
    assert (code, board.links()[0], f"Looking in links: {folder}/wheels" in said) == (0, "alone", True), said


def test_a_compiled_file_passes_on_a_board_with_the_chip_only(
    board: FakeBoard, wheel: Path, stub_folder: Path, tmp_path: Path
) -> None:
    settings, before = board.prefix / "stream.env", board.links()
    kept = settings.read_text(encoding="utf-8")
    folder = unpack(pack_model_for("coral-usb", save_model(tmp_path, "chip", compiled=True), wheel), tmp_path / "a")
    settings.write_text(kept.replace("'cpu'", "'auto'"), encoding="utf-8")
    code, said = board.install(folder)
    assert (code, "libedgetpu.so.1: cannot open" in said, board.links()) == (3, True, before), said
    code, said = board.install(folder, {"LD_LIBRARY_PATH": str(stub_folder), "STUB": "run"})
    settings.write_text(kept, encoding="utf-8")
    assert (code, board.links()[0]) == (0, "chip"), said


def test_uninstall_leaves_nothing(board: FakeBoard, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(board.prefix, copied, symlinks=True)
    code, said = board.run("sh", copied / "board.sh", "uninstall")
    assert (code, copied.exists()) == (0, False), said
