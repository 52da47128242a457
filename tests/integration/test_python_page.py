"""Every example of docs/reference/python.md runs, in the page's order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

import edgeseg
from edgeseg.phantom.pairs import render_pair
from tests.networks import save_network

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("shallow_sizes")]

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_block_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_network(tmp_path / "int8.tflite")
    edgeseg.write_image("frame.png", np.random.default_rng(0).integers(0, 255, (96, 128), np.uint8))
    pair = render_pair(1, size=(128, 128))
    edgeseg.write_image("fixed.png", pair.fixed.image)
    edgeseg.write_image("moving.png", pair.moving.image)
    text = PAGE.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    backend = dict.__getitem__(mpl.rcParams, "backend")  # looking it up as usual would choose one
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], str(PAGE), "exec"), names)  # so that a traceback names the page's line
    assert names["mask"].shape == names["frame"].shape
    assert names["small"].chosen.is_file()
    assert dict.__getitem__(mpl.rcParams, "backend") == backend  # the report's figures were drawn meanwhile
    assert names["figures"].cases > 0
    assert all(area.area_mm2 is not None for areas in names["areas"] for area in areas)
