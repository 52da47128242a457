"""The whole thread on tiny data: train, compress, evaluate, inspect, bench and stream, with the real libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeseg.core.errors import DataError, RunError
from edgeseg.core.modelfile import read_model
from edgeseg.data.dataset import open_dataset, read_case
from edgeseg.inference.segmenter import Segmenter

if TYPE_CHECKING:
    from edgeseg.compression.compress import Outcome

pytestmark = pytest.mark.integration

VARIANTS = ("float32", "float16", "int8-ptq", "int8-qat")


def run_edgeseg(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    command = [sys.executable, "-m", "edgeseg", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_training_finds_the_discs(trained_run: Path) -> None:
    record = json.loads((trained_run / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == "finished"
    assert record["evaluation"]["dice"]["mean"] > 0.8
    assert (trained_run / "history.csv").read_text(encoding="utf-8").count("\n") == 25


def test_keras_and_tflite_draw_the_same_masks(trained_run: Path, trained_data: Path) -> None:
    from edgeseg.backends.cpu import CpuBackend
    from edgeseg.model.unet import build_unet, split_outputs
    from edgeseg.training.grids import to_grid, to_reals
    from edgeseg.training.run import WEIGHTS, read_run

    def draw(model: Any) -> Any:
        return split_outputs(model(images, training=False))[0].numpy()

    record, model = read_run(trained_run), read_model(trained_run / "model.tflite")
    keras_model = build_unet(record.spec)
    keras_model.load_weights(trained_run / WEIGHTS)
    images = to_reals(to_grid([read_case(case) for case in open_dataset(trained_data).cases[:4]], record.input).images)
    backend = CpuBackend(model.flatbuffer)
    # both outputs: some of the images show no disc, so the run has learned what it finds
    for image, *expected in zip(images, *keras_model.predict(images, verbose=0), strict=True):
        for output, wanted in zip(backend.invoke(image[np.newaxis]), expected, strict=True):
            np.testing.assert_allclose(output[0], wanted, atol=1e-4)


def test_every_variant_is_there_and_keeps_the_dice(compressed: tuple[Path, Outcome]) -> None:
    folder, outcome = compressed
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert tuple(v["name"] for v in report["variants"]) == VARIANTS
    for variant in report["variants"]:
        assert variant["bytes"] == (folder / variant["file"]).stat().st_size
        assert variant["dice_drop"]["mean"] < 0.03
    assert report["chosen"] in VARIANTS[1:]
    assert report["gate"]["held"] is True
    assert len(outcome.cases) > 0


@pytest.mark.parametrize("name", ["int8-ptq", "int8-qat"])
def test_int8_files_compute_with_integers_only_and_take_bytes(compressed: tuple[Path, Outcome], name: str) -> None:
    from edgeseg.graph.operators import read_graph

    model = read_model(compressed[0] / f"{name}.tflite")
    assert not any(operator.is_float for operator in read_graph(model.flatbuffer).operators)
    source, sink = model.card.input_quantisation, model.card.output_quantisation
    assert (source.dtype, source.zero_point) == ("int8", -128)
    assert source.scale == pytest.approx(1 / 255, rel=1e-4)
    assert (sink.scale, sink.zero_point) == (1 / 256, -128)
    assert model.card.lint["edgetpu"] == "ok"


@pytest.mark.parametrize("name", VARIANTS)
def test_golden_pairs_come_out_again(compressed: tuple[Path, Outcome], name: str) -> None:
    model = read_model(compressed[0] / f"{name}.tflite")
    backend = Segmenter(model).selection.backend
    assert model.golden
    for pair in model.golden:
        outputs = backend.invoke(pair.input)
        assert [np.array_equal(*both) for both in zip(outputs, pair.arrays[1:], strict=True)] == [True, True]


def test_card_holds_no_path_and_no_case_name(compressed: tuple[Path, Outcome], trained_data: Path) -> None:
    data = (compressed[0] / "int8-qat.tflite").read_bytes()
    assert str(trained_data.parent).encode() not in data
    assert b"case_0" not in data


def test_plain_litert_loads_the_file(int8_model: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(int8_model))
    interpreter.allocate_tensors()
    assert interpreter.get_input_details()[0]["dtype"] == np.int8


def test_unzip_prints_the_card(int8_model: Path) -> None:
    import zipfile

    with zipfile.ZipFile(int8_model) as archive:
        card: dict[str, Any] = json.loads(archive.read("edgeseg.json"))
    assert card["provenance"]["recipe"] == "int8-ptq"
    assert "no medical device" in card["disclaimer"]


def test_report_needs_nothing_else(compressed: tuple[Path, Outcome]) -> None:
    page = (compressed[0] / "report.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in page
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert 'src="http' not in page


def test_evaluate_agrees_with_the_card(int8_model: Path, trained_data: Path, tmp_path: Path) -> None:
    done = run_edgeseg("evaluate", int8_model, trained_data, "--json", tmp_path / "e.json")
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    metrics = read_model(int8_model).card.metrics
    assert metrics is not None
    assert table["split"] == "test"
    assert table["dice"]["mean"] == metrics.dice.mean
    assert {"cases", "dice", "iou", "precision", "recall", "hd95_px", "per_class", "empty"} <= set(table)


def test_evaluate_takes_a_run_folder(trained_run: Path, trained_data: Path) -> None:
    done = run_edgeseg("evaluate", trained_run, trained_data, "--split", "all")
    assert done.returncode == 0, done.stderr
    assert "all cases" in done.stdout


def test_evaluate_on_other_data_takes_all_of_it(int8_model: Path, disc_data: Path, tmp_path: Path) -> None:
    done = run_edgeseg("evaluate", int8_model, disc_data, "--json", tmp_path / "e.json")
    table = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    assert (done.returncode, table["split"]) == (0, "all")
    assert table["cases"] + table["empty"]["cases"] == 10


def test_inspect_tells_card_and_operators(int8_model: Path, tmp_path: Path) -> None:
    done = run_edgeseg("inspect", int8_model, "--json", tmp_path / "i.json")
    table = json.loads((tmp_path / "i.json").read_text(encoding="utf-8"))
    assert done.returncode == 0, done.stderr
    assert "CONV_2D" in done.stdout
    assert sum(row["macs"] for row in table["operators"]) == table["card"]["macs"] > 0
    assert table["golden_pairs"] == 2


def test_bench_compares_files(compressed: tuple[Path, Outcome], tmp_path: Path) -> None:
    folder = compressed[0]
    done = run_edgeseg(
        "bench", folder / "float32.tflite", folder / "int8-ptq.tflite", "--runs", "20", "--json", tmp_path / "b.json"
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))["results"]
    assert [r["model"] for r in results] == ["float32.tflite", "int8-ptq.tflite"]
    assert {"model", "backend", "threads", "runs", "latency_ms", "load_ms", "first_inference_ms", "peak_rss_mb"} <= set(
        results[0]
    )
    assert set(results[0]["latency_ms"]) == {"preprocess", "invoke", "postprocess", "total"}
    assert "XNNPACK" in results[0]["host"]["runtime"]


def test_stream_counts_every_frame(int8_model: Path, tmp_path: Path) -> None:
    done = run_edgeseg(
        "stream", int8_model, "--source", "phantom://?frames=40&size=96", "--view", "none", "--budget-ms", "5000",
        "--json", tmp_path / "s.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    frames = table["frames"]
    assert frames["captured"] == 40
    assert frames["processed"] + frames["dropped"] == 40
    assert table["verdict"] == "held"
    assert table["backend"] == {**table["backend"], "name": "cpu", "requested": "auto", "fallback_reason": None}


def test_missed_budget_is_exit_code_3(int8_model: Path, disc_data: Path, tmp_path: Path) -> None:
    done = run_edgeseg(
        "stream", int8_model, "--source", disc_data, "--view", "none", "--budget-ms", "0.001", "--json",
        tmp_path / "s.json",
    )  # fmt: skip
    assert done.returncode == 3
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["verdict"] == "missed"


def test_changed_data_are_noticed(trained_run: Path, trained_data: Path, tmp_path: Path) -> None:
    import shutil

    from edgeseg.compression.context import open_run
    from edgeseg.frame.images import write_image

    run, data = tmp_path / "run", tmp_path / "discs"
    shutil.copytree(trained_run, run)
    shutil.copytree(trained_data, data)
    frame = read_case(open_dataset(data).cases[0]).frame
    write_image(data / "images" / "case_00.png", frame // 2)
    with pytest.raises(DataError, match="changed folder"):
        open_run(run)
    shutil.rmtree(data)
    with pytest.raises(DataError, match="nothing there"):
        open_run(run)


def test_interrupted_training_is_told(trained_run: Path, tmp_path: Path) -> None:
    import shutil

    from edgeseg.training.run import read_run

    partial = tmp_path / "run.partial"
    shutil.copytree(trained_run, partial)
    record = json.loads((partial / "run.json").read_text(encoding="utf-8"))
    (partial / "run.json").write_text(json.dumps(record | {"status": "training"}), encoding="utf-8")
    for path in (partial, tmp_path / "run"):
        with pytest.raises(RunError, match="interrupted"):
            read_run(path)


def test_quantised_copy_starts_where_the_float_model_is(trained_run: Path, trained_data: Path) -> None:
    from edgeseg.compression.finetune import quantise_model, set_ranges
    from edgeseg.model.unet import build_unet, split_outputs
    from edgeseg.training.grids import to_grid, to_reals
    from edgeseg.training.run import WEIGHTS, read_run

    def draw(model: Any) -> Any:
        return split_outputs(model(images, training=False))[0].numpy()

    record = read_run(trained_run)
    parent = build_unet(record.spec)
    parent.load_weights(trained_run / WEIGHTS)
    images = to_reals(to_grid([read_case(case) for case in open_dataset(trained_data).cases[:16]], record.input).images)
    expected = draw(parent)
    copy = quantise_model(parent)
    before = float(np.abs(draw(copy) - expected).mean())
    set_ranges(copy, parent, images)
    after = float(np.abs(draw(copy) - expected).mean())
    assert after < 0.02
    assert after < before / 2


def test_layers_that_tfmot_cannot_take_are_named() -> None:
    from edgeseg.compression.finetune import quantise_model
    from edgeseg.core.errors import RecipeError
    from edgeseg.model.keras import keras, tf

    class Odd(keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return tf.math.atan(inputs)

    image = keras.Input((32, 32, 1))
    with pytest.raises(RecipeError, match=r"tfmot can quantise.*(arcus|Odd)") as caught:
        quantise_model(keras.Model(image, Odd(name="arcus")(image)))
    assert "int8-ptq" in caught.value.hint
