"""The archive for a board: model, edgeseg's wheel, setup, scripts, service and settings; signed on request.

The same input gives the same bytes, so that two people can compare what they built (reproducible builds).
"""

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
SUFFIX = ".sig"
# The variable of reproducible-builds.org for the build time.
EPOCH = "SOURCE_DATE_EPOCH"
SETUP, SHARED_SETUP = "setup.sh", "setup-common.sh"
SCRIPTS = Path(__file__).with_name("board")
CHECKOUT = Path(edgeseg.__file__).resolve().parents[1]
SIGN_SECONDS = 60
BUILD_SECONDS = 900
# Minor versions of glibc 2 in the manylinux tags to try: every system with Python 3.10 has 2.28.
OLDEST_GLIBC, NEWEST_GLIBC = 17, 28
# 1980, the earliest time of a zip entry, as in the model file; tar warns of implausibly old files.
_FILE_TIME = 315532800


@dataclass(frozen=True)
class Target:
    """The board to pack for: its name, its profile and the folder with its setup."""

    name: str
    board: Board
    folder: Path

    def __post_init__(self) -> None:
        for path in (self.folder / SETUP, self.folder.parent / SHARED_SETUP):
            if not path.is_file():
                raise DeployError(
                    f"Expected a {path.name} for the board {self.name} in {path.parent}, got none.",
                    "Copy the folder devices with the nearest board in it; devices/README.md says what it must hold.",
                )


@dataclass(frozen=True)
class Packages:
    """What pip installs on the board."""

    wheel: Path
    needed: tuple[Path, ...] = ()
    """The wheel's dependencies, for a board without a network."""
    python: str = ""
    """The Python that the dependencies are for, such as 3.11; empty where the board downloads them."""


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Pack files, by their paths in the archive, with a list of their hashes; reproducibly."""
    whole = {**files, SUMS: list_sums(files).encode("ascii")}
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(whole):
            archive.addfile(_describe(name, len(whole[name])), io.BytesIO(whole[name]))
    packed = io.BytesIO()
    # no name and no time in the gzip header: both would differ from build to build
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as stream:
        stream.write(plain.getbuffer())
    return packed.getvalue()


def list_sums(files: Mapping[str, bytes]) -> str:
    """Write hashes in the format of `sha256sum --check`."""
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))


def _describe(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    # fixed owner and time, so that the bytes depend on the files alone
    entry.size, entry.mtime = size, _FILE_TIME
    entry.mode = 0o755 if name.endswith(".sh") else 0o644
    return entry


def find_build_time() -> int:
    """Return the build time in seconds since 1970, by which a board refuses older archives.

    SOURCE_DATE_EPOCH overrides it for a reproducible archive.
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
    """Collect the files of an archive, by their paths in it.

    Args:
        model: The model to run.
        target: The board.
        packages: What pip installs there.
        keys: Files with the public key, for the signature of later archives.
        built: The build time in seconds since 1970; a board refuses an archive older than one that was in use.
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


def find_release(files: Mapping[str, bytes]) -> str:
    """Return the name that a board gives to the release in an archive."""
    named = re.search(rb"^RELEASE='([A-Za-z0-9.-]+)'$", files["release.env"], re.MULTILINE)
    if named is None:
        raise DeployError("Expected the name of a release in release.env, got none.", "Pack the archive again.")
    return named[1].decode("ascii")


def _gather_setup(target: Target, packages: Packages) -> dict[str, bytes]:
    """Collect what the Python environment on the board is made from; its hash names the environment."""
    wheels = {f"wheels/{path.name}": _read(path) for path in (packages.wheel, *packages.needed)}
    shared = {f"devices/{SHARED_SETUP}": _read(target.folder.parent / SHARED_SETUP)}
    own = {f"devices/{target.name}/{path.name}": _read(path) for path in target.folder.iterdir() if path.is_file()}
    return wheels | shared | own


def hash_files(files: Mapping[str, bytes]) -> str:
    """Hash the names and contents of files to a short name."""
    return hashlib.sha256(list_sums(files).encode()).hexdigest()[:12]


def _shorten(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[:40] or "model"


def write_settings(board: Board) -> str:
    """Write the settings of the stream, as an EnvironmentFile of systemd that sh can source too."""
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
    # systemd and sh agree on single quotes only without escapes inside
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
    """Sign an archive with a private key (EC or RSA, SHA-256), which openssl 1.1 of older boards can verify."""
    return _run_openssl(["dgst", "-sha256", "-sign", str(key)], key, archive)


def _run_openssl(arguments: list[str], key: Path, data: bytes = b"") -> bytes:
    if not key.is_file():
        raise DeployError(f"Expected a private key at {key}, got no such file.", _make_key_hint(key))
    try:
        done = run_with_input(["openssl", *arguments], data, SIGN_SECONDS)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise DeployError(
            f"Expected openssl to sign with, got: {error}.", "Install openssl, or omit --sign."
        ) from error
    if done.returncode != 0:
        raise DeployError(
            f"Expected an EC or RSA private key without a passphrase in {key}, got what openssl cannot sign with.",
            _make_key_hint(key.with_name("key.pem")),
        )
    return done.stdout


def _make_key_hint(key: Path) -> str:
    return f"Make one: openssl ecparam -name prime256v1 -genkey -noout -out {key}"


def provide_wheel(given: Path | None, folder: Path) -> Path:
    """Return the given wheel of edgeseg, or build one from the checkout into a folder."""
    return build_wheel(CHECKOUT, folder) if given is None else check_wheel(given)


def check_wheel(path: Path) -> Path:
    """Check that a file is a complete wheel of edgeseg."""
    if not path.match("edgeseg-*.whl") or not path.is_file() or not zipfile.is_zipfile(path):
        raise DeployError(
            f"Expected a wheel of edgeseg, got {path}.", "Build one in a checkout: python -m hatchling build -t wheel"
        )
    return path


def build_wheel(checkout: Path, folder: Path) -> Path:
    """Build edgeseg's wheel from a checkout, reproducibly."""
    if not (checkout / "pyproject.toml").is_file() or find_spec("hatchling") is None:
        raise DeployError(
            "Expected a checkout of edgeseg with hatchling installed to build its wheel from, got none.",
            "Name a wheel with --wheel F; or work in a checkout, after: pip install hatchling",
        )
    command = command_module("hatchling", ["build", "--target", "wheel", "--directory", str(folder.absolute())])
    _run(command, checkout, "Building edgeseg's wheel", "Build it by hand, and name it with --wheel F.")
    return check_wheel(next(folder.glob("edgeseg-*.whl"), folder))


def fetch_needed(wheel: Path, name: str, board: Board, folder: Path) -> tuple[tuple[Path, ...], str]:
    """Download the dependencies of edgeseg's wheel for a board, for the running Python.

    pip evaluates markers such as `python_version < "3.11"` for the Python that it runs under, even with
    --python-version, so the board must have the same one.

    Returns:
        The wheels, and the Python that they are for.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version not in board.python:
        raise DeployError(
            f"Expected to run under one of the Pythons of the board {name} ({', '.join(board.python)}), got {version}.",
            "Run edgeseg under the board's Python, or omit --offline.",
        )
    _check_pip()
    command = [*_write_command(board, version), "--dest", str(folder.absolute()), str(wheel.resolve())]
    hint = "The end of the message names the package; check the network, or omit --offline."
    _run(command, folder, f"Fetching packages for {name}", hint)
    return tuple(sorted(path for path in folder.glob("*.whl") if path.name != wheel.name)), version


def _check_pip() -> None:
    """Refuse an environment without pip. find_spec("pip") would trigger setuptools' distutils hook."""
    try:
        distribution("pip")
    except PackageNotFoundError as error:
        raise DeployError(
            "Expected pip to fetch packages with, got none.", "Install it: python -m ensurepip"
        ) from error


def _write_command(board: Board, version: str) -> list[str]:
    newest = min(NEWEST_GLIBC, int(board.system.glibc.split(".")[1])) if board.system else NEWEST_GLIBC
    minors = range(newest, OLDEST_GLIBC - 1, -1)
    # pip takes the first tag that matches, so newer ones come first (PEP 600)
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
