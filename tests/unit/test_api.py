"""edgeseg.stream: a loop over results that closes everything behind it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

import edgeseg
from edgeseg import Stream
from edgeseg.core.errors import OutputError, SourceError
from edgeseg.streaming.options import SinkOptions, StreamOptions
from edgeseg.streaming.sources.options import show_source
from tests.networks import save_network

SOURCE = "phantom://?size=32&frames=40"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_network(tmp_path / "tiny.tflite").path


def test_importing_edgeseg_is_light() -> None:
    code = "import sys, edgeseg; assert not {'numpy', 'cv2', 'typer'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


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
