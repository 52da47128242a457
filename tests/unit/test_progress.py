"""Progress on a terminal: a bar inside another one is drawn below it."""

from __future__ import annotations

import io

import pytest

from edgeseg.core.progress import progress_bar


class Terminal(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_bar_inside_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("Trials", 2) as outer:
        for _ in range(2):
            with progress_bar("Training", 3) as inner:
                inner("loss 0.5")
            outer("")
    assert all(said in terminal.getvalue() for said in ("Training", "1/3", "2/2"))
