"""What is known about a board: its profile.toml."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.catalog import find_board, list_boards, read_toml
from edgeseg.core.errors import EdgesegError
from edgeseg.core.schema import MisfitError, from_plain


@dataclass(frozen=True)
class Recommended:
    """What to use on a board when nothing else is known."""

    recipes: tuple[str, ...]
    backends: tuple[str, ...]
    threads: int
    budget_ms: float
    source: str

    def __post_init__(self) -> None:
        """Refuse a recommendation that names nothing or cannot be kept."""
        if not self.recipes or not self.backends:
            raise MisfitError("expected at least one name in recommended.recipes and in recommended.backends")
        if self.threads < 1 or self.budget_ms <= 0:
            raise MisfitError(f"expected threads and budget_ms above 0, got {self.threads} and {self.budget_ms}")


@dataclass(frozen=True)
class Board:
    """A board's profile."""

    title: str
    machine: tuple[str, ...]
    """What `uname -m` may say there."""
    python: tuple[str, ...]
    recommended: Recommended
    verified: tuple[str, ...]
    not_verified: tuple[str, ...]
    min_memory_mb: int = 512
    """What `MemTotal` must at least say there."""
    device_tree: tuple[str, ...] = ()
    """Parts of the device tree's model string that give this board away; empty for a generic profile."""


def load_board(name: str) -> Board:
    """Read a board's profile by name or by path."""
    path = find_board(name)
    try:
        return from_plain(Board, read_toml(path))
    except MisfitError as error:
        raise EdgesegError(
            f"Expected a complete board profile in {path}, got: {error}.",
            "Correct that field; devices/README.md explains each one.",
        ) from error


def name_board(name: str) -> str:
    """Name a board that may have been given as a path: its folder's name."""
    return find_board(name).resolve().parent.name


def find_nearest_board(model: str, machine: str) -> str | None:
    """Find the profile for a device tree model, else the generic one for what `uname -m` says."""
    boards = {name: load_board(name) for name in list_boards()}
    exact = (name for name, board in boards.items() if any(part in model for part in board.device_tree))
    generic = (name for name, board in boards.items() if not board.device_tree and machine in board.machine)
    return next(exact, None) or next(generic, None)


def recommend_backends(device_tree: Path = Path("/proc/device-tree/model")) -> tuple[str, ...]:
    """List what the profile of this machine recommends to run models on, the best first; empty without a profile."""
    recommended = recommend_here(device_tree)
    return recommended.backends if recommended else ()


def recommend_here(device_tree: Path = Path("/proc/device-tree/model")) -> Recommended | None:
    """Find what the profile of this machine recommends; None without a profile."""
    model = device_tree.read_text(encoding="utf-8", errors="replace") if device_tree.is_file() else ""
    name = find_nearest_board(model, platform.machine())
    return load_board(name).recommended if name else None
