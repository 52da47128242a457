"""A stream in trouble, as a process: slow, failing and hanging backends, fast sources, full disks, deaf readers."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import cv2
import numpy as np
import pytest

from edgeseg.frame.images import write_image
from tests.tinymodels import write_bright_model

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
SECONDS, SOAK_SECONDS = 90, 4
WARM_UP = 6
"""Inferences before the stream."""
LONG, ALL = "phantom://?size=64", ("--every-frame", "--rate", "max")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bright_model(tmp_path_factory.mktemp("model") / "bright.tflite")


@contextmanager
def run_stream(
    model: Path, folder: Path, *options: str | Path, fake: str = "", **process: Any
) -> Iterator[subprocess.Popen[str]]:
    """Run a stream that records and reports into a folder; `fake` says what its backend is (tests/fakes/backends)."""
    program = ["tests.fakes.backends", *fake.split(), "stream"] if fake else ["edgeseg", "stream"]
    backend = ["--backend", fake.split()[0]] if fake else []
    command = [sys.executable, "-m", *program, str(model), *backend, "--view", "none", "--max-miss", "1"]
    command += ["--record", str(folder / "rec"), "--json", str(folder / "stream.json"), *map(str, options)]
    process = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **process}
    with subprocess.Popen(command, text=True, cwd=ROOT, **process) as running:
        try:
            yield running
        finally:
            running.kill()


def wait_for_invokes(process: subprocess.Popen[str], count: int) -> None:
    """Wait until so many more inferences have begun."""
    assert process.stderr is not None
    invokes = (line for line in process.stderr if line == "invoke\n")
    assert len(list(itertools.islice(invokes, count))) == count


def read_report(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "stream.json").read_text(encoding="utf-8"))
    return report


def read_index(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rec/index.jsonl").read_text(encoding="utf-8").splitlines()]


def read_resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.parametrize("backend", ["cpu", "slow"], ids=["on the main thread", "on a thread of its own"])
def test_a_signal_in_the_middle_of_a_frame_lets_it_end(model: Path, tmp_path: Path, backend: str) -> None:
    with run_stream(model, tmp_path, "--source", LONG, fake=f"{backend} 0.3 999 fails") as process:
        wait_for_invokes(process, WARM_UP + 2)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert read_report(tmp_path)["frames"]["processed"] == 2
    assert len(read_index(tmp_path)) == 2


@pytest.mark.parametrize(("fault", "said"), [("fails", "the device was lost"), ("hangs", "within 0.5 s")])
def test_a_backend_at_its_end_is_replaced(model: Path, tmp_path: Path, fault: str, said: str) -> None:
    source = ("--source", f"{LONG}&frames=30", *ALL)
    with run_stream(model, tmp_path, *source, fake=f"weak 0 {WARM_UP + 5} {fault}") as process:
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    report = read_report(tmp_path)
    assert (report["frames"]["processed"], report["backend"]["name"]) == (30, "cpu")
    assert said in report["backend"]["fallback_reason"]
    assert [said in incident for incident in report["incidents"]] == [True, False]
    assert read_index(tmp_path)[-1]["number"] == 29


def test_a_source_fifty_times_too_fast_fills_no_memory(model: Path, tmp_path: Path) -> None:
    with (
        subprocess.Popen(["cat", "/dev/zero"], stdout=subprocess.PIPE) as flood,
        run_stream(
            model, tmp_path, "--source", "-?size=64x64", fake="slow 0.04 999999 fails", stdin=flood.stdout
        ) as process,
    ):
        wait_for_invokes(process, WARM_UP + 25)
        before, until = read_resident_mb(process.pid), monotonic() + SOAK_SECONDS
        while monotonic() < until:
            wait_for_invokes(process, 10)
        grown = read_resident_mb(process.pid) - before
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)
        flood.kill()
    report = read_report(tmp_path)
    frames = report["frames"]
    assert process.returncode == 0
    assert frames["captured"] > 50 * frames["processed"]
    assert frames["captured"] - frames["dropped"] - frames["processed"] in (0, 1)
    assert grown < 5
    assert report["frame_age_ms"]["p50"] < 2 * 40


def test_a_reader_that_reads_nothing_holds_up_nothing(model: Path, tmp_path: Path) -> None:
    with run_stream(model, tmp_path, "--source", f"{LONG}&frames=1500", "--rate", "500", "--emit") as process:
        assert process.wait(SECONDS) == 0
    report = read_report(tmp_path)
    recording, lines = report["sinks"]
    assert lines["taken"] + lines["missed"] == report["frames"]["processed"]
    assert (recording["failure"], lines["failure"]) == (None, None)
    assert lines["missed"] > 0


def test_json_lines_on_a_full_disk_are_told_and_the_rest_goes_on(model: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("w", encoding="ascii") as full:
        source = ("--source", f"{LONG}&frames=20", *ALL)
        with run_stream(model, tmp_path, *source, "--emit", stdout=full) as process:
            _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "JSON lines" in err
    assert "No space left" in err
    assert "Traceback" not in err
    assert read_report(tmp_path)["frames"]["processed"] == 20
    assert read_index(tmp_path)[-1]["number"] == 19


def test_a_clock_that_jumps_changes_nothing(model: Path, tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: the jumping clock cannot be built")
    library = tmp_path / "clock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, ROOT / "tests" / "jumping_clock.c"], check=True)
    jumping = os.environ | {"LD_PRELOAD": str(library)}
    check = "import time; a, b = time.time(), time.time(); assert abs(b - a) > 1e5"
    subprocess.run([sys.executable, "-c", check], check=True, env=jumping, timeout=SECONDS)
    with run_stream(model, tmp_path, "--source", f"{LONG}&frames=30", "--metrics", "0", env=jumping) as process:
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    report = read_report(tmp_path)
    assert 0.9 < report["seconds"] < SECONDS
    assert 0 <= report["frame_age_ms"]["p99"] < 5e3
    assert 0 <= report["interval_ms"]["p99"] < 5e3
    stamps = [line["captured_s"] for line in read_index(tmp_path)]
    assert stamps == sorted(stamps)
    assert stamps[-1] < SECONDS


def write_video(path: Path, codec: str, count: int = 40) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25.0, (64, 48))
    noise = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    for number in range(count):
        writer.write(np.roll(noise, number, axis=1))
    writer.release()


@pytest.mark.parametrize(("name", "codec"), [("clip.avi", "MJPG"), ("clip.mkv", "mp4v")])
def test_a_video_cut_off_and_damaged_is_played_and_what_is_missing_counted(
    model: Path, tmp_path: Path, name: str, codec: str
) -> None:
    write_video(tmp_path / name, codec)
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 3 : len(data) // 3 + 300] = bytes(300)
    (tmp_path / name).write_bytes(data[: 3 * len(data) // 4])
    with run_stream(model, tmp_path, "--source", tmp_path / name, *ALL) as process:
        _, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, err) == (0, "")
    report = read_report(tmp_path)
    shown, health = report["frames"]["processed"], report["source_health"]
    assert 15 < shown < 40
    assert health["missing"] + health["corrupt"] >= 40 - shown - 2
    assert read_index(tmp_path)[-1]["number"] == shown - 1


def test_a_size_that_changes_is_followed_into_every_sink(model: Path, tmp_path: Path) -> None:
    for number, shape in enumerate([(48, 64), (48, 64, 3), (96, 128), (30, 40)]):
        write_image(tmp_path / "frames" / f"{number}.png", np.full(shape, 200, np.uint8))
    sink_options = ("--emit", "--smooth", "--fill-holes", "--record-frames", "--record-as", "video")
    source = ("--source", tmp_path / "frames", "--every-frame", "--rate", "5")
    with run_stream(model, tmp_path, *source, *sink_options) as process:
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    assert [json.loads(line)["frame_px"] for line in out.splitlines()] == [[64, 48], [64, 48], [128, 96], [40, 30]]
    places = [(line["mask"], line["frame"], line["position"]) for line in read_index(tmp_path)]
    assert places == [
        ("masks.mkv", "images.mkv", 0),
        ("masks.mkv", "images.mkv", 1),
        ("masks-2.mkv", "images-2.mkv", 0),
        ("masks-3.mkv", "images-3.mkv", 0),
    ]
