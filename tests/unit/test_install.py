"""The command that installs an extra works where it is told: in a checkout, from a wheel, and where neither is left."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from edgeseg.core import install
from edgeseg.core.install import MissingExtraError

REQUIREMENTS = [
    "numpy>=1.26",
    "onnx>=1.16; extra == 'onnx'",
    "onnxruntime>=1.17; (python_version < '3.99') and extra == 'onnx'",
    "tensorflow>=2.19; extra == 'train'",
]


class Installed:
    """Stands for the installed package as pip noted it."""

    def __init__(self, noted: str | None) -> None:
        self.noted = noted

    def read_text(self, name: str) -> str | None:
        """Read one of pip's notes."""
        return self.noted if name == "direct_url.json" else None


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let edgeseg stand outside any checkout."""
    monkeypatch.setattr(install, "CHECKOUT", tmp_path / "site-packages")
    monkeypatch.setattr("importlib.metadata.requires", lambda _: REQUIREMENTS)
    return tmp_path


def read_arguments(command: str) -> list[str]:
    words = shlex.split(command)
    assert words[:4] == [sys.executable, "-m", "pip", "install"]
    return words[4:]


def test_a_checkout_is_installed_from_any_folder() -> None:
    assert read_arguments(install.install_command("train", "tune")) == ["-e", f"{install.CHECKOUT}[train,tune]"]


def test_a_wheel_is_installed_again_while_it_is_there(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = elsewhere / "my wheels" / "edgeseg-1-py3-none-any.whl"
    noted = json.dumps({"url": wheel.as_uri(), "archive_info": {}})
    monkeypatch.setattr("importlib.metadata.distribution", lambda _: Installed(noted))
    assert f"{wheel}[onnx]" not in read_arguments(install.install_command("onnx"))
    wheel.parent.mkdir()
    wheel.touch()
    assert read_arguments(install.install_command("onnx")) == [f"{wheel}[onnx]"]


@pytest.mark.parametrize("noted", [None, "{}", "no json", '{"url": "https://example.org/edgeseg.whl"}', '{"url": 1}'])
@pytest.mark.usefixtures("elsewhere")
def test_the_packages_are_named_where_nothing_else_is_left(noted: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.distribution", lambda _: Installed(noted))
    assert read_arguments(install.install_command("onnx")) == [
        "onnx>=1.16",
        "onnxruntime>=1.17; python_version < '3.99'",
    ]


def test_a_missing_package_is_answered_with_that_command() -> None:
    assert install.install_command("onnx") in MissingExtraError("onnxruntime", "onnx").hint
