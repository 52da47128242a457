"""The front door: what `import edgeseg` offers, what it leaves alone, and a stream that closes everything behind it."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import edgeseg
from edgeseg import Stream
from edgeseg.core import errors, install
from edgeseg.core.errors import OutputError, SourceError
from edgeseg.streaming.options import SinkOptions, StreamOptions
from edgeseg.streaming.sources.address import show_source
from tests.networks import save_network

SOURCE = "phantom://?size=32&frames=40"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_network(tmp_path / "tiny.tflite").path


def run_python(program: str, *arguments: Path) -> str:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_importing_edgeseg_is_light() -> None:
    heavy = {"numpy", "cv2", "tensorflow", "matplotlib", "typer", "logging"}
    run_python(f"import sys, edgeseg; dir(edgeseg); assert not {heavy} & set(sys.modules), sorted(sys.modules)")
    run_python(f"import sys, edgeseg.cli.app; assert not {heavy - {'typer', 'logging'}} & set(sys.modules)")


def test_only_what_trains_needs_the_packages_of_the_workstation() -> None:
    run_python(
        "import sys, edgeseg\n"
        "for name in edgeseg.__all__: getattr(edgeseg, name)\n"
        "assert not {'tensorflow', 'tf_keras', 'matplotlib', 'jinja2', 'optuna'} & set(sys.modules)"
    )


def test_functions_stay_functions_whatever_else_is_imported() -> None:
    run_python(
        "import pkgutil, edgeseg, edgeseg.training.run, edgeseg.bench.measure, edgeseg.streaming.live\n"
        "modules = {module.name for module in pkgutil.iter_modules(edgeseg.__path__)}\n"
        "assert not modules & set(edgeseg.__all__), modules & set(edgeseg.__all__)\n"
        "assert all(callable(getattr(edgeseg, name)) for name in ('train', 'stream', 'evaluate', 'compress'))"
    )


PAGE = (Path(__file__).resolve().parents[2] / "docs/reference/python.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(edgeseg.__all__))
def test_every_name_is_there_explained_and_on_the_page(name: str) -> None:
    value = getattr(edgeseg, name)
    assert name in dir(edgeseg)
    assert name == "__version__" or value.__doc__
    assert re.search(rf"`(edgeseg\.)?{name}`", PAGE), name


def test_the_page_names_every_error() -> None:
    table = dict(re.findall(r"^\| `(\w+Error)` \| (.+) \|$", PAGE, re.MULTILINE))
    homes = (errors.__name__, install.__name__)
    tree = {kind.__name__ for kind in edgeseg.EdgesegError.__subclasses__() if kind.__module__ in homes}
    assert set(table) == tree


SNAPSHOT = """
import logging, os, signal, sys
import cv2
def look():
    return (
        dict(os.environ), logging.root.level, list(logging.root.handlers), cv2.utils.logging.getLogLevel(),
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)],
        sys.stdout, sys.stderr, list(sys.path),
    )
before = look()
import edgeseg
model = edgeseg.load(sys.argv[1])
frame = edgeseg.read_image(sys.argv[2])
assert model(frame).labels.shape == frame.shape[:2]
with edgeseg.stream(sys.argv[1], "phantom://?size=32&frames=3") as stream:
    assert list(stream)
after = look()
assert after == before, [(a, b) for a, b in zip(before, after) if a != b]
"""


def test_the_host_program_stays_as_it_is(model: Path, tmp_path: Path) -> None:
    edgeseg.write_image(tmp_path / "frame.png", np.full((20, 30), 90, np.uint8))
    assert run_python(SNAPSHOT, model, tmp_path / "frame.png") == ""


def test_a_loaded_model_gives_labels_scores_and_areas(model: Path) -> None:
    segmenter = edgeseg.load(model, backend="cpu")
    frame = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    result = segmenter(frame, mm_per_px=0.5)
    np.testing.assert_array_equal(result.labels, segmenter.segment(frame).labels)
    assert result.scores.shape == (16, 16, 1)
    (area,) = result.areas
    assert area.name == "target"
    assert area.area_px == np.count_nonzero(result.labels) > 0
    assert area.area_mm2 == pytest.approx(area.area_px * 0.25)
    assert segmenter(frame).areas[0].area_mm2 is None
    with pytest.raises(ValueError, match="pixel size"):
        segmenter(frame, mm_per_px=0.0)


def test_scores_of_one_frame_outlive_the_next(model: Path) -> None:
    segmenter = edgeseg.load(model)
    result = segmenter(np.full((16, 16), 200, np.uint8))
    kept = result.scores.copy()
    segmenter(np.zeros((16, 16), np.uint8))
    np.testing.assert_array_equal(result.scores, kept)


def test_results_of_a_stream_are_measured_in_its_pixels(model: Path) -> None:
    sinks, options = SinkOptions(mm_per_px=0.1), StreamOptions(frames=1)
    (result,) = edgeseg.stream(model, SOURCE, options=options, sinks=sinks)
    (area,) = result.segmentation.areas
    assert area.area_mm2 == pytest.approx(area.area_px * 0.01, abs=1e-3)


def test_a_training_refuses_what_it_does_not_know_before_it_reads_anything(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="epoch"):
        edgeseg.train(tmp_path / "none", tmp_path / "run", epoch=3)
    with pytest.raises(ValueError, match="epochs"):
        edgeseg.train(tmp_path / "none", tmp_path / "run", epochs=0)


def test_nothing_is_written_onto_what_is_read(disc_data: Path) -> None:
    for out in (disc_data, disc_data.parent):
        with pytest.raises(OutputError, match="another folder"):
            edgeseg.train(disc_data, out, overwrite=True)
    assert (disc_data / "images").is_dir()


def test_unknown_names_are_refused_as_usual() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        edgeseg.__getattr__("nothing")


def test_loop_gives_results_and_the_report_counts_them(model: Path) -> None:
    before = set(threading.enumerate())
    stream = edgeseg.stream(model, SOURCE, options=StreamOptions(frames=5))
    numbers = [result.frame.number for result in stream]
    assert numbers == sorted(set(numbers))
    report = stream.report()
    assert (report.frames.processed, report.source, report.backend.name) == (5, SOURCE, "cpu")
    assert set(threading.enumerate()) == before


def test_break_and_exception_close_everything(model: Path, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    for result in edgeseg.stream(model, SOURCE, sinks=SinkOptions(record=tmp_path / "rec")):
        assert result.segmentation.labels.shape == result.frame.image.shape
        break
    assert set(threading.enumerate()) == before
    assert (tmp_path / "rec/index.jsonl").read_text(encoding="utf-8").count("\n") == 1
    stream = edgeseg.stream(model, SOURCE)
    with pytest.raises(ZeroDivisionError):
        fail_at_first_result(stream)
    stream.close()
    assert set(threading.enumerate()) == before


def fail_at_first_result(stream: Stream) -> None:
    with stream:
        for result in stream:
            raise ZeroDivisionError(result.frame.number)


def test_what_cannot_be_opened_leaves_nothing_open(model: Path, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    (tmp_path / "rec").write_text("a file", encoding="utf-8")
    with pytest.raises(OutputError, match="empty folder"):
        edgeseg.stream(model, SOURCE, sinks=SinkOptions(record=tmp_path / "rec"))
    with pytest.raises(SourceError):
        edgeseg.stream(model, "phantom://?size=1")
    assert set(threading.enumerate()) == before


def test_a_stream_that_ended_before_its_first_mask_is_not_judged(model: Path) -> None:
    stream = edgeseg.stream(model, SOURCE)
    stream.close()
    report = stream.report()
    assert (report.frames.processed, report.verdict) == (0, "not measured")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/data/Doe Jane/scan.mp4", "scan.mp4"),
        ("patients/Doe", "Doe"),
        ("frames/*.png", "*.png"),
        (".", "."),
        ("0", "0"),
        ("-?size=64x64", "-?size=64x64"),
        ("/dev/video0?fps=30", "/dev/video0?fps=30"),
        ("rtsp://name:secret@host/live", "rtsp://host/live"),
        ("http://host/mjpeg?token=secret", "http://host/mjpeg?token=***"),
        (SOURCE, SOURCE),
    ],
)
def test_a_source_is_named_without_secrets_and_without_its_folders(source: str, name: str) -> None:
    assert show_source(source) == name
