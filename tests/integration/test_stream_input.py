"""Whatever is wrong with what a stream is given is one sentence and a hint, with the right exit code."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.core.modelfile import read_model
from edgeseg.frame.images import write_image
from edgeseg.inference.segmenter import Segmenter
from edgeseg.streaming.live import open_stream
from tests.commands import Fail
from tests.layouts import write_dicom
from tests.tinymodels import write_bright_model

pytestmark = pytest.mark.integration

SECONDS = 60
FRAME = np.full((64, 64), 90, np.uint8)
WRONG_SOURCES = [
    ("", "name of a source, got ''"),
    ("nonsense", "name of a source, got 'nonsense'"),
    ("clip.txt", "name of a source"),
    ("ftp://host/clip", "name of a source"),
    ("https://host/clip", "name of a source"),
    ("-1", "name of a source"),
    ("phantom:/", "name of a source"),
    ("phantom://linear", "options after phantom://, got phantom://linear"),
    ("phantom://?size=9000", "expected a size from 1x1 to 8192x8192, got 9000x9000"),
    ("phantom://?seed=x", "'x' is no whole number"),
    ("99", "camera at 99, got none"),
    ("/dev/video99", "camera at /dev/video99, got none"),
    ("/dev/null", "camera at /dev/null, got none"),
    ("/dev/video0?speed=3", "size, fps as options in /dev/video0?speed=3"),
    ("0?size=wide", "size=wide is no WIDTHxHEIGHT"),
    ("csi://left", "camera's number in csi://left, got 'left'"),
    ("gst://", "GStreamer pipeline after gst://, got none"),
    ("gst://a 'b", "No closing quotation"),
    ("rtsp://", "address with a host"),
    ("rtsp://name:secret@127.0.0.1:9/x", "stream at rtsp://127.0.0.1:9/x, got none"),
    ("http://", "address with a host"),
    ("http://[::1", "address with a host"),
    ("http://127.0.0.1:99999/", "address with a host"),
    ("http://127.0.0.1:9/", "Motion JPEG from http://127.0.0.1:9/"),
    ("-", "size is missing"),
    ("-?size=0x4", "expected a size from 1x1"),
    ("-?size=4x4&format=rgb", "format to be one of gray, bgr, got 'rgb'"),
    ("missing.mp4", "video at missing.mp4, got no such file"),
    ("missing.dcm", "DICOM file at missing.dcm, got no such file"),
    ("missing/*.png", "images in missing/*.png, got none"),
]


def make_empty_folder(path: Path) -> None:
    path.mkdir()


def make_empty_video(path: Path) -> None:
    cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48)).release()


def make_text(path: Path) -> None:
    path.write_text("neither frames nor pixels", encoding="utf-8")


def make_dicom_without_pixels(path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="needs the extra dicom")
    write_dicom(path, FRAME)
    header = pydicom.dcmread(path)
    del header.PixelData
    header.save_as(path)


def make_damaged_image(path: Path) -> None:
    path.mkdir()
    (path / "a.png").write_bytes(b"no image")


def make_float_image(path: Path) -> None:
    path.mkdir()
    cv2.imwrite(str(path / "a.tiff"), 1e3 * FRAME.astype(np.float32))


WRONG_FILES: list[tuple[str, Callable[[Path], None], str]] = [
    ("folder", make_empty_folder, "Expected images in"),
    ("clip.avi", make_empty_video, "Expected a video with frames at"),
    ("clip.mp4", make_text, "Expected a video with frames at"),
    ("plain", make_text, "Expected the name of a source"),
    ("text.dcm", make_text, "Expected a DICOM image, got the unreadable file"),
    ("header.dcm", make_dicom_without_pixels, "got no pixels in"),
    ("damaged", make_damaged_image, "Expected an image in PNG, JPEG, BMP or TIFF"),
    ("float", make_float_image, "Expected 8 or 16 bit brightness"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bright_model(tmp_path_factory.mktemp("model") / "bright.tflite")


def assert_one_sentence(err: str, said: str) -> None:
    sentence, hint = err.splitlines()
    assert sentence.startswith("edgeseg: ")
    assert said in sentence
    assert hint.startswith("  ")
    assert "defect" not in hint
    assert "secret" not in err


@pytest.mark.parametrize(("source", "said"), WRONG_SOURCES)
def test_a_wrong_source_is_one_sentence(model: Path, fail: Fail, source: str, said: str) -> None:
    code, err = fail("stream", model, "--view", "none", "--source", source)
    assert code == 1
    assert_one_sentence(err, said)


@pytest.mark.parametrize(("name", "make", "said"), WRONG_FILES, ids=[name for name, _, _ in WRONG_FILES])
def test_a_file_without_frames_is_one_sentence(
    model: Path, tmp_path: Path, fail: Fail, name: str, make: Callable[[Path], None], said: str
) -> None:
    make(tmp_path / name)
    code, err = fail("stream", model, "--view", "none", "--source", tmp_path / name)
    assert code == 1
    assert_one_sentence(err, said)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--roi", "0,0,999,999"), 1, "64x64"),
        (("--record", "/proc/recording"), 1, "/proc/recording"),
        (("--record", __file__), 1, "empty folder"),
        (("--record-as", "film", "--record", "x"), 1, "'film'"),
        (("--backend", "abacus"), 1, "'abacus'"),
        (("--roi", "1,2"), 2, "x,y,width,height"),
        (("--rate", "quick"), 2, "frames per second"),
        (("--budget-ms", "0"), 2, "--budget-ms"),
        (("--max-miss", "1.5"), 2, "--max-miss"),
        (("--frames", "0"), 2, "--frames"),
        (("--port", "65536"), 2, "'--port'"),
        (("--metrics", "-1"), 2, "'--metrics'"),
        (("--mm-per-px", "0"), 2, "--mm-per-px"),
        (("--host", "here"), 2, "IPv4"),
        (("--host", "0.0.0.0"), 2, "--view web"),
        (("--record-wait",), 2, "--record"),
        (("--source", "browser://"), 2, "--view web"),
        (("--source", "browser://?fps=900"), 1, "size, fps"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    model: Path, fail: Fail, options: tuple[str, ...], code: int, said: str
) -> None:
    source = () if "--source" in options else ("--source", "phantom://?size=64")
    got, err = fail("stream", model, "--view", "none", *source, *options)
    assert got == code
    if code == 1:
        assert_one_sentence(err, said)
    assert said in " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize("options", [("--view", "web", "--port"), ("--view", "none", "--metrics")])
def test_a_port_in_use_is_one_sentence(model: Path, fail: Fail, options: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, err = fail("stream", model, "--source", "phantom://?size=64", *options, str(port))
    assert code == 1
    assert_one_sentence(err, f"on port {port} of this machine")


def feed_stream(model: Path, data: bytes) -> tuple[int, str, str]:
    """Stream what comes on standard input."""
    command = [sys.executable, "-m", "edgeseg", "stream", str(model), "--view", "none", "--source", "-?size=64x64"]
    done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=SECONDS)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_grey_source_for_a_model_of_colour_is_one_sentence(tmp_path: Path) -> None:
    code, _, err = feed_stream(write_bright_model(tmp_path / "rgb.tflite", "rgb"), bytes(64 * 64))
    assert code == 1
    assert_one_sentence(err, "Expected colour frames for this model, got grey ones.")


def test_a_grey_cine_for_a_model_of_colour_is_one_sentence(tmp_path: Path, fail: Fail) -> None:
    pytest.importorskip("pydicom", reason="needs the extra dicom")
    model = write_bright_model(tmp_path / "rgb.tflite", "rgb")
    write_dicom(tmp_path / "grey.dcm", FRAME)
    code, err = fail("stream", model, "--view", "none", "--source", tmp_path / "grey.dcm")
    assert code == 1
    assert_one_sentence(err, "Expected colour frames for this model, got grey ones.")


@pytest.mark.parametrize("data", [b"", bytes(100)], ids=["nothing", "less than a frame"])
def test_a_source_that_ends_before_its_first_frame_holds_no_budget(model: Path, data: bytes) -> None:
    code, out, err = feed_stream(model, data)
    assert (code, out) == (1, "")
    assert_one_sentence(err, "Expected frames from -?size=64x64, got its end before the first one.")


def test_frames_of_16_bits_are_segmented_as_those_of_8(model: Path, tmp_path: Path) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)
    write_image(tmp_path / "deep" / "a.png", frame.astype(np.uint16) * 257)
    write_image(tmp_path / "flat" / "a.png", frame)
    labels = []
    for name in ("deep", "flat"):
        with open_stream(Segmenter(read_model(model)), str(tmp_path / name)) as live:
            labels.append(next(iter(live)).segmentation.labels)
    assert 0 < labels[0].mean() < 1
    np.testing.assert_array_equal(labels[0], labels[1])


def test_a_dicom_of_one_frame_is_segmented(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="needs the extra dicom")
    write_dicom(tmp_path / "a.dcm", FRAME)
    with open_stream(Segmenter(read_model(model)), str(tmp_path / "a.dcm")) as live:
        assert len(list(live)) == 1
