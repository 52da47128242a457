"""The table of other networks: which file of a peer counts, and what an installation adds up to."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.data.reading import Case
from edgeseg.evaluation.metrics import CaseScore
from edgeseg.evaluation.score import ScoredCase

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("peers")


def make_file(peers: Any, name: str, dice: float, milliseconds: float | None) -> Any:
    cases = [ScoredCase("a", "g", {"lesion": CaseScore(dice, 0, 0, 0, 0)}, (), empty=False)]
    return peers.Measured(name, cases, cases, network_ms=milliseconds, whole_ms=milliseconds)


def choose(peers: Any, *files: tuple[str, float, float | None]) -> str:
    network = peers.Network("peer", {name: make_file(peers, name, dice, took) for name, dice, took in files})
    peers.choose(network)
    return str(network.chosen)


PLAIN = (("openvino-float32", 0.70, 4.0), ("onnx-float32", 0.70, 5.0))


def test_the_fastest_int8_file_that_keeps_its_dice_counts(peers: Any) -> None:
    assert choose(peers, *PLAIN, ("openvino-int8", 0.69, 2.0), ("onnx-int8", 0.69, 3.0)) == "openvino-int8"
    assert choose(peers, *PLAIN, ("openvino-int8", 0.50, 2.0), ("onnx-int8", 0.69, 3.0)) == "onnx-int8"


def test_float32_counts_where_int8_loses_dice_or_time_or_does_not_run(peers: Any) -> None:
    assert choose(peers, *PLAIN, ("openvino-int8", 0.50, 2.0), ("onnx-int8", 0.69, 6.0)) == "openvino-float32"
    assert choose(peers, *PLAIN, ("openvino-int8", 0.70, None)) == "openvino-float32"


def test_a_frame_takes_the_time_of_the_file_that_is_best_for_it(peers: Any) -> None:
    tables = importlib.import_module("peer_tables")
    files = {name: make_file(peers, name, dice, took) for name, dice, took in (*PLAIN, ("openvino-int8", 0.7, 2.0))}
    files["onnx-float32"].whole_ms = 1.5
    network = peers.Network("peer", files, minutes=[1.0], install={"mb": 1.0, "mb_without_cuda": 1.0, "packages": 1})
    peers.choose(network)
    cells = dict(zip(tables.HEADER, tables.make_row(network), strict=True))
    assert (cells["network ms"], cells["float32 ms"]) == ("2.00", "4.00")
    assert cells["640x480 frame to mask ms"] == "1.50 with onnx-float32"


def test_no_file_that_runs_is_an_error(peers: Any) -> None:
    with pytest.raises(SystemExit):
        choose(peers, ("onnx-int8", 0.7, None))


def test_a_mask_of_another_size_is_refused(peers: Any, tmp_path: Path) -> None:
    from edgeseg.data.dataset import LabelledImage

    case = Case("a", tmp_path / "a.png", (), "g")
    image = LabelledImage(case, np.zeros((4, 6), np.uint8), (np.zeros((4, 6), np.uint8),))
    for size in ((4, 6), (6, 4)):
        peers.cv2.imwrite(str(tmp_path / "mask.png"), np.full(size, 255, np.uint8))
        if size == image.size:
            assert peers.read_mask(tmp_path / "mask.png", image).all()
        else:
            with pytest.raises(SystemExit):
                peers.read_mask(tmp_path / "mask.png", image)


def test_an_installation_holds_what_a_package_needs(peers: Any) -> None:
    alone, more = peers.measure_install(["numpy"]), peers.measure_install(["edgeseg"])
    assert alone["packages"] == 1
    assert more["packages"] > 5
    assert more["mb"] > alone["mb"] > 1
