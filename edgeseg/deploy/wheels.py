"""The packages that travel to a board: edgeseg's own wheel, and for a board without a network all that it needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

import edgeseg
from edgeseg.core.board import Board
from edgeseg.core.errors import DeployError
from edgeseg.core.process import command_module, run_limited
from edgeseg.core.searchpath import trusted_surroundings

CHECKOUT = Path(edgeseg.__file__).resolve().parents[1]
SECONDS = 900
OLDEST_GLIBC, NEWEST_GLIBC = 17, 28
"""Of the wheels to look for: 2.28 is what every board has whose system brings Python 3.10."""


def provide_wheel(given: Path | None, folder: Path) -> Path:
    """Give edgeseg's wheel: the one that was named, else one built from the checkout into a folder."""
    return build_wheel(CHECKOUT, folder) if given is None else check_wheel(given)


def check_wheel(path: Path) -> Path:
    """Refuse what is no wheel of edgeseg, or is not whole."""
    if not path.match("edgeseg-*.whl") or not path.is_file() or not zipfile.is_zipfile(path):
        raise DeployError(
            f"Expected a wheel of edgeseg, got {path}.", "Build one in a checkout: python -m hatchling build -t wheel"
        )
    return path


def build_wheel(checkout: Path, folder: Path) -> Path:
    """Build edgeseg's wheel from a checkout; the same sources give the same bytes."""
    if not (checkout / "pyproject.toml").is_file() or find_spec("hatchling") is None:
        raise DeployError(
            "Expected a checkout of edgeseg with hatchling installed to build its wheel from, got none.",
            "Name a wheel with --wheel F; or work in a checkout, after: pip install hatchling",
        )
    command = command_module("hatchling", ["build", "--target", "wheel", "--directory", str(folder.absolute())])
    _run(command, checkout, "Building edgeseg's wheel", "Build it by hand, and name it with --wheel F.")
    return check_wheel(next(folder.glob("edgeseg-*.whl"), folder))


def fetch_needed(wheel: Path, name: str, board: Board, folder: Path) -> tuple[tuple[Path, ...], str]:
    """Fetch all wheels that edgeseg's needs on a board, for the Python that runs this.

    pip judges conditions such as `python_version < "3.11"` by the Python that it runs under, whatever Python it is
    told to fetch for: so the two must be the same.

    Returns:
        The wheels, and the Python that they are for.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version not in board.python:
        raise DeployError(
            f"Expected to run under one of the Pythons of the board {name} ({', '.join(board.python)}), got {version}.",
            "Run edgeseg under the board's Python, or leave --offline out.",
        )
    _check_pip()
    command = [*_write_command(board, version), "--dest", str(folder.absolute()), str(wheel.resolve())]
    hint = "Its last words say which package; check the network, or leave --offline out."
    _run(command, folder, f"Fetching packages for {name}", hint)
    return tuple(sorted(path for path in folder.glob("*.whl") if path.name != wheel.name)), version


def _check_pip() -> None:
    """Refuse an environment without pip; looking for its module would let setuptools meddle with distutils."""
    try:
        distribution("pip")
    except PackageNotFoundError as error:
        raise DeployError(
            "Expected pip to fetch packages with, got none.", "Install it: python -m ensurepip"
        ) from error


def _write_command(board: Board, version: str) -> list[str]:
    newest = min(NEWEST_GLIBC, int(board.system.glibc.split(".")[1])) if board.system else NEWEST_GLIBC
    minors = range(newest, OLDEST_GLIBC - 1, -1)
    platforms = [f"manylinux_2_{minor}_{machine}" for machine in board.machine for minor in minors]
    platforms += [f"manylinux2014_{machine}" for machine in board.machine]
    abis = ["cp" + version.replace(".", ""), "abi3", "none"]
    command = ["download", "--disable-pip-version-check", "--quiet"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", version]
    for option, values in (("--platform", platforms), ("--abi", abis)):
        command += [word for value in values for word in (option, value)]
    return command_module("pip", command)


def _run(command: Sequence[str], folder: Path, what: str, hint: str) -> None:
    try:
        status, said = run_limited(command, folder, SECONDS, trusted_surroundings())
    except subprocess.TimeoutExpired as error:
        raise DeployError(f"{what} took longer than {SECONDS} s.", hint) from error
    if status != 0:
        raise DeployError(f"{what} failed: {' '.join(said.split()[-60:])}", hint)
