"""pip fetches for another machine than this one, from a folder of wheels in place of an index."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeseg.core.errors import DeployError
from edgeseg.deploy.bundle import fetch_needed
from tests.boards import make_target, write_wheel

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("name", "platform", "fits"),
    [
        ("generic-aarch64", "manylinux_2_28_aarch64", True),
        ("generic-aarch64", "manylinux_2_28_x86_64", False),
        ("jetson-nano", "manylinux_2_27_aarch64", True),
        ("jetson-nano", "manylinux_2_28_aarch64", False),
    ],
)
def test_packages_are_fetched_for_the_board(
    name: str, platform: str, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = make_target(name)
    tag = f"cp3{sys.version_info.minor}"
    offered, out = tmp_path / "offered", tmp_path / "out"
    offered.mkdir()
    out.mkdir()
    write_wheel(offered / f"tinything-1.0-{tag}-{tag}-{platform}.whl", "tinything", "1.0")
    ours = write_wheel(tmp_path / "edgeseg-0.1.0-py3-none-any.whl", "edgeseg", "0.1.0", "tinything")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(offered))
    if not fits:
        with pytest.raises(DeployError, match="tinything"):
            fetch_needed(ours, target.name, target.board, out)
    else:
        needed, _ = fetch_needed(ours, target.name, target.board, out)
        assert [path.name for path in needed] == [f"tinything-1.0-{tag}-{tag}-{platform}.whl"]
