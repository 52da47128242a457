"""Hold several backends against a file's golden pairs, side by side: the same masks, or a reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.backends.parity import Parity
from edgeseg.backends.select import AUTO, select_backend
from edgeseg.core.errors import BackendError
from edgeseg.core.modelfile import ModelFile, read_model


@dataclass(frozen=True)
class ParityRow:
    """One file on one backend; without a parity the reason says why there is none."""

    model: str
    backend: str
    detail: str
    parity: Parity | None
    reason: str

    @property
    def held(self) -> bool:
        """Say whether the masks were proved to be the file's."""
        return self.parity is not None and self.parity.held


def compare_backends(paths: Sequence[Path], requested: str, threads: int) -> list[ParityRow]:
    """Run the golden pairs of each file on each backend.

    Args:
        paths: The files.
        requested: "auto" or the names of backends, with commas.
        threads: CPU threads a backend may use.
    """
    return [_compare(read_model(path), name, threads) for path in paths for name in requested.split(",")]


def _compare(model: ModelFile, requested: str, threads: int) -> ParityRow:
    try:
        found = select_backend(model, requested, threads, enforce_parity=False).report()
    except BackendError as error:
        return ParityRow(model.path.name, requested, "", None, f"{error.message} {error.hint}")
    reason = "" if found.parity else "the file holds no golden pairs"
    name = found.name if requested == AUTO else requested
    return ParityRow(model.path.name, name, found.detail, found.parity, reason)
