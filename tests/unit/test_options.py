"""An option is one line of a dataclass: the command line is built from it, and a file can give it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from edgeseg.cli import train as train_command
from edgeseg.cli.app import app
from edgeseg.cli.arguments import with_options
from edgeseg.core.errors import EdgesegError
from edgeseg.core.schema import OptionError, check_options, option
from edgeseg.streaming.options import RECORD_FORMATS
from edgeseg.streaming.sinks.recording import FRAME_STORES
from edgeseg.training.options import CONFIG, TrainInputs, TrainOptions, read_config, write_config
from edgeseg.training.resume import read_plan

RUNNER = CliRunner()


@dataclass(frozen=True)
class Options:
    rate: float = option(0.5, "How fast.", above=0.0, below=1.0, short="--r", former="speed")
    kind: str = option("a", "Which.", choices=("a", "b"))
    even: int | None = option(None, "An even number.", minimum=2, maximum=8, multiple_of=2)
    track: bool = option(True, "Follow.", former="hold")
    loop: bool = option(False, "Again.")
    pair: tuple[str, ...] | None = option(None, "Two words.", parse=lambda text: _split_pair(text))
    own: int = 0

    def __post_init__(self) -> None:
        check_options(self)
        if self.kind == "b" and self.loop:
            raise ValueError("expected no loop beside b")


def _split_pair(text: str) -> tuple[str, ...]:
    if text.count(",") != 1:
        raise ValueError(f"expected two words, got {text}")
    return tuple(text.split(","))


def _read_file(path: Path) -> Mapping[str, Any]:
    table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return table


def run_command(*arguments: str) -> tuple[int, str, list[Any]]:
    """Run a command that is built from the options; gives what it got, too."""
    got: list[Any] = []
    small = typer.Typer()

    @small.command()
    @with_options(defaults={"kind": "a"}, read_config=_read_file)
    def show(
        options: Options,
        place: Annotated[str | None, typer.Argument()] = None,
        config: Annotated[Path | None, typer.Option()] = None,  # noqa: ARG001 - the decorator reads it
    ) -> None:
        got.extend([options, place])

    result = RUNNER.invoke(small, list(arguments))
    return result.exit_code, result.output, got


def test_options_come_as_one_dataclass() -> None:
    assert run_command("here")[2] == [Options(), "here"]
    _, _, (options, _) = run_command("--r", "0.25", "--kind", "b", "--even", "4", "--no-track", "--pair", "x,y")
    assert options == Options(rate=0.25, kind="b", even=4, track=False, pair=("x", "y"))
    assert run_command("--loop")[2][0].loop


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--rate 0", "'--rate' / '--r'"),
        ("--even 3", "'--even'"),
        ("--kind c", "'--kind'"),
        ("--pair x", "'--pair'"),
        ("--kind b --loop", "expected no loop beside b"),
        ("--speed 0.5 --rate 0.5", "got both"),
    ],
)
def test_what_the_dataclass_refuses_is_wrong_usage(arguments: str, said: str) -> None:
    code, output, got = run_command(*arguments.split())
    assert (code, said in " ".join(output.split()), got) == (2, True, [])


def test_former_names_are_hidden_and_work() -> None:
    assert run_command("--speed", "0.25", "--no-hold")[2][0] == Options(rate=0.25, track=False)
    shown = run_command("--help")[1]
    assert "--track" in shown
    assert "--speed" not in shown
    assert "--hold" not in shown


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"rate": 0.125, "track": False, "place": "there", "even": 6}), encoding="utf-8")
    assert run_command("--config", str(file))[2] == [Options(0.125, even=6, track=False), "there"]
    got = run_command("here", "--config", str(file), "--speed", "0.5", "--even", "2", "--hold")[2]
    assert got == [Options(0.5, even=2), "here"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate": 1.0}, "expected rate above 0 and below 1, got 1.0"),
        ({"rate": float("nan")}, "got nan"),
        ({"even": 5}, "expected even from 2 to 8 that 2 divides, got 5"),
        ({"kind": "z"}, "expected kind to be one of a, b, got 'z'"),
    ],
)
def test_a_dataclass_checks_itself(change: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        Options(**change)
    assert caught.value.field in change


OPTIONS = TrainOptions("nano", 64, epochs=3, learning_rate=1e-5, augment="-flip", seed=7)


def test_a_config_repeats_a_training(tmp_path: Path) -> None:
    inputs = TrainInputs(
        tmp_path / "data é", tmp_path / "runs/first", 5, "plain", r'"(\d+)"', tmp_path / "clips", tmp_path / "cv"
    )
    (tmp_path / "runs/a").mkdir(parents=True)
    write_config(tmp_path / "runs/a", tmp_path / "runs/a", OPTIONS, inputs)
    written = (tmp_path / "runs/a" / CONFIG).read_bytes()
    write_config(tmp_path / "runs/a", tmp_path / "runs/a", OPTIONS, inputs)
    assert (tmp_path / "runs/a" / CONFIG).read_bytes() == written
    read = read_config(tmp_path / "runs/a" / CONFIG)
    given = {name: read.pop(name) for name in vars(inputs)}
    assert TrainOptions(**read) == OPTIONS
    places = [os.path.normpath(given.pop(name)) for name in ("data", "init", "unlabelled", "teacher")]
    assert places == [str(inputs.data), str(inputs.init), str(inputs.unlabelled), str(inputs.teacher)]
    assert given == {"folds": 5, "layout": "plain", "group_pattern": r'"(\d+)"'}


def test_a_name_that_toml_cannot_hold_is_left_out(tmp_path: Path) -> None:
    write_config(tmp_path, tmp_path, OPTIONS, TrainInputs(tmp_path / "not\udcffutf8"))
    assert "data" not in read_config(tmp_path / CONFIG)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch = 3", "Did you mean epochs?"),
        ("chosen = 1", "got 'chosen'"),
        ("epochs = '3'", "expected int for epochs"),
        ("epochs = 1.5", "expected int for epochs"),
        ("epochs = true", "expected int for epochs"),
        ("dropout = nan", "expected dropout from 0 to below 1, got nan"),
        ("l2 = inf", "got inf"),
        ("model = 'smal'", "got 'smal'"),
        ("[model]\nname = 'small'", "expected str for model"),
        ("data = ['a', 'b']", "expected Path for data"),
        ("lr = 0.1\nlearning-rate = 0.1", "learning_rate once"),
        ("seed = 1\nseed = 1", "does not parse"),
        ("epochs =", "does not parse"),
        ("epochs = " + "9" * 5000, "does not parse"),
        ("a = " + "[" * 9000, "does not parse"),
        ("# " + "x" * 100_000, "Expected at most"),
        ("model = '" + "x" * 5000 + "'", "at most 255 letters for model"),
        ("x" * 5000 + " = 1", "training option"),
        ("when = 2020-01-01", "got 'when'"),
        ("schema = 1\nname = 'other'", "got 'schema'"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused_in_a_sentence(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(EdgesegError) as caught:
        read_config(file)
    assert said in f"{caught.value.message} {caught.value.hint}"
    assert len(caught.value.message) < 500


def test_bytes_that_are_no_text_are_no_config(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b"model = '\xff'")
    with pytest.raises(EdgesegError, match="does not parse"):
        read_config(tmp_path / "c.toml")


def test_a_pipe_is_no_config(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "c.toml")
    with pytest.raises(EdgesegError, match="a FIFO"):
        read_config(tmp_path / "c.toml")


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect what trainings are begun with, instead of training."""
    calls: list[Any] = []
    monkeypatch.setattr(train_command, "begin", lambda *given, **_: calls.append(given))
    return calls


def test_train_takes_a_config_and_needs_no_data_beside_it(tmp_path: Path, begun: list[Any]) -> None:
    config, out = tmp_path / "a" / "my.toml", tmp_path / "b"
    config.parent.mkdir()
    config.write_text('data = "../images"\nepochs = 3\naverage = 0.5\nclass-weights = "none"\nfolds = 4', "utf-8")
    result = RUNNER.invoke(app, ["train", "--config", str(config), "--out", str(out), "--epochs", "9", "--lr", "0.1"])
    assert result.exit_code == 0, result.output
    data, where, options, split, folds, init = begun[0][:6]
    assert os.path.normpath(data) == str(tmp_path / "images")
    assert (where, split.seed, folds, init) == (out, 0, 4, None)
    assert options == TrainOptions(epochs=9, ema=0.5, class_weights="none", learning_rate=0.1)


def test_train_without_data_is_wrong_usage(tmp_path: Path, begun: list[Any]) -> None:
    result = RUNNER.invoke(app, ["train", "--out", str(tmp_path / "b")])
    assert (result.exit_code, "DATA" in result.output, begun) == (2, True, [])


def test_options_of_an_earlier_release_are_read(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"folds": 3, "options": {"average": 0.9}}', encoding="utf-8")
    assert read_plan(tmp_path) == {"folds": 3, "options": {"ema": 0.9}}


def test_forms_of_a_recording_are_those_that_can_be_written() -> None:
    assert tuple(FRAME_STORES) == RECORD_FORMATS


def test_help_loads_no_numpy() -> None:
    """It costs more than everything else that --help needs, also on a board."""
    code = "import sys, edgeseg.cli.app; sys.exit(len({'numpy', 'cv2', 'tensorflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
