"""`edgeseg stream` as a process: its pipes, its files, its signals and its exit codes."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.networks import save_network

pytestmark = pytest.mark.integration

SECONDS = 60
LONG = "phantom://?size=64"
SHORT = "phantom://?size=64&frames=30"
ROOMY = ("--budget-ms", "5000", "--view", "none")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_network(tmp_path_factory.mktemp("model") / "tiny.tflite").path


def start(model: Path, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgeseg", "stream", str(model), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_standard_output_holds_json_lines_and_nothing_else(model: Path) -> None:
    with start(model, "--source", SHORT, "--emit", *ROOMY) as process:
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines
    assert all(line["classes"][0]["name"] == "target" for line in lines)
    assert "budget held" in err


def test_reader_that_has_seen_enough_ends_the_stream(model: Path) -> None:
    with start(model, "--source", LONG, "--emit", *ROOMY) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["number"] >= 0
        process.stdout.close()
        assert process.wait(SECONDS) == 0
        assert "the stream goes on" not in process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_stream_with_its_figures(model: Path, tmp_path: Path, number: signal.Signals) -> None:
    figures = tmp_path / "stream.json"
    with start(model, "--source", LONG, "--emit", "--json", figures, *ROOMY) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    report = json.loads(figures.read_text(encoding="utf-8"))
    assert report["frames"]["processed"] > 0
    assert {"capture", "preprocess", "invoke", "postprocess", "publish", "total"} <= set(report["latency_ms"])
    assert report["sinks"][0]["taken"] + report["sinks"][0]["missed"] == report["frames"]["processed"]
    assert report["warm_up_runs"] > 0
    assert report["incidents"] == []
    assert "jitter" in err
    assert "first inference" in err


def test_missed_budget_is_exit_code_3(model: Path) -> None:
    with start(model, "--source", SHORT, "--view", "none", "--budget-ms", "0.001") as process:
        out, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 3
    assert "budget missed" in out


def test_killed_recording_can_be_read(model: Path, tmp_path: Path) -> None:
    with start(model, "--source", LONG, "--emit", "--record", tmp_path / "rec", *ROOMY) as process:
        assert process.stdout is not None
        for _ in range(10):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    lines = (tmp_path / "rec/index.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines
    assert all((tmp_path / "rec" / json.loads(line)["mask"]).stat().st_size > 0 for line in lines)


def test_full_disk_ends_the_recording_but_not_the_stream(model: Path, tmp_path: Path) -> None:
    def leave_little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    arguments = ("--source", SHORT, "--emit", "--record", tmp_path / "rec", *ROOMY)
    with start(model, *arguments, preexec_fn=leave_little_room, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}) as p:
        out, err = p.communicate(timeout=SECONDS)
    assert p.returncode == 1, err
    assert err.lower().count("the recording ended") == 2
    recorded = (tmp_path / "rec/index.jsonl").read_text(encoding="utf-8").splitlines()
    assert 0 < len([json.loads(line) for line in recorded]) < len(out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--view", "cinema"), 1, "cinema"),
        (("--view", "none", "--record-frames"), 2, "--record-frames"),
        (("--view", "none", "--device", "nonesuch"), 1, "nonesuch"),
    ],
)
def test_wrong_options(model: Path, arguments: tuple[str, ...], code: int, sentence: str) -> None:
    with start(model, *arguments, env=os.environ | {"COLUMNS": "200"}) as process:
        _, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, sentence in err) == (code, True), err
