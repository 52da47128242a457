"""What is known about a board: its profile.toml."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edgeseg.core.catalog import find_board, read_toml
from edgeseg.core.errors import EdgesegError
from edgeseg.core.schema import MisfitError, from_plain

_ID = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")
_VERSION = re.compile(r"\d+\.\d+")


def _check_form(wanted: str, pattern: re.Pattern[str], values: Iterable[str]) -> None:
    for value in values:
        if pattern.fullmatch(value) is None:
            raise MisfitError(f"expected {wanted}, got {value!r}")


@dataclass(frozen=True)
class System:
    """What the board's usual system image brings."""

    name: str
    python: str
    glibc: str

    def __post_init__(self) -> None:
        """Refuse versions that cannot be compared."""
        _check_form("two numbers in system.python and system.glibc", _VERSION, (self.python, self.glibc))


@dataclass(frozen=True)
class Runtime:
    """Which packages run models there."""

    packages: tuple[str, ...]
    """Requirements as pip takes them."""
    wheels: str
    """Where they come from, in words."""


@dataclass(frozen=True)
class Recommended:
    """What to use on a board when nothing else is known."""

    recipes: tuple[str, ...]
    backends: tuple[str, ...]
    threads: int
    budget_ms: float
    source: str
    models: tuple[str, ...] = ("small",)
    """What `edgeseg train --model` may be, the best first."""
    sizes: tuple[int, ...] = (256,)
    """Height and width of the network's input, the best first."""

    def __post_init__(self) -> None:
        """Refuse a recommendation that names nothing or cannot be kept."""
        if not (self.recipes and self.backends and self.models and self.sizes):
            raise MisfitError("expected at least one entry in each list of recommended")
        if self.threads < 1 or self.budget_ms <= 0:
            raise MisfitError(f"expected threads and budget_ms above 0, got {self.threads} and {self.budget_ms}")
        if any(size < 32 or size % 16 for size in self.sizes):
            raise MisfitError(f"expected multiples of 16 from 32 on in recommended.sizes, got {list(self.sizes)}")


@dataclass(frozen=True)
class Heat:
    """Where the board tells how hot it is, and that it slows down; paths have no leading slash."""

    zones: tuple[str, ...] = ()
    """Patterns of temperature files in thousandths of a degree."""
    throttle: tuple[str, ...] = ()
    """Files that tell of throttling."""

    def __post_init__(self) -> None:
        """Refuse paths that would not lie below another root."""
        _check_form("paths without a leading slash in heat", re.compile(r"[^/].*"), (*self.zones, *self.throttle))


@dataclass(frozen=True)
class PowerMode:
    """One way to trade speed for power."""

    name: str
    command: str


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
    """Parts of the device tree's model string that give this board away."""
    usb: tuple[str, ...] = ()
    """USB identities that give it away, such as "1a6e:089a"."""
    pci: tuple[str, ...] = ()
    system: System | None = None
    runtime: Runtime = Runtime(("ai-edge-litert>=2.0",), "ready-made on the Python package index")
    heat: Heat = Heat()
    power: tuple[PowerMode, ...] = ()
    """Power modes, the fastest first."""
    sources: tuple[str, ...] = ()
    """Titles of the documents behind this profile."""

    def __post_init__(self) -> None:
        """Refuse versions and identities that could never match."""
        _check_form("two numbers in python", _VERSION, self.python)
        _check_form("identities such as 1a6e:089a in usb and pci", _ID, (*self.usb, *self.pci))

    @property
    def is_generic(self) -> bool:
        """Tell whether this profile is for any machine with its processor."""
        return not (self.device_tree or self.usb or self.pci)


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
