"""ONNX files draw the masks of the .tflite they were made from: every kind of network, float32 and int8."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeseg.cli.app import main
from edgeseg.convert.tflite import convert_model
from edgeseg.core.card import card_from_json
from edgeseg.core.modelfile import CARD_NAME, GOLDEN_KEY, read_model
from edgeseg.frame.images import read_image
from edgeseg.frame.preprocess import frame_to_pixels
from edgeseg.graph.operators import read_graph
from edgeseg.model.unet import build_unet
from tests.integration.test_network import KINDS, make_images, make_spec, scatter_weights

pytestmark = pytest.mark.integration
onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

STEMS = {f"{stem} stem": {"stem": stem} for stem in ("full", "half", "depth", "s2d8")}


@pytest.mark.parametrize("kind", sorted(KINDS | STEMS))
def test_real_numbers_give_the_same_masks_in_both_precisions(kind: str) -> None:
    from edgeseg.backends.cpu import CpuBackend
    from edgeseg.backends.onnx import OnnxBackend
    from edgeseg.convert.onnx.export import build_model
    from edgeseg.convert.onnx.scheme import Scheme

    spec = make_spec(**(KINDS | STEMS)[kind])
    flatbuffer = convert_model(scatter_weights(build_unet(spec)), "float32")
    image = make_images(spec, 1)
    wanted = CpuBackend(flatbuffer).invoke(image)[0]
    for precision, far in (("float32", 1e-5), ("float16", 0.02)):
        proto = build_model(read_graph(flatbuffer), Scheme(precision))
        assert np.abs(OnnxBackend(proto.SerializeToString()).invoke(image)[0] - wanted).max() < far


@pytest.mark.parametrize(
    ("scheme", "least"),
    [(("int8", "onnxruntime"), 0.99), (("int8", "tensorrt"), 0.98), (("float16", "tensorrt"), 0.99)],
)
def test_an_int8_file_draws_the_same_masks(
    scheme: tuple[str, str], least: float, int8_model: Path, trained_data: Path
) -> None:
    from edgeseg.convert.onnx.export import compare_masks, export_onnx, list_images
    from edgeseg.convert.onnx.scheme import Scheme

    model = read_model(int8_model)
    images = [frame_to_pixels(read_image(path), model.card.input) for path in sorted(trained_data.glob("images/*"))]
    parity = compare_masks(model, export_onnx(model, Scheme(*scheme)).data, list_images(model.card, images))
    assert parity.images == len(images)
    assert parity.mask_iou >= least


def test_a_run_is_exported_with_its_card_and_compared_on_its_validation_cases(
    trained_run: Path, trained_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, figures = tmp_path / "model.onnx", tmp_path / "figures.json"
    arguments = ["export", str(trained_run), "--to", "onnx", "--out", str(out), "--json", str(figures)]
    arguments += ["--data", str(trained_data)]
    monkeypatch.setattr("sys.argv", ["edgeseg", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    table = json.loads(figures.read_text(encoding="utf-8"))
    assert (table["precision"], table["parity"]["mask_iou"]) == ("float32", 1.0)
    assert table["compared_on"] == f"val cases of {trained_data.name}"
    check_metadata(out, trained_run / "model.tflite")


def check_metadata(path: Path, source: Path) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    card, parent = card_from_json(metadata[CARD_NAME], str(path)), read_model(source).card
    assert (card.name, card.provenance, card.input) == (parent.name, parent.provenance, parent.input)
    assert card.input_quantisation.dtype == "float32"
    assert metadata[GOLDEN_KEY]
