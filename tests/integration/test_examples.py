"""Every example runs as it stands."""

from __future__ import annotations

import csv
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeseg.core.modelfile import read_model
from edgeseg.frame.images import read_image
from edgeseg.inference.segmenter import Segmenter
from tests.boards import FAKES, write_program
from tests.discs import make_disc_data
from tests.layouts import write_cine
from tests.networks import save_network

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("shallow_sizes")]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run_example(name: str, *arguments: str | Path, extra: Mapping[str, str] | None = None, code: int = 0) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    here = os.environ | (extra or {})
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=here)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_no_example_is_left_out() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{path.name}"' in tested for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_use_the_front_door_alone(path: Path) -> None:
    assert "edgeseg." not in " ".join(
        re.findall(r"^ *(?:import|from) .*", path.read_text(encoding="utf-8"), re.MULTILINE)
    )


def test_plain_litert_draws_nearly_the_same_mask(int8_model: Path, trained_data: Path, tmp_path: Path) -> None:
    image = trained_data / "images" / "case_00.png"
    run_example("plain_litert.py", int8_model, image, tmp_path / "mask.png")
    plain = np.asarray(cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_GRAYSCALE)) > 0
    own = Segmenter(read_model(int8_model)).segment(read_image(image)).labels > 0
    assert 2 * np.count_nonzero(plain & own) / (np.count_nonzero(plain) + np.count_nonzero(own)) > 0.8


def test_segment_folder_writes_an_overlay_for_every_image(int8_model: Path, disc_data: Path, tmp_path: Path) -> None:
    said = run_example("segment_folder.py", int8_model, disc_data / "images", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.png"))) == said.count("marked") == 10


def test_webcam_streams_and_reports(int8_model: Path) -> None:
    said = run_example("webcam.py", int8_model, "phantom://?size=96", "15")
    assert "15 frames" in said
    assert "http://127.0.0.1:" in said


@pytest.mark.parametrize(
    ("name", "source", "advice"),
    [("webcam.py", "/dev/video99", "camera"), ("jetson_csi.py", "csi://0", "doctor --device NAME")],
)
def test_no_camera_is_a_sentence(name: str, source: str, advice: str, tmp_path: Path) -> None:
    model = save_network(tmp_path / "tiny.tflite").path
    said = run_example(name, model, source, "5", extra={"PATH": str(tmp_path)}, code=1)
    assert said.startswith("Expected ")
    assert advice in said
    assert "Traceback" not in said


def test_watch_area_prints_every_class_in_square_millimetres(int8_model: Path) -> None:
    said = run_example("watch_area.py", int8_model, "phantom://?size=96", "10", "0.2")
    assert said.count("frame ") == 10
    assert "mm2" in said
    assert "budget " in said


def test_jetson_csi_streams_from_a_stand_in_for_the_camera(int8_model: Path, tmp_path: Path) -> None:
    fake = (FAKES / "jetson_gstreamer.py").read_text(encoding="utf-8")
    for name in ("gst-inspect-1.0", "gst-launch-1.0"):
        write_program(tmp_path / name, f"#!{sys.executable}\n{fake}")
    extra = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PIPELINE_LOG": str(tmp_path / "pipeline")}
    said = run_example("jetson_csi.py", int8_model, "csi://0?size=96x64&fps=30", "10", extra=extra)
    pipeline = (tmp_path / "pipeline").read_text(encoding="utf-8")
    assert "nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),width=96,height=64" in pipeline
    assert "10 frames on cpu (LiteRT" in said
    assert "degrees Celsius" in said


def test_coral_usb_runs_a_compiled_file_on_a_stand_in(stub_folder: Path, tmp_path: Path) -> None:
    save_network(tmp_path / "c.tflite", custom="edgetpu-custom-op")
    extra = {"LD_LIBRARY_PATH": str(stub_folder), "STUB": "run"}
    said = run_example("coral_usb.py", tmp_path / "c.tflite", "phantom://?size=96", "5", extra=extra)
    assert said.count(" on the chip") == 5
    assert "Edge TPU usb, delegated parts: 1: first inference" in said


def test_coral_usb_without_its_stick_says_what_to_do(stub_folder: Path, tmp_path: Path) -> None:
    save_network(tmp_path / "c.tflite", custom="edgetpu-custom-op")
    extra = {"LD_LIBRARY_PATH": str(stub_folder), "STUB": "silent"}
    said = run_example("coral_usb.py", tmp_path / "c.tflite", "phantom://", "5", extra=extra, code=1)
    assert "Expected an Edge TPU" in said
    assert said.endswith("edgeseg doctor --device coral-usb\n")


def test_dicom_replay_notes_every_frame_and_no_patient(int8_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="needs the extra dicom")
    frames = np.random.default_rng(0).integers(0, 255, (6, 64, 96), np.uint8)
    cine = write_cine(tmp_path / "cine.dcm", frames, PixelSpacing=[0.2, 0.2])
    said = run_example("dicom_replay.py", int8_model, cine, tmp_path / "areas.csv")
    table = (tmp_path / "areas.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(table.splitlines()))
    assert "6 of 6 frames, pixel size 0.2" in said
    assert [row["frame"] for row in rows] == [str(number) for number in range(6)]
    assert all(float(row["area_mm2"]) == pytest.approx(int(row["area_px"]) * 0.04, abs=0.01) for row in rows)
    assert "Secret" not in said + table


@pytest.fixture
def quick_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the defaults be the smallest network and one recipe that does not train: the steps matter here."""
    from edgeseg.model.spec import SIZES

    monkeypatch.setitem(SIZES, "small", SIZES["nano"])
    monkeypatch.setattr("edgeseg.api.DEFAULT_RECIPES", ("int8-ptq",))


@pytest.mark.usefixtures("quick_defaults")
def test_train_goes_from_a_folder_to_the_mask_of_one_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_disc_data(tmp_path / "discs", 12)
    image = data / "images" / "case_00.png"
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, (data, tmp_path / "out", image, 1))])
    # in this process, which has imported TensorFlow already
    runpy.run_path(str(EXAMPLES / "train.py"))
    assert str(tmp_path / "out/small/") in capsys.readouterr().out
    frame, mask = read_image(image), read_image(tmp_path / "out/mask.png")
    assert (mask.shape, read_image(tmp_path / "out/overlay.png").shape[:2]) == (frame.shape, frame.shape)
    assert set(np.unique(mask)) <= {0, 1}


NOTEBOOK = EXAMPLES / "first_model.ipynb"
SMALL = {"CASES": 24, "SIZE": 64, "MODEL": "nano", "EPOCHS": 1, "RECIPES": ["int8-ptq"]}
"""What the test puts in the place of the notebook's settings."""


def list_code_cells() -> Iterator[dict[str, Any]]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return (cell for cell in cells if cell["cell_type"] == "code")


def test_every_cell_of_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the cells in one namespace, with smaller settings behind the cell that is tagged `parameters`.

    They are plain Python, so that this needs neither Jupyter nor a second import of TensorFlow. What a kernel adds, the
    pictures under the cells, is in the stored outputs.
    """
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for number, cell in enumerate(list_code_cells()):
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, code cell {number}", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            assert names.keys() >= SMALL.keys()
            names |= SMALL
    plt.close("all")
    written = sorted(path.stem for path in (tmp_path / "first_model/masks").iterdir())
    assert written == sorted(names["tests"])
    assert len(written) >= 4
    assert all(read_image(tmp_path / f"first_model/masks/{stem}.png").shape == (64, 64) for stem in written)
    assert names["small"].chosen.is_file()


def test_the_notebook_is_stored_as_it_ran_and_is_small() -> None:
    cells = list(list_code_cells())
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = [kind for cell in cells for output in cell["outputs"] for kind in output.get("data", {})]
    assert kinds.count("image/png") == 4
    assert all(output["output_type"] != "error" for cell in cells for output in cell["outputs"])
    assert NOTEBOOK.stat().st_size < 300_000
    said = "".join(line for cell in cells for output in cell["outputs"] for line in output.get("text", ()))
    assert not re.search(r"/(?:home|root|tmp|work|Users)/", said)


def test_the_notebook_uses_the_front_door_alone_and_its_links_lead_somewhere() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code, text = (
        "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == kind)
        for kind in ("code", "markdown")
    )
    assert not re.search(r"^ *(?:import|from) edgeseg\.", code, re.MULTILINE)
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    assert len(links) > 5
    assert [link for link in links if not (EXAMPLES / link).is_file()] == []
