"""The exceptions of edgeseg, each with a message and a hint.

EdgesegError
├── DataError          labelled images cannot be used as they are
├── RunError           a run folder is missing, unfinished or of another version
├── TrainingError      a training cannot start or continue on this machine
├── ModelFileError     a model file cannot be loaded or trusted
├── RecipeError        a compression recipe cannot be carried out
├── UnknownNameError   no recipe, board, source or class has that name
├── SourceError        frames cannot be read
│   └── SourceTextError    a source is written so that it never opens
├── BackendError       a model file cannot be run on this machine
├── ExportError        a model file cannot be exported to a target
├── DeployError        a model file cannot be bundled for a board or installed there
├── OutputError        a result cannot be written
│   └── FolderBusyError    another edgeseg is writing there
├── LimitError         an input is no regular file, or exceeds a limit
└── MissingExtraError  a required package is not installed (core/install.py)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from edgeseg.core.redact import redact

# More than three suggestions are a list, which follows anyway.
_MOST_GUESSES = 3


class EdgesegError(Exception):
    """The base of all errors that a person can act on; secrets in them are redacted.

    Args:
        message: One sentence: what was expected, and what was found.
        hint: What to do next.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        # Messages go to terminals, logs and reports, and file names and source addresses in them may hold anything.
        self.message = redact(message)
        self.hint = redact(hint)
        super().__init__(self.message)


class DataError(EdgesegError):
    """Labelled images cannot be used as they are."""


class RunError(EdgesegError):
    """A run folder is missing, unfinished or of another version."""


class TrainingError(EdgesegError):
    """A training cannot start or continue on this machine."""


class ModelFileError(EdgesegError):
    """A model file cannot be loaded or trusted."""


class RecipeError(EdgesegError):
    """A compression recipe cannot be carried out."""


class SourceError(EdgesegError):
    """Frames cannot be read."""


class SourceTextError(SourceError):
    """A source is written so that it never opens on this machine: it is not tried again."""


class BackendError(EdgesegError):
    """A model file cannot be run on this machine."""


class ExportError(EdgesegError):
    """A model file cannot be exported to a target."""


class DeployError(EdgesegError):
    """A model file cannot be bundled for a board or installed there."""


class OutputError(EdgesegError):
    """A result cannot be written."""


class FolderBusyError(OutputError):
    """Another edgeseg is writing into the folder."""


class LimitError(EdgesegError):
    """An input is no regular file, or exceeds a limit."""


class UnknownNameError(EdgesegError):
    """A name is unknown; the hint lists the known names and the most similar ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        candidates = sorted(known)
        nearest = _find_nearest(name, candidates)
        guess = f"Did you mean {' or '.join(nearest)}? " if nearest else ""
        super().__init__(
            f"Expected the name of a {kind}, got {name!r}.",
            f"{guess}Known: {', '.join(candidates) or 'none'}.",
        )


def _find_nearest(name: str, candidates: list[str]) -> list[str]:
    """List the few names that contain this one, else the one that is spelt most like it."""
    holding = [candidate for candidate in candidates if name and name.lower() in candidate]
    if 0 < len(holding) <= _MOST_GUESSES:
        return holding
    return difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
