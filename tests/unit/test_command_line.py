"""What every command shares: help, version, the spans of numbers, and arguments in the wrong place."""

from __future__ import annotations

import inspect as inspection
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import edgeseg
from edgeseg.cli.app import app, leave_hanging_threads, main
from edgeseg.cli.inspect import describe_decision
from edgeseg.core.limits import THREADS
from edgeseg.frame.images import write_image
from tests.networks import SIDE, save_network

RUNNER = CliRunner()
SHORT_STREAM = ["--view", "none", "--budget-ms", "10000", "--frames", "2"]
SMALL = "phantom://?size=32&frames=3"


def list_functions() -> dict[str, Any]:
    """List the function of every command by the words that call it."""
    found = {str(info.name): info.callback for info in app.registered_commands}
    for group in app.registered_groups:
        inner = group.typer_instance
        assert inner is not None
        for info in inner.registered_commands:
            assert info.callback is not None
            found[f"{group.name} {info.name or info.callback.__name__}"] = info.callback
    return found


def list_numbers() -> Iterator[tuple[str, str, type]]:
    """List every option of every command that takes a number."""
    for command, function in list_functions().items():
        hints = get_type_hints(function)
        for name in inspection.signature(function).parameters:
            kinds = {int, float} & {hints[name], *get_args(hints[name])}
            if kinds:
                yield command, name, kinds.pop()


def find_command(words: str) -> Any:
    found = COMMAND
    for word in words.split():
        found = found.commands[word]
    return found


def fill_required(command: Any) -> list[str]:
    """Give every argument and option that a command cannot do without."""
    needed = [part for part in command.params if part.required]
    return [word for part in needed for word in (*part.opts[-1:], "1") if word.startswith("--") or word == "1"]


COMMAND: Any = typer.main.get_command(app)
NUMBERS = sorted(list_numbers(), key=str)


@pytest.mark.parametrize("words", ["", *sorted(list_functions()), "data", "model"])
def test_short_and_long_help_are_the_same_everywhere(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for option in ("-h", "--help"):
        COMMAND([*words.split(), option], standalone_mode=False)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != ""


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert COMMAND(["--version"], standalone_mode=False) == 0
    assert edgeseg.__version__ in capsys.readouterr().out


@pytest.mark.parametrize("words", sorted({words for words, _, _ in NUMBERS}))
def test_no_option_takes_what_is_no_number_for_it(words: str) -> None:
    command = find_command(words)
    kinds = {name: kind for command_words, name, kind in NUMBERS if command_words == words}
    for part in (part for part in command.params if part.name in kinds):
        for text in ("-1", "nan", "inf", "-inf") if kinds[part.name] is float else ("-1", "1.5", str(2**40)):
            with pytest.raises(typer.BadParameter) as caught:
                COMMAND([*words.split(), *fill_required(command), part.opts[-1], text], standalone_mode=False)
            assert part.opts[-1] in caught.value.format_message()


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--frames", "0"),
        ("--budget-ms", "0"),
        ("--threads", "0"),
        ("--threads", str(THREADS + 1)),
        ("--port", "99999"),
        ("--max-miss", "1.1"),
    ],
)
def test_stream_refuses_numbers_beside_the_span(option: str, text: str, tmp_path: Path) -> None:
    model = save_network(tmp_path / "m.tflite").path
    result = RUNNER.invoke(app, ["stream", str(model), option, text])
    assert (result.exit_code, option in result.output) == (2, True)


@pytest.mark.parametrize("text", ["0", "-1", "100000", "1,0", "1,100000", "nan"])
def test_bench_refuses_threads_beside_the_span(text: str, tmp_path: Path) -> None:
    model = save_network(tmp_path / "m.tflite").path
    assert RUNNER.invoke(app, ["bench", str(model), f"--threads={text}"]).exit_code == 2


@pytest.mark.parametrize(("wrong", "right"), [("train --epoch 3", "--epochs"), ("stream --frame 3", "--frames")])
def test_a_misspelt_option_is_answered_with_the_nearest(wrong: str, right: str) -> None:
    result = RUNNER.invoke(app, wrong.split())
    assert (result.exit_code, right in result.output) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [([SMALL], "1"), (["--source", SMALL], "1"), ([SMALL, "--source", SMALL], ""), ([], SMALL)],
    ids=["argument", "option", "both", "variable"],
)
def test_the_source_is_an_argument_an_option_or_a_variable(arguments: list[str], variable: str, tmp_path: Path) -> None:
    model, out = save_network(tmp_path / "m.tflite").path, tmp_path / "s.json"
    command = ["stream", str(model), *arguments, *SHORT_STREAM, "--json", str(out)]
    result = RUNNER.invoke(app, command, env={"EDGESEG_SOURCE": variable})
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text(encoding="utf-8"))["source"] == SMALL


def test_two_sources_are_one_too_many(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["stream", str(tmp_path / "m.tflite"), "0", "--source", "1"])
    assert result.exit_code == 2


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Make a folder of labelled images, as small as they come."""
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(3):
            write_image(tmp_path / "data" / name / f"{number}.png", np.full((SIDE, SIDE), 255, np.uint8))
    return tmp_path / "data"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Make a folder as a training leaves it."""
    (tmp_path / "run").mkdir()
    save_network(tmp_path / "run" / "model.tflite")
    return tmp_path / "run"


def test_a_run_stands_for_its_file(run: Path, data: Path) -> None:
    for arguments in (["inspect", run], ["bench", run, "--runs", 5], ["stream", run, SMALL, *SHORT_STREAM]):
        result = RUNNER.invoke(app, list(map(str, arguments)))
        assert result.exit_code == 0, result.output
    assert RUNNER.invoke(app, ["evaluate", str(run), str(data)]).exit_code == 0


def test_exchanged_arguments_do_what_was_meant(run: Path, data: Path) -> None:
    for given in (run, run / "model.tflite"):
        assert RUNNER.invoke(app, ["evaluate", str(data), str(given)]).exit_code == 0
    result = RUNNER.invoke(app, ["stream", SMALL, str(run), *SHORT_STREAM])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("command", "wrong", "typed"),
    [
        ("evaluate {} {data}", "data", "edgeseg evaluate MODEL"),
        ("inspect {}", "data", "edgeseg inspect MODEL"),
        ("bench {}", "data/images/0.png", "edgeseg bench MODEL"),
        ("stream {}", "clip.mp4", "edgeseg stream MODEL"),
        ("stream {}", "phantom://", "edgeseg stream MODEL"),
        ("stream {}", "0", "edgeseg stream MODEL"),
        ("compress {} --out {data}/out", "data", "edgeseg train DATA"),
        ("compress {} --out {data}/out", "run/model.tflite", "edgeseg train DATA"),
        ("search {} --out {data}/out --budget-ms 1", "data", "edgeseg train DATA"),
        ("export {} --to onnx", "data", "edgeseg export MODEL"),
        ("deploy {} --device generic-x86_64 --out {data}/a.tar.gz", "data", "edgeseg deploy MODEL"),
    ],
)
@pytest.mark.usefixtures("run")
def test_what_is_no_model_is_told_what_to_type(command: str, wrong: str, typed: str, data: Path) -> None:
    given = wrong if "://" in wrong or wrong.isdecimal() else str(data.parent / wrong)
    result = RUNNER.invoke(app, command.format(given, data=data).split(), env={"COLUMNS": "400"})
    assert result.exit_code == 2, result.output
    assert typed in result.output


def test_a_folder_without_models_or_images_is_refused_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = RUNNER.invoke(app, ["inspect", str(tmp_path / "empty")])
    assert result.exit_code != 0
    assert str(tmp_path / "empty") in str(result.exception)


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr("sys.argv", ["edgeseg", *map(str, arguments)])
    with pytest.raises(SystemExit):
        main()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("options", "notice", "trace"), [([], 1, 0), (["--quiet"], 0, 0), (["-v"], 1, 1)])
def test_notices_are_shown_or_not_wherever_the_option_stands(
    options: list[str],
    notice: int,
    trace: int,
    before: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("OPENCV_LOG_LEVEL", "OPENCV_FFMPEG_LOGLEVEL", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, "")  # so that it is put back
    (tmp_path / "data").mkdir()
    write_image(tmp_path / "data/a.png", np.zeros((32, 32), np.uint8))
    model = save_network(tmp_path / "m.tflite").path
    command: list[str | Path] = ["evaluate", tmp_path / "data", model]  # MODEL comes first: a notice, and then an error
    run_main(monkeypatch, *(options if before else []), *command, *([] if before else options))
    said = capsys.readouterr().err
    assert said.count("edgeseg: MODEL comes first") == notice
    assert said.count("Traceback") == trace
    assert "edgeseg: Expected" in said


def test_a_command_leaves_no_handler_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    logger = logging.getLogger("edgeseg")
    before = (logger.level, list(logger.handlers))
    run_main(monkeypatch, "inspect", tmp_path / "none.tflite", "--quiet")
    assert (logger.level, list(logger.handlers)) == before


def test_inspect_says_what_counts_as_found() -> None:
    share = {"mean": 0.9, "median": 1.0, "ci95": [0.8, 1.0]}
    point = {"threshold": 0.7, "target": "sensitivity", "wanted": 0.9, "chosen_on": "validation", "cases": 50}
    point |= {"empty_cases": 20, "sensitivity": share, "coverage": share, "false_alarm_rate": share}
    rules = [{"name": "a", "operating_point": point}, {"name": "b", "operating_point": None}]
    told = describe_decision({"classes": rules, "known": {}})
    assert "a: from a confidence of 0.700, for a sensitivity of 90%" in told["found"]
    assert "on 20 that do not: false alarms 90% (80 to 100)" in told["found"]
    assert "b: every mask" in told["found"]
    assert "--sensitivity" in describe_decision(None)["found"]


def test_a_pattern_in_the_help_keeps_its_stars() -> None:
    assert "exams/*/*.png" in RUNNER.invoke(app, ["predict", "--help"]).output


@pytest.mark.parametrize(("code", "expected"), [(3, 3), (None, 0), ("a sentence", 1)])
def test_a_driver_that_hangs_does_not_keep_the_process(
    code: object, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    released = threading.Event()
    hanging = threading.Thread(target=released.wait, name="edgeseg-grabber", daemon=True)
    hanging.start()
    leave_hanging_threads(code)
    released.set()
    hanging.join()
    assert ended == [expected]
