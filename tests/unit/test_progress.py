"""Progress on a terminal: a bar inside another one is drawn below it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from edgeseg.core import progress
from edgeseg.core.progress import allow_bars, progress_bar


class Terminal(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@contextmanager
def bars_allowed() -> Iterator[None]:
    """Draw bars, as the command line does."""
    allow_bars(True)
    try:
        yield
    finally:
        allow_bars(False)


def test_a_library_draws_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress_bar("Training", 1) as advance:
        advance("")
    assert terminal.getvalue() == ""


def test_bar_inside_a_bar_is_gone_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with bars_allowed(), progress_bar("Trials", 1) as outer:
        with pytest.raises(ZeroDivisionError), progress_bar("Training", 3):
            _ = 1 / 0
        outer("")
    first, last = terminal.getvalue().split("0/3")[0], terminal.getvalue().rpartition("Trials")[2]
    assert "Training" in first
    assert "1/1" in last
    assert "Training" not in last


def test_log_of_very_long_steps_says_what_is_left_before_the_first_tenth(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "edgeseg")
    monkeypatch.setattr(progress, "SILENT_SECONDS", -1.0)
    with progress_bar("Training", 100) as advance:
        advance("epoch 1 of 4")
        advance("epoch 1 of 4")
    first, second = caplog.messages
    assert first.startswith("Training: 1/100 after 0 s, about 0 s left")
    assert second.endswith("epoch 1 of 4")
