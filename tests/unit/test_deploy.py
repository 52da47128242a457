"""What goes into an archive for a board, and what is refused before one is written."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgeseg.core.errors import DeployError
from edgeseg.core.modelfile import ModelFile
from edgeseg.deploy import bundle
from edgeseg.deploy.bundle import (
    SCRIPTS,
    Packages,
    Target,
    find_build_time,
    gather_files,
    list_sums,
    pack_files,
    read_public_key,
    sign_archive,
    write_settings,
)
from edgeseg.deploy.remote import find_backend, send_archive
from tests.boards import FAKES, make_key, make_target, write_program, write_wheel
from tests.commands import Fail, assert_says
from tests.networks import save_network

BOARD = make_target("generic-aarch64")


@pytest.fixture
def model(tmp_path: Path) -> ModelFile:
    return save_network(tmp_path / "tiny.tflite")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "edgeseg-0.1.0-py3-none-any.whl"
    path.write_bytes(b"a wheel")
    return path


def test_the_same_files_give_the_same_bytes(model: ModelFile, wheel: Path) -> None:
    files = gather_files(model, BOARD, Packages(wheel), {})
    assert pack_files(files) == pack_files(dict(reversed(files.items())))
    assert {"install.sh", "model.tflite", f"wheels/{wheel.name}", "devices/generic-aarch64/setup.sh"} <= set(files)


def test_another_model_is_another_release_in_the_same_environment(model: ModelFile, wheel: Path) -> None:
    first = gather_files(model, BOARD, Packages(wheel), {})["release.env"].decode().splitlines()
    model.path.write_bytes(model.path.read_bytes() + b" ")
    second = gather_files(model, BOARD, Packages(wheel), {})["release.env"].decode().splitlines()
    assert [a == b for a, b in zip(first, second, strict=True)] == [False, True, True, True, True, True]


def test_sums_are_those_of_sha256sum() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert list_sums({"b": b"", "a": b""}) == f"{empty}  a\n{empty}  b\n"


def test_settings_come_from_the_profile() -> None:
    assert "EDGESEG_BUDGET_MS='66'\n" in write_settings(BOARD.board)
    quoted = dataclasses.replace(BOARD.board.recommended, source="gst://a'b")
    with pytest.raises(DeployError, match="gst://a'b"):
        write_settings(dataclasses.replace(BOARD.board, recommended=quoted))


def test_the_first_backend_that_takes_the_file(model: ModelFile) -> None:
    assert find_backend(model, BOARD.name, BOARD.board) == "cpu"


def test_a_file_for_the_edge_tpu_only(tmp_path: Path) -> None:
    compiled = save_network(tmp_path / "c.tflite", custom="edgetpu-custom-op")
    with pytest.raises(DeployError, match="Edge TPU"):
        find_backend(compiled, BOARD.name, BOARD.board)
    use = dataclasses.replace(BOARD.board.recommended, backends=("edgetpu:usb", "cpu"))
    assert find_backend(compiled, "coral", dataclasses.replace(BOARD.board, recommended=use)) == "edgetpu:usb"


def test_the_linter_says_no(tmp_path: Path) -> None:
    model = save_network(tmp_path / "d.tflite", lint={"cpu": "CONV_2D has a dynamic shape: build it for one size"})
    with pytest.raises(DeployError, match="cpu: CONV_2D has a dynamic shape"):
        find_backend(model, BOARD.name, BOARD.board)


def test_a_board_without_setup(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"\bsetup\.sh"):
        Target("own", BOARD.board, tmp_path)


def test_a_board_folder_among_files_of_others(model: ModelFile, wheel: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(BOARD.folder, tmp_path / "own")
    (tmp_path / "private.sh").write_text("my own", encoding="utf-8")
    with pytest.raises(DeployError, match=r"setup-common\.sh"):
        Target("own", BOARD.board, folder)
    shutil.copy(BOARD.folder.parent / "setup-common.sh", tmp_path)
    files = gather_files(model, Target("own", BOARD.board, folder), Packages(wheel), {})
    assert {name for name in files if name.count("/") == 1} == {f"wheels/{wheel.name}", "devices/setup-common.sh"}


def test_unknown_board_and_wrong_wheel(fail: Fail, model: ModelFile, tmp_path: Path) -> None:
    out = tmp_path / "a.tar.gz"
    code, said = fail("deploy", model.path, "--device", "generic-aarch46", "--out", out)
    assert (code, "generic-aarch64?" in said) == (1, True)
    code, said = fail("deploy", model.path, "--device", "pi", "--out", out)
    assert code == 1
    assert_says(said, "raspberry-pi-4", "raspberry-pi-5")
    code, said = fail("deploy", model.path, "--device", "generic-aarch64", "--out", out, "--wheel", model.path)
    assert (code, "wheel" in said and str(model.path) in said) == (1, True)
    assert not out.exists()


def test_bench_holds_a_budget(fail: Fail, model: ModelFile) -> None:
    assert fail("bench", model.path, "--runs", "10", "--budget-ms", "0.0001")[0] == 3
    assert fail("bench", model.path, "--parity", "--budget-ms", "5")[0] == 2


def test_neither_wheel_nor_checkout(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="hatchling") as caught:
        bundle.build_wheel(tmp_path, tmp_path)
    assert "--wheel F" in caught.value.hint


def test_packages_for_another_python(wheel: Path, tmp_path: Path) -> None:
    old = dataclasses.replace(BOARD.board, python=("3.8",))
    with pytest.raises(DeployError, match=r"\bold\b.*3\.8"):
        bundle.fetch_needed(wheel, "old", old, tmp_path)


def test_a_signature_holds_for_one_archive_only(tmp_path: Path) -> None:
    key, archive, public = tmp_path / "key.pem", tmp_path / "a.tar.gz", tmp_path / "public.pem"
    make_key(key)
    public.write_bytes(read_public_key(key))
    (tmp_path / "a.tar.gz.sig").write_bytes(sign_archive(b"an archive", key))
    check = ["openssl", "dgst", "-sha256", "-verify", str(public), "-signature", f"{archive}.sig", str(archive)]
    archive.write_bytes(b"an archive")
    assert subprocess.run(check, check=False, capture_output=True).returncode == 0
    archive.write_bytes(b"an archivf")
    assert subprocess.run(check, check=False, capture_output=True).returncode == 1


def test_keys_that_cannot_sign_leave_no_archive(fail: Fail, model: ModelFile, tmp_path: Path) -> None:
    out, key = tmp_path / "a.tar.gz", tmp_path / "own.pem"
    ours = write_wheel(tmp_path / "edgeseg-9-py3-none-any.whl", "edgeseg", "9")
    (tmp_path / "text.pem").write_text("no key", encoding="utf-8")
    locked = ["EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes256", "-pass", "pass:secret"]
    for name, options in (("ed25519", ["ed25519"]), ("locked", locked)):
        command = ["openssl", "genpkey", "-out", str(tmp_path / f"{name}.pem"), "-algorithm", *options]
        subprocess.run(command, check=True, capture_output=True)
    deploy = ("deploy", model.path, "--device", BOARD.name, "--out", out, "--wheel", ours, "--sign")
    for name in ("text", "ed25519", "locked"):
        code, said = fail(*deploy, tmp_path / f"{name}.pem")
        assert code == 1
        assert_says(said, "openssl", f"{name}.pem")
    code, said = fail(*deploy, key)
    assert (code, f"-out {key}" in said) == (1, True), said
    assert list(tmp_path.glob("a.tar.gz*")) == []


@pytest.mark.parametrize("status", [0, 3, 1])
def test_to_a_board_with_fakes_of_ssh_and_scp(status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote, programs, archive = tmp_path / "remote", tmp_path / "bin", tmp_path / "a.tar.gz"
    (remote / "edgeseg-upload").mkdir(parents=True)
    programs.mkdir()
    for name in ("ssh", "scp"):
        write_program(programs / name, (FAKES / "ssh.sh").read_text(encoding="utf-8"))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("REMOTE", str(remote))
    script = f'echo "$0" > "$HOME/ran"; exit {status}\n'
    archive.write_bytes(pack_files({"install.sh": script.encode()}))
    if status == 1:
        with pytest.raises(DeployError, match="me@board"):
            send_archive([archive], "me@board")
    else:
        assert send_archive([archive], "me@board") == status
    assert sorted(path.name for path in remote.iterdir()) == ["edgeseg-upload", "ran"]  # and a folder of the user's


def test_a_host_that_is_an_option(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="-oProxyCommand=true"):
        send_archive([tmp_path / "a.tar.gz"], "-oProxyCommand=true")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_the_scripts_are_clean() -> None:
    command = ["shellcheck", "-x", "-P", "SCRIPTDIR", *map(str, SCRIPTS.glob("*.sh")), *map(str, FAKES.glob("*.sh"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_service_joins_the_groups_that_the_board_has(tmp_path: Path) -> None:
    write_program(tmp_path / "getent", '#!/bin/sh\n[ "$2" = video ] || [ "$2" = apex ]\n')
    script = f"PATH={tmp_path}:$PATH; . {SCRIPTS / 'common.sh'}; list_groups"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "video apex "


def write_unit(kind: str, folder: Path) -> Path:
    """Write a service as install.sh does, with a program for it to start."""
    program = folder / "current/venv/bin/edgeseg"
    program.parent.mkdir(parents=True)
    write_program(program, "#!/bin/sh\n")
    (folder / "stream.env").write_text(write_settings(BOARD.board), encoding="utf-8")
    unit = folder / "edgeseg-stream.service"
    text = (SCRIPTS / f"{kind}.service").read_text(encoding="utf-8")
    unit.write_text(text.replace("@PREFIX@", str(folder)).replace("@GROUPS@", "video plugdev "), encoding="utf-8")
    return unit


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("kind", ["system", "user"])
def test_systemd_understands_the_services(kind: str, tmp_path: Path) -> None:
    command = ["systemd-analyze", "verify", "--man=no", str(write_unit(kind, tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# a user's systemd cannot drop capabilities, and systemd-analyze takes every service for one that could
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize(("kind", "most"), [("system", 2.0), ("user", 5.5)])
def test_how_far_a_service_is_exposed(kind: str, most: float, tmp_path: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(write_unit(kind, tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    figure = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert figure is not None, done.stderr
    assert float(figure[1]) <= most


@pytest.mark.parametrize("kind", ["system", "user"])
def test_a_service_keeps_to_memory_tasks_and_a_folder_for_recordings(kind: str) -> None:
    lines = (SCRIPTS / f"{kind}.service").read_text(encoding="utf-8").splitlines()
    assert {"StateDirectory=edgeseg", "MemoryMax=75%", "TasksMax=256"} <= set(lines)
    devices = [line for line in lines if line.startswith("DeviceAllow=")]
    kinds = ("video4linux", "usb_device", "drm", "nvidia*", "apex")
    assert kind == "user" or all(f"DeviceAllow=char-{name} rw" in devices for name in kinds)


def test_when_an_archive_was_packed(model: ModelFile, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1764000000")
    files = gather_files(model, BOARD, Packages(wheel), {}, find_build_time())
    assert files["release.env"].endswith(b"\nBUILT='1764000000'\n")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1'; rm -rf ~; '")
    with pytest.raises(DeployError, match="SOURCE_DATE_EPOCH"):
        find_build_time()
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert find_build_time() > 1_764_000_000
