"""pip fetches for another machine than this one, from a folder of wheels in place of an index."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from edgeseg.core.errors import DeployError
from edgeseg.deploy.wheels import fetch_needed
from tests.boards import make_target

pytestmark = pytest.mark.integration

BOARD = make_target("generic-aarch64")


@pytest.mark.parametrize("platform", ["manylinux_2_28_aarch64", "manylinux_2_28_x86_64"])
def test_packages_are_fetched_for_the_board(platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tag = f"cp3{sys.version_info.minor}"
    offered, out = tmp_path / "offered", tmp_path / "out"
    offered.mkdir()
    out.mkdir()
    write_wheel(offered / f"tinything-1.0-{tag}-{tag}-{platform}.whl", "tinything", "1.0")
    ours = write_wheel(tmp_path / "edgeseg-0.1.0-py3-none-any.whl", "edgeseg", "0.1.0", "tinything")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(offered))
    if platform.endswith("x86_64"):
        with pytest.raises(DeployError, match="tinything"):
            fetch_needed(ours, BOARD.name, BOARD.board, out)
    else:
        needed, _ = fetch_needed(ours, BOARD.name, BOARD.board, out)
        assert [path.name for path in needed] == [f"tinything-1.0-{tag}-{tag}-{platform}.whl"]


def write_wheel(path: Path, name: str, version: str, requires: str = "") -> Path:
    """Write a wheel that holds nothing but its own description."""
    info = f"{name}-{version}.dist-info"
    need = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{need}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path
