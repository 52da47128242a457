"""Boards: the profiles in devices/, the catalog of boards and recipes, and recognition of the board this runs on."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeseg.core.errors import EdgesegError, LimitError, RecipeError, UnknownNameError
from edgeseg.core.limits import TOML_BYTES, TOML_LINE_BYTES, read_regular
from edgeseg.core.redact import to_one_line
from edgeseg.core.schema import SchemaError, from_plain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path("/")
# The Grafana dashboard for the figures of `edgeseg stream --metrics`, beside the boards.
DASHBOARD = "grafana.json"
_PACKAGE = Path(__file__).resolve().parents[1]
# A USB or PCI identity as lsusb writes it: vendor and product.
_ID = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")
_VERSION = re.compile(r"\d+\.\d+")


def catalog_folder(name: str) -> Path:
    """Find the folder of recipes or boards: in the installed package first, then in the checkout."""
    installed = _PACKAGE / "_catalog" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def list_recipes() -> dict[str, Path]:
    """List the recipes that come with edgeseg, by name."""
    return {path.stem: path for path in sorted(catalog_folder("quantize").glob("*.toml"))}


def list_boards() -> dict[str, Path]:
    """List the boards that edgeseg knows, by name, each with its profile."""
    return {path.parent.name: path for path in sorted(catalog_folder("devices").glob("*/profile.toml"))}


def find_recipe(name: str) -> Path:
    """Find a recipe by its name or by the path of a TOML file."""
    return _find("recipe", name, list_recipes())


def find_board(name: str) -> Path:
    """Find a board's profile by its name or by the path of a TOML file."""
    return _find("board", name, list_boards())


def _find(kind: str, name: str, known: dict[str, Path]) -> Path:
    if name in known:
        return known[name]
    if name.endswith(".toml") and Path(name).is_file():
        return Path(name)
    raise UnknownNameError(kind, name, known)


def read_toml(path: Path, limit: int = TOML_BYTES) -> dict[str, Any]:
    """Read a TOML file of at most `limit` bytes."""
    data = read_regular(path, limit)
    if len(data) > TOML_BYTES and max(map(len, data.splitlines())) > TOML_LINE_BYTES:
        raise LimitError(f"Expected lines of at most {TOML_LINE_BYTES} bytes in {path}, got more.", "Divide them.")
    try:
        # editors on Windows put a mark in front
        table: dict[str, Any] = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # RecursionError: thousands of open brackets
        raise RecipeError(
            f"Expected TOML in {path}, which does not parse: {to_one_line(error)}.", "Correct the file."
        ) from error
    return table


def _check_form(wanted: str, pattern: re.Pattern[str], values: Iterable[str]) -> None:
    for value in values:
        if pattern.fullmatch(value) is None:
            raise SchemaError(f"expected {wanted}, got {value!r}")


@dataclass(frozen=True)
class System:
    """Versions in the board's usual system image."""

    name: str
    python: str
    glibc: str

    def __post_init__(self) -> None:
        """Check the versions."""
        _check_form("two numbers in system.python and system.glibc", _VERSION, (self.python, self.glibc))


@dataclass(frozen=True)
class Runtime:
    """The packages that run models on the board."""

    packages: tuple[str, ...]
    """Requirements for pip."""
    wheels: str
    """The origin of the wheels, as text."""


@dataclass(frozen=True)
class Recommended:
    """Recommended settings for a board."""

    recipes: tuple[str, ...]
    backends: tuple[str, ...]
    threads: int
    budget_ms: float
    source: str
    models: tuple[str, ...] = ("small",)
    """Values for `edgeseg train --model`, the best first."""
    sizes: tuple[int, ...] = (256,)
    """Height and width of the network's input, the best first."""

    def __post_init__(self) -> None:
        """Check that lists are not empty and numbers are in range."""
        if not (self.recipes and self.backends and self.models and self.sizes):
            raise SchemaError("expected at least one entry in each list of recommended")
        if self.threads < 1 or self.budget_ms <= 0:
            raise SchemaError(f"expected threads and budget_ms above 0, got {self.threads} and {self.budget_ms}")
        if any(size < 32 or size % 16 for size in self.sizes):
            raise SchemaError(f"expected multiples of 16 from 32 on in recommended.sizes, got {list(self.sizes)}")


@dataclass(frozen=True)
class Heat:
    """The board's files for temperature and throttling; paths have no leading slash."""

    zones: tuple[str, ...] = ()
    """Patterns of files with thousandths of a degree Celsius."""
    throttle: tuple[str, ...] = ()
    """Files that report throttling."""

    def __post_init__(self) -> None:
        """Refuse absolute paths, which would not be below another root."""
        _check_form("paths without a leading slash in heat", re.compile(r"[^/].*"), (*self.zones, *self.throttle))


@dataclass(frozen=True)
class PowerMode:
    """A power mode of the board, and the command that sets it."""

    name: str
    command: str


@dataclass(frozen=True)
class Board:
    """A board profile (devices/NAME/profile.toml)."""

    title: str
    machine: tuple[str, ...]
    """Architectures, as `uname -m` prints them."""
    python: tuple[str, ...]
    recommended: Recommended
    verified: tuple[str, ...]
    not_verified: tuple[str, ...]
    min_memory_mb: int = 512
    """Least `MemTotal` in /proc/meminfo."""
    device_tree: tuple[str, ...] = ()
    """Parts of the device tree's model string that identify this board."""
    usb: tuple[str, ...] = ()
    """USB identities that identify it, such as "1a6e:089a"."""
    pci: tuple[str, ...] = ()
    system: System | None = None
    runtime: Runtime = Runtime(("ai-edge-litert>=2.0",), "ready-made on the Python package index")
    heat: Heat = Heat()
    power: tuple[PowerMode, ...] = ()
    """Power modes, the fastest first."""
    sources: tuple[str, ...] = ()
    """Titles of the documents that this profile is based on."""

    def __post_init__(self) -> None:
        """Check the form of versions and identities."""
        _check_form("two numbers in python", _VERSION, self.python)
        _check_form("identities such as 1a6e:089a in usb and pci", _ID, (*self.usb, *self.pci))

    @property
    def is_generic(self) -> bool:
        """Say whether this profile fits any machine of its architecture."""
        return not (self.device_tree or self.usb or self.pci)


def load_board(name: str) -> Board:
    """Load a board profile by name or path."""
    path = find_board(name)
    try:
        return from_plain(Board, read_toml(path))
    except SchemaError as error:
        raise EdgesegError(
            f"Expected a complete board profile in {path}, got: {error}.",
            "Correct that field; devices/README.md explains each one.",
        ) from error


def name_board(name: str) -> str:
    """Return the name of a board that may be given as a path: its folder's name."""
    return find_board(name).resolve().parent.name


def is_board(board: Board, signs: Signs) -> bool:
    """Say whether a machine is this board, by its device tree or by a plugged-in device."""
    return _is_named(board, signs) or is_plugged_in(board, signs)


def is_plugged_in(board: Board, signs: Signs) -> bool:
    """Say whether one of this board's USB or PCI devices is plugged in."""
    return bool(signs.usb.intersection(board.usb) or signs.pci.intersection(board.pci))


def find_nearest_board(signs: Signs) -> str | None:
    """Find the profile of the board, else of a plugged-in accelerator, else the generic one of its architecture."""
    boards = {name: load_board(name) for name in list_boards()}
    exact = (name for name, board in boards.items() if _is_named(board, signs))
    plugged = (name for name, board in boards.items() if is_plugged_in(board, signs))
    generic = (name for name, board in boards.items() if board.is_generic and signs.machine in board.machine)
    return next(exact, None) or next(plugged, None) or next(generic, None)


def recommend_backends(root: Path = ROOT) -> tuple[str, ...]:
    """List the recommended backends of this machine, the best first; empty without a profile."""
    recommended = recommend_here(root)
    return recommended.backends if recommended else ()


def recommend_here(root: Path = ROOT) -> Recommended | None:
    """Return the recommended settings of this machine; None without a profile."""
    name = find_nearest_board(read_signs(root))
    return load_board(name).recommended if name else None


def _is_named(board: Board, signs: Signs) -> bool:
    return any(part in signs.model for part in board.device_tree)


@dataclass(frozen=True)
class Signs:
    """What identifies a machine: architecture, device tree, USB and PCI identities; empty where unknown."""

    machine: str
    """The architecture, as `uname -m` prints it."""
    model: str = ""
    """The device tree's model string."""
    usb: frozenset[str] = frozenset()
    """Vendor and product as lsusb writes them, such as "1a6e:089a"."""
    pci: frozenset[str] = frozenset()


def read_signs(root: Path = ROOT, machine: str = platform.machine()) -> Signs:
    """Read what identifies this machine, or the one whose files are below another root."""
    return Signs(
        machine,
        read_text(root / "proc/device-tree/model"),
        _read_ids(root / "sys/bus/usb/devices", "idVendor", "idProduct"),
        _read_ids(root / "sys/bus/pci/devices", "vendor", "device"),
    )


def read_text(path: Path) -> str:
    """Read a file of the kernel; a missing or unreadable one is empty, as boards differ."""
    try:
        # strings of the device tree end with a NUL
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""


def _read_ids(folder: Path, vendor: str, product: str) -> frozenset[str]:
    devices = (path.parent for path in folder.glob(f"*/{vendor}"))
    return frozenset(f"{_read_id(device / vendor)}:{_read_id(device / product)}" for device in devices)


def _read_id(path: Path) -> str:
    """Read four hexadecimal digits; PCI writes 0x before them."""
    return read_text(path).removeprefix("0x")
