"""Long work that is interrupted names the command that goes on with it, and a second signal ends it at once."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
import typer

from edgeseg.cli.terminal import INTERRUPTED, repeatable, resumable
from edgeseg.core.files import staged_folder

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def _command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["edgeseg", "train", "my data", "--out", str(tmp_path / "run"), "--overwrite"])


def begin_and_stop(folder: Path, number: int) -> None:
    (folder / "run.json").write_text("{}", encoding="utf-8")
    signal.raise_signal(number)


@pytest.mark.parametrize("number", SIGNALS)
def test_what_goes_on_is_named_in_full(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, before = tmp_path / "run", [signal.getsignal(one) for one in SIGNALS]
    with pytest.raises(typer.Exit) as raised, resumable(out), staged_folder(out, keep_partial=True) as folder:
        begin_and_stop(folder, number)
    assert raised.value.exit_code == INTERRUPTED
    said = capsys.readouterr().err
    assert f"train 'my data' --out {out} --overwrite --resume" in said
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_where_nothing_is_kept_no_continuation_is_promised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), resumable(tmp_path / "run"):
        signal.raise_signal(signal.SIGINT)
    said = capsys.readouterr().err
    assert "edgeseg" in said
    assert "--resume" not in said


@pytest.mark.parametrize("kept", [True, False])
def test_a_search_goes_on_by_the_same_command(kept: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as raised, repeatable(kept):
        signal.raise_signal(signal.SIGTERM)
    assert raised.value.exit_code == INTERRUPTED
    told = capsys.readouterr().err
    assert ("finished" in told) is kept
    assert "train 'my data'" in told


def test_the_second_signal_is_left_to_the_system(capsys: pytest.CaptureFixture[str]) -> None:
    left: list[object] = []
    stack = ExitStack()
    stack.callback(lambda: left.extend(signal.getsignal(one) for one in SIGNALS))
    with pytest.raises(typer.Exit), repeatable(), stack:
        signal.raise_signal(signal.SIGINT)
    assert left == [signal.SIG_DFL] * 2
    assert "once" in capsys.readouterr().err


def test_beside_the_main_thread_no_handler_is_asked_for() -> None:
    done: list[bool] = []

    def work() -> None:
        with repeatable():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


def test_other_errors_go_their_way(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), resumable(tmp_path / "run"):
        raise ZeroDivisionError
