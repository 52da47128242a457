"""Gather what a board needs to run a model: the file, edgeseg, the board's setup, scripts, service and settings."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.backends.select import AUTO
from edgeseg.core.board import Board
from edgeseg.core.errors import DeployError
from edgeseg.core.modelfile import ModelFile
from edgeseg.deploy.archive import list_sums

EPOCH = "SOURCE_DATE_EPOCH"
SCRIPTS = Path(__file__).with_name("board")
SETUP, SHARED_SETUP = "setup.sh", "setup-common.sh"


@dataclass(frozen=True)
class Target:
    """A board to pack for: its name, its profile and the folder that holds its setup."""

    name: str
    board: Board
    folder: Path

    def __post_init__(self) -> None:
        """Refuse a folder that cannot set the board up."""
        for path in (self.folder / SETUP, self.folder.parent / SHARED_SETUP):
            if not path.is_file():
                raise DeployError(
                    f"Expected a {path.name} for the board {self.name} in {path.parent}, got none.",
                    "Copy the folder devices with the nearest board in it; devices/README.md says what it must hold.",
                )


@dataclass(frozen=True)
class Packages:
    """What pip is to install on the board."""

    wheel: Path
    needed: tuple[Path, ...] = ()
    """All that the wheel needs, for a board without a network."""
    python: str = ""
    """The Python that the needed packages are for, such as 3.11; empty where the board gets its packages itself."""


def find_build_time() -> int:
    """Give the seconds since 1970 by which a board tells an older archive from a newer one.

    SOURCE_DATE_EPOCH names them where the same input is to give the same bytes.
    """
    named = os.environ.get(EPOCH, "")
    if not named:
        return int(time.time())
    if not re.fullmatch(r"\d{1,15}", named):
        raise DeployError(f"Expected seconds since 1970 in {EPOCH}, got {named!r}.", f"Correct it, or unset {EPOCH}.")
    return int(named)


def gather_files(
    model: ModelFile, target: Target, packages: Packages, keys: Mapping[str, bytes], built: int = 0
) -> dict[str, bytes]:
    """Gather an archive's files, by their paths in it.

    Args:
        model: What the board is to run.
        target: The board.
        packages: What pip is to install there.
        keys: The files that the archive's signature is checked with.
        built: When it was packed, in seconds since 1970; a board refuses what is older than what was in use there.
    """
    setup = _gather_setup(target, packages)
    files = {"model.tflite": _read(model.path), "stream.env": write_settings(target.board).encode()}
    files |= {path.name: _read(path) for path in SCRIPTS.iterdir()}
    files |= {"machines": _list(target.board.machine), "device-tree": _list(target.board.device_tree)}
    files |= {**setup, **keys}
    names = {
        "RELEASE": f"{_shorten(model.card.name)}-{hash_files(files)}",
        "ENVIRONMENT": hash_files(setup),
        "BOARD": target.name,
        "WHEEL": packages.wheel.name,
        "OFFLINE_PYTHON": packages.python,
        "BUILT": str(built),
    }
    return files | {"release.env": "".join(f"{key}={quote_setting(names[key])}\n" for key in names).encode()}


def _gather_setup(target: Target, packages: Packages) -> dict[str, bytes]:
    """Gather what the Python environment on the board is made from."""
    wheels = {f"wheels/{path.name}": _read(path) for path in (packages.wheel, *packages.needed)}
    shared = {f"devices/{SHARED_SETUP}": _read(target.folder.parent / SHARED_SETUP)}
    own = {f"devices/{target.name}/{path.name}": _read(path) for path in target.folder.iterdir() if path.is_file()}
    return wheels | shared | own


def hash_files(files: Mapping[str, bytes]) -> str:
    """Give a short name that stands for the names and contents of files."""
    return hashlib.sha256(list_sums(files).encode()).hexdigest()[:12]


def _shorten(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[:40] or "model"


def write_settings(board: Board) -> str:
    """Write the settings of the stream, as both systemd and sh read them."""
    use = board.recommended
    settings = {
        "SOURCE": use.source,
        "BACKEND": AUTO,
        "THREADS": str(use.threads),
        "BUDGET_MS": f"{use.budget_ms:g}",
        "VIEW": "none",
        "MORE": "",
    }
    lines = [f"EDGESEG_{key}={quote_setting(value)}" for key, value in settings.items()]
    head = "# Settings of the stream, as `edgeseg stream --help` explains them. After a change: sh board.sh restart"
    return "\n".join([head, *lines]) + "\n"


def quote_setting(value: str) -> str:
    """Quote a value so that systemd and sh read the same."""
    if "'" in value or "\n" in value:
        raise DeployError(
            f"Expected a setting on one line without the character ', got {value!r}.",
            "Correct recommended.source in the board's profile.",
        )
    return f"'{value}'"


def _list(names: Sequence[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DeployError(
            f"Expected to read {path}, got: {error.strerror}.", "Check that it is there and may be read."
        ) from error
