"""The boards: a folder is all it takes, and each one's setup.sh is harmless until it is told otherwise."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from edgeseg.backends.select import BACKENDS
from edgeseg.cli.devices import devices
from edgeseg.core.errors import EdgesegError, UnknownNameError
from edgeseg.machine.boards import (
    Recommended,
    Signs,
    catalog_folder,
    find_nearest_board,
    list_boards,
    list_recipes,
    load_board,
    read_toml,
    recommend_backends,
)
from edgeseg.model.spec import SIZES
from tests.boards import write_program

BOARDS = sorted(list_boards())
SCRIPTS = sorted(catalog_folder("devices").rglob("*.sh"))

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(devices)


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the boards and add one of our own."""
    folder = tmp_path / "devices"
    shutil.copytree(catalog_folder("devices"), folder)
    shutil.copytree(folder / "generic-aarch64", folder / "made-up-3")
    profile = folder / "made-up-3" / "profile.toml"
    profile.write_text('device_tree = ["Made-up Board"]\n' + profile.read_text())
    monkeypatch.setattr("edgeseg.machine.boards.catalog_folder", lambda _name: folder)
    return folder


@pytest.mark.usefixtures("catalog")
def test_table_lists_a_board_added_as_a_folder() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0
    assert all(name in result.output for name in (*BOARDS, "made-up-3", "int8-qat", "partly"))


@pytest.mark.usefixtures("catalog")
def test_device_tree_wins_over_the_generic_profile() -> None:
    assert find_nearest_board(Signs("aarch64", "Made-up Board 3 Rev 2")) == "made-up-3"
    assert find_nearest_board(Signs("aarch64", "Another Board")) == "generic-aarch64"
    assert find_nearest_board(Signs("riscv64")) is None


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("NVIDIA Jetson Nano Developer Kit", "jetson-nano"),
        ("NVIDIA Jetson Xavier NX Developer Kit", "jetson-xavier-nx"),
        ("NVIDIA Jetson Orin Nano Developer Kit", "jetson-orin-nano"),
        ("NVIDIA Orin Nano Developer Kit", "jetson-orin-nano"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "jetson-agx-orin"),
        ("NVIDIA Jetson AGX Thor Developer Kit", "jetson-agx-thor"),
        ("NVIDIA Jetson Thor Developer Kit", "jetson-agx-thor"),
        ("Freescale i.MX8MQ Phanbell", "coral-dev-board"),
        ("Google Coral MT8167", "coral-dev-board-mini"),
        ("Raspberry Pi 4 Model B Rev 1.4", "raspberry-pi-4"),
        ("Raspberry Pi 5 Model B Rev 1.0", "raspberry-pi-5"),
    ],
)
def test_boards_are_known_by_their_device_tree(model: str, name: str) -> None:
    assert find_nearest_board(Signs("aarch64", model, usb=frozenset({"1a6e:089a"}))) == name


def test_what_is_plugged_in_gives_an_unnamed_machine_away() -> None:
    assert find_nearest_board(Signs("x86_64", usb=frozenset({"18d1:9302"}))) == "coral-usb"
    assert find_nearest_board(Signs("x86_64", pci=frozenset({"1ac1:089a"}))) == "coral-m2"
    assert find_nearest_board(Signs("x86_64", usb=frozenset({"0000:0001"}))) == "generic-x86_64"


def test_board_says_what_to_run_models_on(catalog: Path, tmp_path: Path) -> None:
    profile = catalog / "made-up-3" / "profile.toml"
    profile.write_text(profile.read_text().replace('backends = ["cpu"]', 'backends = ["gpu", "cpu"]'))
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("Made-up Board 3 Rev 2\0")
    assert recommend_backends(tmp_path) == ("gpu", "cpu")


def test_one_board_shows_what_is_and_is_not_verified(catalog: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = CliRunner().invoke(app, ["generic-x86_64", "--json", str(out)])
    assert result.exit_code == 0
    assert str(catalog / "generic-x86_64" / "setup.sh") in result.output
    board = load_board("generic-x86_64")
    assert all(f"- {entry}" in result.output for entry in board.verified + board.not_verified)
    (entry,) = json.loads(out.read_text())["boards"]
    assert entry["name"] == "generic-x86_64"
    assert entry["recommended"]["recipes"] == list(board.recommended.recipes)


def test_unknown_name_lists_the_known_ones() -> None:
    result = CliRunner().invoke(app, ["generic-x86"])
    assert isinstance(result.exception, UnknownNameError)
    assert result.exception.hint.split("?")[0].endswith("generic-x86_64")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("threads = 2", "", "recommended.threads"),
        ("threads = 2", "threads = 0", "above 0"),
        ('backends = ["cpu"]', "backends = []", "recommended"),
        ("title", "colour = 1\ntitle", "colour"),
        ("title", 'usb = ["1A6E:089A"]\ntitle', "1a6e:089a"),
        ("sizes = [256, 128]", "sizes = [100]", "multiples of 16"),
        ("[recommended]", '[heat]\nzones = ["/sys"]\n[recommended]', "slash"),
        ("[recommended]", '[system]\nname = "x"\npython = "three"\nglibc = "2.27"\n[recommended]', "system.python"),
    ],
)
def test_incomplete_profile_is_refused(catalog: Path, old: str, new: str, words: str) -> None:
    profile = catalog / "made-up-3" / "profile.toml"
    profile.write_text(profile.read_text().replace(old, new))
    with pytest.raises(EdgesegError, match=words):
        load_board("made-up-3")


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_folder_is_complete(name: str) -> None:
    folder = list_boards()[name].parent
    board = load_board(name)
    assert set(board.recommended.recipes) <= set(list_recipes())
    assert set(board.recommended.backends) <= set(BACKENDS)
    assert set(board.recommended.models) <= set(SIZES)
    assert board.verified or "light install" in board.not_verified
    assert f"BOARD={name}\n" in (folder / "setup.sh").read_text()
    assert (folder / "README.md").read_text().startswith(f"# {name}")
    assert f"({name}/README.md)" in (folder.parent / "README.md").read_text()


@pytest.mark.parametrize("name", BOARDS)
def test_every_profile_says_all_that_is_known_of_a_board(name: str) -> None:
    board, profile = load_board(name), read_toml(list_boards()[name])
    needed = {"title", "machine", "python", "min_memory_mb", "not_verified", "verified", "sources", "runtime", "power"}
    if board.device_tree:
        needed |= {"system", "heat"}
    assert needed <= set(profile)
    assert all(profile[key] for key in needed - {"verified"})
    assert set(profile["recommended"]) == {field.name for field in dataclasses.fields(Recommended)}
    assert set(profile["runtime"]) == {"packages", "wheels"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_setup_script_parses(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_setup_script_pleases_shellcheck(script: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    command = ["shellcheck", "-x", "-P", str(catalog_folder("devices").parent), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def run_setup(
    name: str,
    tmp_path: Path,
    machine: str,
    *arguments: str,
    devices_folder: Path | None = None,
    release: str = "6.1.21-v8+",
) -> subprocess.CompletedProcess[str]:
    """Run a board's setup.sh in an empty home, on what claims to be that machine, with python3-venv as its package."""
    tools, home = tmp_path / "tools", tmp_path / "home"
    tools.mkdir()
    home.mkdir()
    known = '[ "$2" = python3-venv ]'
    answers = {
        "uname": f'[ "$1" = -r ] && echo {release} || echo {machine}',
        "dpkg": known,
        "apt-cache": f"! {known} && echo here",
    }
    for tool, answer in answers.items():
        write_program(tools / tool, f"#!/bin/sh\n{answer}\n")
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(home)}
    script = (devices_folder or catalog_folder("devices")) / name / "setup.sh"
    command = ["sh", str(script), *arguments]
    return subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", BOARDS)
def test_dry_run_prints_the_steps_and_changes_nothing(name: str, tmp_path: Path) -> None:
    result = run_setup(name, tmp_path, load_board(name).machine[0], "--dry-run", "--package", "./edgeseg.whl")
    assert result.returncode == 0, result.stderr
    assert f"{tmp_path}/home/edgeseg/bin/python -m pip install ./edgeseg.whl" in result.stdout
    assert f"edgeseg doctor --device {name}" in result.stdout
    packages = re.search('SYSTEM_PACKAGES="(.*)"', (list_boards()[name].parent / "setup.sh").read_text())
    assert packages is not None
    for package in packages[1].split():
        there = package == "python3-venv"
        assert (f"already there: {package}\n" in result.stdout) is there
        assert (f"sudo apt-get install -y --no-install-recommends {package}\n" in result.stdout) is not there
    assert "+ sudo" not in result.stdout
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize(
    ("release", "builds"),
    [
        ("6.3-rc1", True),
        ("6.4.0", False),
        ("6.12.47+rpt-rpi-2712", False),
        ("strange", False),
    ],
)
def test_the_driver_of_a_coral_card_is_installed_only_where_it_builds(
    release: str, builds: bool, tmp_path: Path
) -> None:
    result = run_setup("coral-m2", tmp_path, "aarch64", "--dry-run", "--package", "./edgeseg.whl", release=release)
    assert result.returncode == 0, result.stderr
    assert ("install -y --no-install-recommends gasket-dkms" in result.stdout) is builds
    assert ("left out: gasket-dkms" in result.stdout) is not builds
    assert "-m pip install ./edgeseg.whl" in result.stdout


@pytest.mark.parametrize("place", ["edgeseg-9-py3-none-any.whl", "dist/edgeseg-9-py3-none-any.whl"])
def test_setup_takes_the_wheel_beside_the_devices(catalog: Path, place: str, tmp_path: Path) -> None:
    wheel = catalog.parent / place
    wheel.parent.mkdir(exist_ok=True)
    wheel.touch()
    result = run_setup("generic-x86_64", tmp_path, "x86_64", "--dry-run", devices_folder=catalog)
    assert result.returncode == 0, result.stderr
    (package,) = re.findall(r"-m pip install (.*)", result.stdout)
    assert Path(package).resolve() == wheel


def test_setup_without_a_wheel_stops_before_anything_is_done(catalog: Path, tmp_path: Path) -> None:
    result = run_setup("generic-x86_64", tmp_path, "x86_64", devices_folder=catalog)
    assert (result.returncode, result.stdout) == (1, "")
    assert "make wheel" in result.stderr
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize("name", BOARDS)
def test_setup_refuses_another_machine(name: str, tmp_path: Path) -> None:
    result = run_setup(name, tmp_path, "riscv64", "--package", "./edgeseg.whl")
    assert result.returncode == 1
    assert "got riscv64" in result.stderr
    assert list((tmp_path / "home").iterdir()) == []


def test_setup_lets_no_python_look_in_the_working_folder(tmp_path: Path) -> None:
    fake = '#!/bin/sh\npwd >> "$HOME/where"\n'
    (tmp_path / "home/own/bin").mkdir(parents=True)
    (tmp_path / "home/edgeseg.whl").touch()
    for path in (tmp_path / "python3.13", tmp_path / "home/own/bin/python"):
        write_program(path, fake)
    script, tools = list_boards()["generic-x86_64"].parent / "setup.sh", f"{tmp_path}:{os.environ['PATH']}"
    write_program(tmp_path / "uname", "#!/bin/sh\necho x86_64\n")
    write_program(tmp_path / "dpkg", "#!/bin/sh\n")
    environment, home = {"PATH": tools, "HOME": str(tmp_path / "home")}, tmp_path / "home"
    command = ["sh", str(script), "--package", "edgeseg.whl", "own"]
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)
    assert (done.returncode, f"install {home}/edgeseg.whl" in done.stdout) == (0, True), done.stderr
    assert set((home / "where").read_text(encoding="utf-8").split()) == {"/"}
