"""The built wheel without extras, in an environment of its own and outside the checkout: the device side must work."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeseg.deploy.bundle import build_wheel

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHONS = os.environ.get("EDGESEG_PYTHONS", "").split() or [sys.executable]
"""`make light` names the oldest and the newest that are supported."""
HEAVY = ("tensorflow", "tf_keras", "tensorflow_model_optimization", "matplotlib", "jinja2", "optuna")
IMPORT_BUDGET_MODULES = (
    "edgeseg.streaming.loop",
    "edgeseg.evaluation.score",
    "edgeseg.bench.measure",
    "edgeseg.cli.app",
)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    return build_wheel(REPOSITORY, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session", params=PYTHONS)
def light(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel alone, under this Python or one that was asked for; gives its folder of programs."""
    folder = tmp_path_factory.mktemp("light")
    python = request.param if request.param == sys.executable else find_python(request.param)
    subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
    pip = [str(folder / "venv/bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "venv" / "bin"


def find_python(version: str) -> str:
    """Find a Python of that version, or skip the test; pyenv's stand-ins on the path may stand for nothing."""
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for found in (shutil.which(name), *sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/{name}")))):
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return found
    pytest.skip(f"no {name} on this machine")


@pytest.fixture
def run_light(light: Path, tmp_path: Path) -> Any:
    """Give a function that runs the installed command in an empty folder."""

    def run(*arguments: str | Path) -> str:
        command = [str(light / "edgeseg"), *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode in (0, 3), done.stderr
        return done.stdout

    return run


def test_nothing_heavy_is_installed(light: Path) -> None:
    code = f"import importlib.util as u; print([n for n in {HEAVY} if u.find_spec(n)])"
    done = subprocess.run([light / "python", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_device_commands_run(run_light: Any, int8_model: Path, trained_data: Path, tmp_path: Path) -> None:
    assert "frames captured" in run_light(
        "stream",
        int8_model,
        "--source",
        "phantom://?frames=20&size=96",
        "--view",
        "none",
        "--budget-ms",
        "5000",
        "--json",
        "s.json",
    )
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["frames"]["captured"] == 20
    assert "invoke" in run_light("bench", int8_model, "--runs", "10")
    assert "Dice" in run_light("evaluate", int8_model, trained_data)
    assert "CONV_2D" in run_light("inspect", int8_model)


def test_catalog_came_along(run_light: Any) -> None:
    assert "generic-aarch64" in run_light("devices")
    assert "int8" in run_light("devices", "generic-x86_64")


def test_doctor_judges_the_machine(run_light: Any, tmp_path: Path) -> None:
    run_light("doctor", "--json", "d.json")
    table = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))
    states = {check["name"]: check["state"] for check in table["checks"]}
    assert "problem" not in {state for name, state in states.items() if "runtime" in name.lower()}
    assert any("xnnpack" in name.lower() for name in states)


def test_training_asks_for_the_extra(light: Path, tmp_path: Path) -> None:
    command = [str(light / "edgeseg"), "train", str(tmp_path), "--out", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (command_told,) = re.findall(r"pip install '?(.*\.whl)\[train\]", done.stderr)
    assert Path(command_told).is_file()


@pytest.mark.parametrize("module", IMPORT_BUDGET_MODULES)
def test_device_side_never_imports_tensorflow(module: str) -> None:
    code = f"import sys, {module}; print([n for n in {HEAVY} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "[]"
