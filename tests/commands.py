"""Run commands that must not succeed, and make a disk full, for real."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeseg.cli.app import main
from edgeseg.core.errors import EdgesegError

Fail = Callable[..., tuple[int, str]]


class CommandLine:
    """Runs commands inside this process, so that TensorFlow is imported once and not once per sentence."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def fail(self, *arguments: str | Path) -> tuple[int, str]:
        """Run a command that must not succeed; gives its exit code and what it said on stderr."""
        self._monkeypatch.setattr("sys.argv", ["edgeseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        assert isinstance(caught.value.code, int)
        return caught.value.code, self._capsys.readouterr().err


def assert_says(said: str | EdgesegError, *facts: str | Path) -> None:
    """Check that every fact occurs in an error's message or hint, or in what was printed."""
    text = said if isinstance(said, str) else f"{said.message}\n{said.hint}"
    missing = [str(fact) for fact in facts if str(fact) not in text]
    assert not missing, f"{missing} not in: {text}"


@contextmanager
def full_disk(room: int = 1000) -> Iterator[None]:
    """Let the operating system refuse every file that grows beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def read_files(folder: Path) -> dict[Path, bytes]:
    """Read every file of a folder, to see later that none has changed."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
