"""Which profile fits a machine, by what the machine shows of itself."""

from __future__ import annotations

from pathlib import Path

from edgeseg.core.board import Board, Recommended, load_board
from edgeseg.core.catalog import list_boards
from edgeseg.core.signs import ROOT, Signs, read_signs


def is_board(board: Board, signs: Signs) -> bool:
    """Tell whether a machine shows what gives this very board away, by its device tree or by what is plugged in."""
    return _is_named(board, signs) or is_plugged_in(board, signs)


def is_plugged_in(board: Board, signs: Signs) -> bool:
    """Tell whether a machine shows one of this board's USB or PCI identities."""
    return bool(signs.usb.intersection(board.usb) or signs.pci.intersection(board.pci))


def find_nearest_board(signs: Signs) -> str | None:
    """Find the profile of the board itself, else of what is plugged into it, else the generic one for its processor."""
    boards = {name: load_board(name) for name in list_boards()}
    exact = (name for name, board in boards.items() if _is_named(board, signs))
    plugged = (name for name, board in boards.items() if is_plugged_in(board, signs))
    generic = (name for name, board in boards.items() if board.is_generic and signs.machine in board.machine)
    return next(exact, None) or next(plugged, None) or next(generic, None)


def recommend_backends(root: Path = ROOT) -> tuple[str, ...]:
    """List what the profile of this machine recommends to run models on, the best first; empty without a profile."""
    recommended = recommend_here(root)
    return recommended.backends if recommended else ()


def recommend_here(root: Path = ROOT) -> Recommended | None:
    """Find what the profile of this machine recommends; None without a profile."""
    name = find_nearest_board(read_signs(root))
    return load_board(name).recommended if name else None


def _is_named(board: Board, signs: Signs) -> bool:
    return any(part in signs.model for part in board.device_tree)
