"""A network with EfficientNet-Lite0's encoder: its weights, and its way from training to the board."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.parity import measure_parity
from edgeseg.compression.compress import check_recipes
from edgeseg.compression.context import open_run
from edgeseg.compression.finetune import quantise_model, set_ranges
from edgeseg.compression.recipe import load_recipe
from edgeseg.convert.tflite import convert_model
from edgeseg.core.card import OK
from edgeseg.core.errors import EdgesegError, RecipeError, TrainingError
from edgeseg.core.files import partial_path
from edgeseg.core.modelfile import read_model
from edgeseg.core.schema import from_plain, to_plain
from edgeseg.graph.lint import lint_graph
from edgeseg.graph.operators import read_graph
from edgeseg.model import pretrained, unet
from edgeseg.model.keras import keras
from edgeseg.model.pretrained import load_encoder
from edgeseg.model.spec import LITE0, UNetSpec
from edgeseg.report.network import save_network_picture
from edgeseg.training.options import CONFIG, FEWEST_PRETRAINED, TrainOptions, plan_epochs, read_config
from edgeseg.training.resume import Checkpoint
from edgeseg.training.start import load_network, start_from
from edgeseg.training.trainer import resume_run, train_run
from tests.torchfiles import install_weights, write_tensors

pytestmark = pytest.mark.integration

OPTIONS = TrainOptions("nano", 32, epochs=2, encoder=LITE0, learning_rate=1e-12, ema=0.0, seed=3)
BLOCKS = (
    ("stem", ((1, 3, 1, 1, 8),)),
    ("down0", ((2, 3, 2, 2, 8),)),
    ("down1", ((1, 5, 2, 2, 8),)),
    ("down2", ((1, 3, 2, 2, 8),)),
    ("down3", ((1, 5, 2, 2, 16),)),
)


@pytest.fixture(autouse=True)
def few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the encoder have fewer and narrower blocks, of which every kind is left."""
    monkeypatch.setattr(unet, "LITE0_STEM", 8)
    monkeypatch.setattr(unet, "LITE0_BLOCKS", BLOCKS)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Install weights that fit the few blocks."""
    tensors = make_tensors()
    content = write_tensors(tensors)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    install_weights(tmp_path / "packages", content)
    monkeypatch.setattr(pretrained, "SHA256", hashlib.sha256(content).hexdigest())
    return tensors


def describe(**changes: Any) -> UNetSpec:
    return TrainOptions(**{"size": 64, "model": "nano", **changes}, encoder=LITE0).describe_network(1, 2)


def make_tensors() -> dict[str, Any]:
    random = np.random.default_rng(0)
    tensors: dict[str, Any] = {}

    def add(name: str, *shape: int) -> None:
        tensors[f"{name}.weight"] = random.normal(0, np.prod(shape[1:]) ** -0.5, shape).astype(np.float32)

    def add_norm(name: str, width: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{name}.{part}"] = random.uniform(0.5, 1.5, width).astype(np.float32)

    add("_conv_stem", 8, 3, 3, 3)
    add_norm("_bn0", 8)
    number, width = 0, 8
    for _, ((repeats, kernel, _, expansion, channels),) in BLOCKS:
        for _ in range(repeats):
            name, wide = f"_blocks.{number}", width * expansion
            if expansion > 1:
                add(f"{name}._expand_conv", wide, width, 1, 1)
                add_norm(f"{name}._bn0", wide)
            add(f"{name}._depthwise_conv", wide, 1, kernel, kernel)
            add(f"{name}._project_conv", channels, wide, 1, 1)
            add_norm(f"{name}._bn1", wide)
            add_norm(f"{name}._bn2", channels)
            number, width = number + 1, channels
    return tensors


def test_the_stem_sees_a_frame_as_the_photographs_were_seen() -> None:
    tensors, frame = make_tensors(), np.random.default_rng(1).uniform(0, 1, (1, 64, 64, 1)).astype(np.float32)
    results = []
    for colour in ("grey", "rgb"):
        model = unet.build_unet(describe(colour=colour))
        assert load_encoder(model, tensors) == 2 + 4 + 5 * 6
        stem = keras.Model(model.input, model.get_layer("stem_norm").output)
        results.append(stem(frame if colour == "grey" else frame.repeat(3, axis=-1)).numpy())
    assert np.allclose(results[0], results[1], atol=1e-5)
    # one place inside, by hand: stride 2 with TensorFlow's padding, behind at even sizes
    seen = (frame[0, 20:23, 30:33].repeat(3, axis=-1) * 255 - 127) / 128
    whole = np.einsum("yxc,ocyx->o", seen, tensors["_conv_stem.weight"])
    norm = [tensors[f"_bn0.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    expected = (whole - norm[2]) / np.sqrt(norm[3] + 1e-3) * norm[0] + norm[1]
    assert np.allclose(results[0][0, 10, 15], expected, atol=1e-4)


def test_weights_of_another_shape_are_refused_by_the_layer() -> None:
    tensors = make_tensors()
    tensors["_blocks.1._expand_conv.weight"] = np.zeros((4, 4, 1, 1), np.float32)
    with pytest.raises(TrainingError, match="down0_block1_expand"):
        load_encoder(unet.build_unet(describe()), tensors)


@pytest.mark.parametrize("changes", [{}, {"model": "classic", "colour": "rgb", "convolution": "separable"}])
def test_the_network_is_counted_quantised_drawn_and_fits_the_edge_tpu(changes: dict[str, Any], tmp_path: Path) -> None:
    if changes.get("model") == "classic":
        changes = changes | {"skip": "concat"}
    spec = describe(**changes)
    parent = unet.build_unet(spec)
    load_encoder(parent, make_tensors())
    stages = unet.summarise_stages(parent)
    assert sum(stage.parameters for stage in stages) == parent.count_params()
    assert sum(stage.macs for stage in stages) == read_graph(convert_model(parent, "float32")).macs
    assert [stage.name for stage in stages if stage.name != "finding"] == ["stem", *spec.stages, "head"]
    assert {stage.name: stage.height for stage in stages}["down3"] == 2
    save_network_picture(tmp_path / "net.png", spec, stages)
    images = np.random.default_rng(1).uniform(0, 1, (8, 64, 64, spec.channels)).astype(np.float32)
    copy = quantise_model(parent)
    set_ranges(copy, parent, images)
    masks, _ = parent(images)
    assert np.abs(copy(images)[0].numpy() - masks.numpy()).mean() < 0.05
    for flatbuffer in (convert_model(parent, "int8", images), convert_model(copy, "int8")):
        assert lint_graph(read_graph(flatbuffer)) == {"cpu": OK, "edgetpu": OK}


def test_training_starts_from_the_weights_goes_on_and_is_a_start_itself(
    disc_data: Path, tmp_path: Path, weights: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    save = Checkpoint.save

    def save_and_stop(self: Checkpoint, epochs: int) -> None:
        save(self, epochs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_run(disc_data, run, OPTIONS)
    with monkeypatch.context() as patch:
        # the checkpoint has all that is needed
        patch.setattr(pretrained, "SHA256", "")
        record = resume_run(disc_data, run)
    assert (record.spec.encoder, record.name) == (LITE0, "discs-lite0-nano")
    model = load_network(run, record)
    kernel = weights["_blocks.1._depthwise_conv.weight"].transpose(2, 3, 0, 1)
    assert np.allclose(model.get_layer("down0_block1_depthwise").depthwise_kernel.numpy(), kernel, atol=1e-4)
    assert read_config(run / CONFIG)["encoder"] == LITE0
    file = read_model(run / "model.tflite")
    assert file.card.provenance.model == "lite0-nano"
    parity = measure_parity(CpuBackend(file.flatbuffer), file)
    assert parity is not None
    assert parity.held
    other = unet.build_unet(describe(size=32))
    assert start_from(other, run) == 36
    with pytest.raises(EdgesegError, match="stem"):
        start_from(unet.build_unet(TrainOptions("nano", 32).describe_network(1)), run)
    context = open_run(run)
    check_recipes([load_recipe("int8-ptq"), load_recipe("int8-qat")], context, run)
    with pytest.raises(RecipeError, match=LITE0):
        check_recipes([load_recipe("prune50-int8-qat")], context, run)


def test_a_training_without_the_weights_ends_before_it_reads_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path / "packages")
    install_weights(tmp_path / "packages", b"other")
    with pytest.raises(TrainingError, match="SHA-256"):
        train_run(tmp_path / "nothing", tmp_path / "run", OPTIONS)
    assert not partial_path(tmp_path / "run").exists()


def test_the_options_of_older_versions_are_read() -> None:
    plain = to_plain(TrainOptions(learning_rate=2e-3))
    del plain["encoder"]
    assert from_plain(TrainOptions, plain).rate == TrainOptions().rate == 2 * TrainOptions(encoder=LITE0).rate
    spec = to_plain(TrainOptions().describe_network(1))
    del spec["encoder"]
    assert from_plain(UNetSpec, spec) == TrainOptions().describe_network(1)
    assert TrainOptions(encoder=LITE0, learning_rate=0.01).rate == 0.01


def test_a_trained_encoder_takes_fewer_epochs() -> None:
    assert plan_epochs(60, 8, LITE0) == 150
    assert {plan_epochs(images, 8, LITE0) for images in (600, 60_000)} == {FEWEST_PRETRAINED}


@pytest.mark.parametrize("changes", [{"stem": "half"}, {"stem": "full"}])
def test_a_stem_that_the_encoder_has_not_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="quarter"):
        TrainOptions(encoder=LITE0, **changes)
