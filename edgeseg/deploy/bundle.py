"""Gather what a board needs to run a model: the file, edgeseg, the board's setup, scripts, service and settings."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

import edgeseg
from edgeseg.backends.select import AUTO
from edgeseg.core.errors import DeployError
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.process import command_module, run_limited, run_with_input
from edgeseg.core.searchpath import trusted_environment
from edgeseg.machine.boards import Board

SUMS = "SHA256SUMS"
_TIME = 315532800
"""1980, as inside the model file: tar warns of anything at the very beginning of time."""
EPOCH = "SOURCE_DATE_EPOCH"
SETUP, SHARED_SETUP = "setup.sh", "setup-common.sh"
SECONDS = 60
SUFFIX = ".sig"
BUILD_SECONDS = 900
OLDEST_GLIBC, NEWEST_GLIBC = 17, 28
"""Of the wheels to look for: 2.28 is what every board has whose system brings Python 3.10."""


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Pack files, by their paths, together with a list of their hashes; the same files give the same bytes."""
    whole = {**files, SUMS: list_sums(files).encode("ascii")}
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(whole):
            archive.addfile(_describe(name, len(whole[name])), io.BytesIO(whole[name]))
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as stream:
        stream.write(plain.getbuffer())
    return packed.getvalue()


def list_sums(files: Mapping[str, bytes]) -> str:
    """List hashes as `sha256sum --check` reads them."""
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))


def _describe(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = size, _TIME
    entry.mode = 0o755 if name.endswith(".sh") else 0o644
    return entry


SCRIPTS = Path(__file__).with_name("board")


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


def read_public_key(key: Path) -> bytes:
    """Derive the public key from a private one."""
    return _run_openssl(["pkey", "-in", str(key), "-pubout"], key)


def sign_archive(archive: bytes, key: Path) -> bytes:
    """Sign the bytes of an archive with a private key; openssl 1.1 can check it, as older boards have it."""
    return _run_openssl(["dgst", "-sha256", "-sign", str(key)], key, archive)


def _run_openssl(arguments: list[str], key: Path, data: bytes = b"") -> bytes:
    if not key.is_file():
        raise DeployError(f"Expected a private key at {key}, got no such file.", _make_key_hint(key))
    try:
        done = run_with_input(["openssl", *arguments], data, SECONDS)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise DeployError(
            f"Expected openssl to sign with, got: {error}.", "Install openssl, or leave --sign out."
        ) from error
    if done.returncode != 0:
        raise DeployError(
            f"Expected an EC or RSA private key without a passphrase in {key}, got what openssl cannot sign with.",
            _make_key_hint(key.with_name("key.pem")),
        )
    return done.stdout


def _make_key_hint(key: Path) -> str:
    return f"Make one: openssl ecparam -name prime256v1 -genkey -noout -out {key}"


CHECKOUT = Path(edgeseg.__file__).resolve().parents[1]


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
        status, said = run_limited(command, folder, BUILD_SECONDS, trusted_environment())
    except subprocess.TimeoutExpired as error:
        raise DeployError(f"{what} took longer than {BUILD_SECONDS} s.", hint) from error
    if status != 0:
        raise DeployError(f"{what} failed: {' '.join(said.split()[-60:])}", hint)
