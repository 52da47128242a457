"""Every recipe on a tiny run: zeros that stay zeros, a teacher of another size, and the error of every layer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeseg.backends.cpu import CpuBackend
from edgeseg.core.errors import DataError, RecipeError, RunError, UnknownNameError
from edgeseg.core.modelfile import read_model
from edgeseg.core.spec import ClassSpec, InputSpec, OutputSpec
from edgeseg.frame.postprocess import SCORE_ONE
from tests.commands import assert_says

if TYPE_CHECKING:
    from edgeseg.compression.compress import Outcome
    from edgeseg.compression.context import CompressContext
    from edgeseg.training.run import RunRecord

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def context(trained_run: Path) -> CompressContext:
    """Open the session's run once."""
    from edgeseg.compression.context import open_run

    return open_run(trained_run)


@pytest.mark.parametrize(("precision", "ends"), [("dynamic-int8", "float32"), ("int16x8", "int16")])
def test_other_precisions_draw_nearly_the_float_masks(
    precision: str, ends: str, context: CompressContext, compressed: tuple[Path, Outcome]
) -> None:
    from edgeseg.compression.compress import make_flatbuffer
    from edgeseg.compression.context import plan_distillation
    from edgeseg.compression.recipe import load_recipe
    from edgeseg.frame.postprocess import tensor_to_scores
    from edgeseg.frame.preprocess import pixels_to_tensor

    pixels = context.train.images[0]
    scores = {}
    for name, flatbuffer in {
        "float32": read_model(compressed[0] / "float32.tflite").flatbuffer,
        precision: make_flatbuffer(context, plan_distillation(context), load_recipe(precision), context.model),
    }.items():
        backend = CpuBackend(flatbuffer)
        output = backend.invoke(pixels_to_tensor(pixels, backend.input.quantisation))[0]
        scores[name] = tensor_to_scores(output, backend.outputs[0].quantisation).astype(int)
    assert (backend.input.quantisation.dtype, backend.outputs[0].quantisation.dtype) == (ends, ends)
    half = SCORE_ONE // 2
    assert np.mean((scores["float32"] > half) != (scores[precision] > half)) < 0.01
    assert (scores["float32"] > half).any()


def test_zeros_stay_zeros_through_quantisation_aware_training_and_what_draws_the_masks_has_none(
    context: CompressContext,
) -> None:
    from edgeseg.compression.compress import make_flatbuffer
    from edgeseg.compression.context import plan_distillation
    from edgeseg.compression.finetune import sparsify_model
    from edgeseg.compression.recipe import QatStep, Recipe, SparsifyStep
    from edgeseg.graph.summary import measure_sparsity
    from edgeseg.model.unet import build_unet

    shallow = dataclasses.replace(context, model=build_unet(dataclasses.replace(context.record.spec, widths=(16, 32))))
    step, distillation = SparsifyStep(0.5, 2, 1e-3, 0.5), plan_distillation(shallow)
    sparse = sparsify_model(shallow.model, step, distillation)
    recipe = Recipe("sparse", "", "int8", sparsify=step, qat=QatStep(1, 1e-3, 0.5))
    assert 0.495 <= measure_sparsity(make_flatbuffer(shallow, distillation, recipe, sparse)) < 0.6
    assert np.count_nonzero(sparse.get_layer("head").kernel.numpy()) == sparse.get_layer("head").kernel.shape[2]
    assert np.count_nonzero(sparse.get_layer("down1_b").kernel.numpy() == 0) > 0


def test_packed_file_says_the_same_in_fewer_bytes(context: CompressContext) -> None:
    from edgeseg.backends.cpu import CpuBackend
    from edgeseg.compression.context import pick_calibration
    from edgeseg.convert.tflite import compact_flatbuffer, convert_model
    from edgeseg.frame.preprocess import pixels_to_tensor
    from edgeseg.graph.operators import read_graph

    plain = convert_model(context.model, "int8", pick_calibration(context.train, 8))
    packed = compact_flatbuffer(plain)
    pixels = pixels_to_tensor(context.train.images[0], CpuBackend(plain).input.quantisation)
    np.testing.assert_array_equal(CpuBackend(packed).invoke(pixels)[0], CpuBackend(plain).invoke(pixels)[0])
    assert len(packed) < 0.97 * len(plain)
    assert compact_flatbuffer(packed) == packed
    tensors = {t.index: t.name for o in read_graph(packed).operators for t in (*o.inputs, *o.outputs)}
    assert len(set(tensors.values())) == len(tensors), "a runtime may take tensors of one name for the same"


def test_too_few_zeros_are_refused() -> None:
    from edgeseg.compression.finetune import check_sparsity

    check_sparsity(0.495, 0.5)
    with pytest.raises(RecipeError, match=r"50%.*31\.0%"):
        check_sparsity(0.31, 0.5)


@pytest.mark.parametrize(
    ("change", "recipe", "sentence", "hint"),
    [
        (
            {"convolution": "separable"},
            "sparse50-int8-qat",
            r"54%.* 4\d\.\d%.*\w+_depthwise",
            "--convolution plain",
        ),
        ({"upsampling": "transpose"}, "smallest", "up0_reduce.*Conv2DTranspose", "int8-ptq"),
    ],
)
def test_zeros_that_the_network_cannot_have_are_refused_before_any_training(
    change: dict[str, Any], recipe: str, sentence: str, hint: str, context: CompressContext, trained_run: Path
) -> None:
    from edgeseg.compression.compress import check_recipes
    from edgeseg.compression.recipe import load_recipe
    from edgeseg.model.unet import build_unet

    spec = dataclasses.replace(context.record.spec, widths=(16, 32), **change)
    other = dataclasses.replace(context, model=build_unet(spec), record=dataclasses.replace(context.record, spec=spec))
    wanted = dataclasses.replace(load_recipe(recipe), prune=None)
    with pytest.raises(RecipeError, match=sentence) as caught:
        check_recipes([wanted], other, trained_run)
    assert hint in caught.value.hint
    check_recipes([load_recipe("int8-qat"), wanted], context, trained_run)


@pytest.mark.parametrize("steps", [2, 7, 60, 1000])
def test_schedule_reaches_its_target_in_any_number_of_steps(steps: int) -> None:
    from edgeseg.compression.finetune import plan_sparsity

    schedule = plan_sparsity(0.5, steps)
    thinned = [schedule(step) for step in range(steps)]
    assert max(float(share) for now, share in thinned if bool(now)) == pytest.approx(0.5)


def test_classic_is_trained_and_followed_on_the_students_grid(
    context: CompressContext, trained_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its widths are made narrow here, and its size another one than the student's."""
    from edgeseg.model.spec import SIZES
    from edgeseg.model.unet import find_mask_shape, split_outputs
    from edgeseg.training.distillation import open_teacher
    from edgeseg.training.options import TrainOptions
    from edgeseg.training.trainer import train_run

    monkeypatch.setitem(SIZES, "classic", dataclasses.replace(SIZES["classic"], widths=(8, 8, 16)))
    options = TrainOptions("classic", 32, epochs=1, seed=context.record.options.seed)
    record = train_run(trained_data, tmp_path / "teacher", options, test=False)
    assert (record.spec.skip, record.spec.upsampling, record.spec.stem) == ("concat", "transpose", "full")
    taught = open_teacher(tmp_path / "teacher", context.record)(context.train.images[:2].astype(np.float32) / 255)
    masks, _ = split_outputs(taught)
    assert tuple(masks.shape) == (2, *find_mask_shape(context.model))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"output": OutputSpec((ClassSpec("target"),), "softmax")}, "softmax"),
        ({"input": InputSpec(64, 64, colour="rgb")}, "frame"),
        ({"input": InputSpec(64, 128)}, "frame"),
        ({"seed": 8}, "test cases"),
        ({"split_fingerprint": "other groups"}, "test cases"),
    ],
)
def test_teacher_that_does_not_fit_is_refused(change: dict[str, Any], reason: str, trained_run: Path) -> None:
    from edgeseg.training.distillation import check_teacher
    from edgeseg.training.run import read_run

    student = read_run(trained_run)
    fields = dict(change)
    if "seed" in fields:
        fields = {"split": dataclasses.replace(student.split, seed=fields["seed"])}
    with pytest.raises(RunError, match=reason):
        check_teacher(trained_run, dataclasses.replace(student, **fields), student)
    check_teacher(trained_run, dataclasses.replace(student, input=InputSpec(128, 128)), student)


@pytest.mark.parametrize(("activation", "channels"), [("sigmoid", (1, 0)), ("softmax", (0, 2, 1))])
def test_teacher_of_the_same_classes_in_another_order_is_followed_by_name(
    activation: str, channels: tuple[int, ...], trained_run: Path
) -> None:
    from edgeseg.training.distillation import check_teacher
    from edgeseg.training.run import read_run

    def name(*classes: str) -> RunRecord:
        output = OutputSpec(tuple(ClassSpec(one) for one in classes), activation)
        run = read_run(trained_run)
        spec = dataclasses.replace(run.spec, findings=0)
        return dataclasses.replace(run, output=output, finding=None, finding_weights=(), spec=spec)

    student = name("nerve", "vessel")
    assert check_teacher(trained_run, name("vessel", "nerve"), student) == channels
    with pytest.raises(DataError, match="vessel, plexus"):
        check_teacher(trained_run, name("vessel", "plexus"), student)
    assert check_teacher(trained_run, name("vessel", "plexus"), student, {"nerve": "plexus"}) == channels


def test_a_gate_that_was_not_judged_is_no_praise(
    compressed: tuple[Path, Outcome],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    import shutil

    import typer

    from edgeseg.cli.compress import tell_outcome
    from edgeseg.report.compression import write_compression_report

    folder, outcome = compressed
    report = outcome.report
    assert (report.gate["held"], report.gate["judged"]) == (True, True)
    doubt = "Not judged: the float model itself is useless."
    doubted = dataclasses.replace(
        report, gate={**report.gate, "held": False, "judged": False}, advice=doubt, notices=("Nothing is marked.",)
    )
    with pytest.raises(typer.Exit) as raised:
        tell_outcome(doubted, tmp_path)
    assert raised.value.exit_code == 3
    said = capsys.readouterr()
    assert "chosen:" not in said.out
    assert doubt in said.err
    assert "Nothing is marked." in caplog.text
    for file in ("float32.tflite", f"{report.chosen}.tflite"):
        shutil.copy(folder / file, tmp_path)
    write_compression_report(tmp_path, folder.parent / "run", dataclasses.replace(outcome, report=doubted, cases=()))
    page, text = ((tmp_path / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert '<span class="pill bad">Gate not judged</span>' in page
    assert "Gate held" not in page + text
    assert "edgeseg deploy" not in page
    assert "- Nothing is marked." in text


def test_every_layer_of_every_file_is_compared_with_float(compressed: tuple[Path, Outcome]) -> None:
    report = json.loads((compressed[0] / "report.json").read_text(encoding="utf-8"))
    layers = {variant["name"]: variant["layers"] for variant in report["variants"]}
    assert layers["float32"] == []
    assert [layer["layer"] for layer in layers["int8-ptq"]] == [layer["layer"] for layer in layers["int8-qat"]]
    assert {"stem", "head"} <= {layer["layer"] for layer in layers["int8-ptq"]}
    assert all(0.0 < layer["error"] < 0.5 for layer in layers["int8-ptq"])
    worst = {name: max(layer["error"] for layer in layers[name]) for name in ("float16", "int8-ptq")}
    assert worst["float16"] < worst["int8-ptq"] / 3


def test_a_damaged_layer_is_found(compressed: tuple[Path, Outcome], context: CompressContext) -> None:
    from edgeseg.compression.evaluate import compare_layers
    from edgeseg.convert.tflite import convert_model
    from edgeseg.model.keras import keras

    parent = read_model(compressed[0] / "float32.tflite")
    damaged = keras.models.clone_model(context.model)
    damaged.set_weights(context.model.get_weights())
    damaged.get_layer("up0_a").kernel.assign(damaged.get_layer("up0_a").kernel * 0.5)
    child = dataclasses.replace(parent, flatbuffer=convert_model(damaged, "float32"))
    errors = {layer.layer: layer.error for layer in compare_layers(parent, child, context.train.images[:1])}
    names = list(errors)
    assert errors[names[names.index("up0_a") - 1]] < 1e-4
    assert errors["up0_a"] > 0.1
    assert compare_layers(parent, read_model(compressed[0] / "int8-ptq.tflite"), context.train.images[:1])


def test_report_tells_what_it_takes_to_repeat_it(compressed: tuple[Path, Outcome]) -> None:
    folder, outcome = compressed
    page, text = ((folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    convolutions = f"{outcome.report.variants[0].operators['CONV_2D']} CONV_2D"
    for fact in ("--model nano --size 64", "recipes/int8-qat.toml", outcome.report.data_fingerprint, convolutions):
        assert fact in page
        assert fact in text
    assert "up0_reduce" in page
    assert {path.stem for path in (folder / "recipes").iterdir()} == {"float16", "int8-ptq", "int8-qat"}
    assert text.count("| int8-ptq |") == 3


def test_commands_to_repeat_it_say_how_the_data_were_divided_and_where_it_started(
    trained_run: Path, compressed: tuple[Path, Outcome]
) -> None:
    from edgeseg.report.compression import write_commands
    from edgeseg.training.run import read_run

    record = read_run(trained_run)
    split = dataclasses.replace(record.split, layout="plain", group_pattern=r"^(p\d) ", folds=5)
    train, _ = write_commands(compressed[1].report, dataclasses.replace(record, split=split, init="heads-nano"))
    assert train.endswith(r"--seed 3 --layout plain --group-pattern '^(p\d) ' --folds 5 --init INIT")


def test_too_few_calibration_images_are_refused(context: CompressContext) -> None:
    from edgeseg.compression.context import pick_calibration
    from edgeseg.training.grids import GridArrays

    few = GridArrays(context.train.images[:5], context.train.masks[:5])
    with pytest.raises(DataError, match=r"\b8\b.*calibration.*\b5\b"):
        pick_calibration(few, 128)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (np.zeros((2, 32, 32, 1), np.float32), r"\(64, 64, 1\)"),
        (np.full((2, 64, 64, 1), 255, np.float32), "from 0 to 1"),
    ],
)
def test_calibration_images_that_do_not_fit_are_refused(images: Any, reason: str, context: CompressContext) -> None:
    from edgeseg.convert.tflite import convert_model

    with pytest.raises(DataError, match=reason):
        convert_model(context.model, "int8", images)


def test_operator_that_has_no_integers_is_named() -> None:
    from edgeseg.convert.tflite import convert_model
    from edgeseg.core.errors import ModelFileError
    from edgeseg.model.keras import keras, tf

    image = keras.Input((16, 16, 1))
    steps = keras.layers.Lambda(tf.math.floor)(keras.layers.Conv2D(4, 3)(image))
    model = keras.Model(image, keras.layers.Conv2D(1, 1)(steps))
    with pytest.raises(ModelFileError, match=r"float.*FLOOR") as caught:
        convert_model(model, "int8", np.random.default_rng(0).uniform(0, 1, (2, 16, 16, 1)).astype(np.float32))
    assert "bilinear UpSampling2D" in caught.value.hint


def test_open_shapes_are_refused() -> None:
    from edgeseg.convert.tflite import check_static
    from edgeseg.core.errors import ModelFileError
    from edgeseg.graph.operators import Graph, Operator, Tensor

    open_tensor = Tensor((1, 8, 8, 1), "float32", constant=False, dynamic=True)
    with pytest.raises(ModelFileError, match="CONV_2D"):
        check_static(Graph((Operator("CONV_2D", 1, (), (open_tensor,), 0),), 0))


def test_layer_kept_in_float_departs_less_and_the_file_is_judged_like_all_others(
    trained_run: Path, compressed: tuple[Path, Outcome], tmp_path: Path
) -> None:
    from edgeseg.compression.compress import compress_run
    from edgeseg.compression.gate import Gate
    from edgeseg.compression.recipe import Recipe
    from edgeseg.graph.operators import read_graph

    recipe = Recipe("mixed", "", "int8", keep_float=("head", "up0_a"))
    report = compress_run(trained_run, tmp_path, [recipe], Gate(max_drop=0.05, targets=("edgetpu",))).report
    plain = next(variant for variant in compressed[1].report.variants if variant.name == "int8-ptq")
    mixed = report.variants[1]
    before, after = ({layer.layer: layer.error for layer in variant.layers} for variant in (plain, mixed))
    assert all(after[layer] < before[layer] for layer in recipe.keep_float)
    assert mixed.dice.mean == pytest.approx(report.variants[0].dice.mean, abs=0.05)
    assert mixed.operators["CONV_2D"] == plain.operators["CONV_2D"]

    model = read_model(tmp_path / "mixed.tflite")
    floats = [o for o in read_graph(model.flatbuffer).operators if o.is_float and not o.is_conversion]
    assert [operator.name for operator in floats] == ["CONV_2D", "CONV_2D"]
    assert (model.card.input_quantisation.dtype, model.card.output_quantisation.dtype) == ("int8", "int8")
    assert (report.gate["held"], mixed.lint["cpu"]) == (False, "ok")
    assert_says(report.advice, "mixed", "edgetpu: DEQUANTIZE")


@pytest.mark.parametrize(("layer", "hint"), [("hed", "head?"), ("nothing", "Known: down0_a, down0_b")])
def test_layers_that_the_network_does_not_have_are_refused(
    layer: str, hint: str, context: CompressContext, trained_run: Path
) -> None:
    from edgeseg.compression.compress import check_recipes
    from edgeseg.compression.recipe import Recipe

    with pytest.raises(UnknownNameError, match=f"layer.*'{layer}'") as caught:
        check_recipes([Recipe("mine", "", "int8", keep_float=("head", layer))], context, trained_run)
    assert hint in caught.value.hint


def test_keeping_every_layer_in_float_is_refused(
    context: CompressContext, trained_run: Path, compressed: tuple[Path, Outcome]
) -> None:
    from edgeseg.compression.compress import check_recipes
    from edgeseg.compression.recipe import Recipe

    everything = tuple(layer.layer for layer in compressed[1].report.variants[1].layers)
    with pytest.raises(RecipeError, match="int8"):
        check_recipes([Recipe("mine", "", "int8", keep_float=everything)], context, trained_run)
