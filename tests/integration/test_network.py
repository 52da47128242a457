"""Every network of the family has the size it says, goes through quantisation, and is shown as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.cli.app import main
from edgeseg.compression.finetune import quantise_model, set_ranges
from edgeseg.convert.tflite import convert_model
from edgeseg.core.card import OK
from edgeseg.core.modelfile import read_model
from edgeseg.frame.images import read_image
from edgeseg.graph.lint import lint_graph
from edgeseg.graph.operators import read_graph
from edgeseg.inference.segmenter import Segmenter
from edgeseg.model.keras import keras
from edgeseg.model.spec import SIZES, UNetSpec, find_size
from edgeseg.model.unet import build_unet, summarise_stages
from edgeseg.report.network import save_network_picture
from edgeseg.training.distillation import distillation_loss
from edgeseg.training.loading import add_background
from edgeseg.training.options import TrainOptions
from edgeseg.training.trainer import train_run

pytestmark = pytest.mark.integration

MILLIONS = {"nano": (0.02, 0.04), "micro": (0.10, 0.16), "small": (0.3, 0.5), "base": (1.0, 2.0), "classic": (30, 32)}
KINDS: dict[str, dict[str, Any]] = {
    "separable on a depth stem": {"convolution": "separable", "stem": "depth", "channels": 3},
    "softmax": {"activation": "softmax", "outputs": 2, "own": {"down0_a": 4, "up0_b": 6}},
    "transpose and concat": {"upsampling": "transpose", "skip": "concat", "l2": 1e-4, "own": {"up0_reduce": 6}},
    "quarter stem": {"stem": "quarter", "own": {"stem": 6, "stem2": 10}},
    "pixels as channels": {"stem": "s2d8", "outputs": 2},
    "separable at full resolution": {"convolution": "separable", "skip": "concat"},
    "late fusion": {"fusion": "late", "channels": 2, "stem": "half", "own": {"stem_m1": 6, "down0_m0_a": 5}},
}


def make_spec(**changes: Any) -> UNetSpec:
    plain: dict[str, Any] = {
        "height": 32,
        "width": 32,
        "channels": 1,
        "outputs": 1,
        "activation": "sigmoid",
        "widths": (8, 12),
    }
    return UNetSpec(**{"widths": (8, 12)} | plain | changes)


def scatter_weights(model: Any) -> Any:
    """Give a fresh network weights as a trained one could have: no bias at zero, no scale at one."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.shape.rank == 1:
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return model


def make_images(spec: UNetSpec, count: int = 8) -> Any:
    shape = (count, spec.height, spec.width, spec.channels)
    return np.random.default_rng(1).uniform(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("name", sorted(MILLIONS))
def test_named_sizes_are_as_large_as_they_say(name: str) -> None:
    low, high = MILLIONS[name]
    model = build_unet(TrainOptions(model=name, size=64).describe_network(1))
    assert low < model.count_params() / 1e6 < high


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        *((name, size.stem) for name, size in SIZES.items() if name != "classic"),
        ("nano", "depth"),
        ("micro", "half"),
        ("base", "full"),
    ],
)
def test_named_sizes_fit_the_edge_tpu(name: str, stem: str) -> None:
    spec = make_spec(height=128, width=128, widths=find_size(name).widths_behind(stem), stem=stem)
    flatbuffer = convert_model(scatter_weights(build_unet(spec)), "int8", make_images(spec, 2))
    assert lint_graph(read_graph(flatbuffer)) == {"cpu": OK, "edgetpu": OK}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_quantised_after_and_during_training(kind: str) -> None:
    spec = make_spec(**KINDS[kind])
    parent, images = scatter_weights(build_unet(spec)), make_images(spec)
    convert_model(parent, "int8", images)  # refuses float operators
    copy = quantise_model(parent)
    set_ranges(copy, parent, images)
    masks = parent(images).numpy()
    assert np.abs(copy(images).numpy() - masks).mean() < 0.03
    copy.compile("sgd", distillation_loss(0.5, spec.activation), run_eagerly=True)
    copy.train_on_batch(images, np.concatenate([masks, masks], axis=-1))
    flatbuffer = convert_model(copy, "int8")
    verdict = lint_graph(read_graph(flatbuffer))["edgetpu"]
    if spec.fusion == "late":
        assert "STRIDED_SLICE" in verdict
        return
    if spec.drawn > 1:
        assert "DEPTH_TO_SPACE" in verdict
        return
    refusal = "SOFTMAX runs over the channels of a picture: train with --activation sigmoid"
    assert verdict == (OK if spec.activation == "sigmoid" else refusal)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_summary_counts_what_is_there(kind: str) -> None:
    spec = make_spec(**KINDS[kind])
    model = build_unet(spec)
    stages = summarise_stages(model)
    assert sum(stage.parameters for stage in stages) == model.count_params()
    assert sum(stage.macs for stage in stages) == read_graph(convert_model(model, "float32")).macs
    names = [stage.name for stage in stages]
    assert names == [*(["stem"] if spec.output_stride > 1 else []), *spec.stages, "head"]


def test_own_widths_are_built() -> None:
    model = build_unet(make_spec(stem="half", own={"stem": 3, "down1_a": 5, "up0_b": 7}))
    for name, width in {"stem": 3, "down0_a": 8, "down1_a": 5, "up0_a": 8, "up0_b": 7}.items():
        assert model.get_layer(name).output_shape[-1] == width


def test_model_summary_prints_and_draws(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["model", "summary", "--model", "nano", "--size", "64"]
    files = ["--picture", str(tmp_path / "net.png"), "--json", str(tmp_path / "net.json")]
    monkeypatch.setattr("sys.argv", ["edgeseg", *arguments, *files])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    table = json.loads((tmp_path / "net.json").read_text(encoding="utf-8"))
    assert f"{sum(stage['parameters'] for stage in table['stages']):,}" in capsys.readouterr().out
    assert read_image(tmp_path / "net.png").shape[1] > 500


@pytest.mark.parametrize("options", [{}, {"findings": 3}, {"stem": "full"}])
def test_every_network_is_drawn(options: dict[str, Any], tmp_path: Path) -> None:
    spec = make_spec(**options)
    stages = summarise_stages(build_unet(spec))
    save_network_picture(tmp_path / "net.png", spec, stages)
    picture = read_image(tmp_path / "net.png")
    assert (picture < 128).mean() > 0.005


def test_background_is_what_no_class_has() -> None:
    masks = np.zeros((2, 2, 2), np.uint8)
    masks[0, :, 0] = masks[0, 0, 1] = 1
    assert add_background(masks).argmax(axis=-1).tolist() == [[2, 1], [0, 0]]
    assert (add_background(masks).sum(axis=-1) == 1).all()


@pytest.mark.usefixtures("shallow_sizes")
def test_colour_and_softmax_go_the_whole_way(disc_data: Path, tmp_path: Path) -> None:
    options = TrainOptions("nano", 32, "depth", epochs=1, colour="rgb", activation="softmax", l2=1e-5)
    record = train_run(disc_data, tmp_path / "run", options)
    model = read_model(tmp_path / "run" / "model.tflite")
    assert (record.spec.channels, record.spec.outputs, len(model.golden)) == (3, 2, 2)
    labels = Segmenter(model).segment(read_image(disc_data / "images" / "case_00.png", colour=True)).labels
    assert set(np.unique(labels)) <= {0, 1}


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_activation_of_a_transposed_convolution_is_split_off(precision: str) -> None:
    image = keras.Input((16, 16, 3))
    larger = keras.layers.Conv2DTranspose(8, 2, 2, activation="relu")(image)
    model = scatter_weights(keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid")(larger)))
    images = np.random.default_rng(1).uniform(0, 1, (4, 16, 16, 3)).astype(np.float32)
    graph = read_graph(convert_model(model, precision, images if precision == "int8" else None))
    assert [operator.name for operator in graph.operators] == ["TRANSPOSE_CONV", "RELU", "CONV_2D", "LOGISTIC"]
    assert graph.operators[0].version == 3
