"""The error tree: one class for each kind of thing that goes wrong, each with a hint.

EdgesegError
├── DataError       labelled images cannot be used as they are
├── RunError        a run folder is missing, unfinished or of another version
├── TrainingError   a training cannot go on, or cannot be done on this machine
├── ModelFileError  a model file cannot be loaded or trusted
├── RecipeError     a recipe asks for what cannot be done
├── UnknownNameError  no recipe, board, source or class of that name
├── SourceError     frames cannot be read
├── BackendError    a model file cannot be run here
├── ExportError     a model file cannot be brought to a target
├── DeployError     a model file cannot be packed for a board or brought there
├── OutputError     a result cannot be written
├── LimitError      an input is no regular file, or larger than the limit for its kind
└── MissingExtraError  a package that this command needs is not installed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from edgeseg.core.redact import redact

_MOST_GUESSES = 3


class EdgesegError(Exception):
    """Something went wrong that a person can act on; secrets in the message are redacted.

    Args:
        message: One sentence with what was expected and what came.
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
    """A training cannot go on, or cannot be done on this machine."""


class ModelFileError(EdgesegError):
    """A model file cannot be loaded or trusted."""


class RecipeError(EdgesegError):
    """A recipe asks for what cannot be done."""


class SourceError(EdgesegError):
    """Frames cannot be read."""


class BackendError(EdgesegError):
    """A model file cannot be run here."""


class ExportError(EdgesegError):
    """A model file cannot be brought to a target."""


class DeployError(EdgesegError):
    """A model file cannot be packed for a board or brought there."""


class OutputError(EdgesegError):
    """A result cannot be written."""


class LimitError(EdgesegError):
    """An input is no regular file, or larger than the limit for its kind."""


class MissingExtraError(EdgesegError):
    """A package that this command needs is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        from edgeseg.core.install import install_command

        super().__init__(
            f"Expected the package {package}, which is not installed here.",
            f"Install it with: {install_command(extra)}",
        )


class UnknownNameError(EdgesegError):
    """A name is not among the known ones; the message lists them and the nearest."""

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
