"""Sign an archive with the system's openssl, so that a board can refuse one that was changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from edgeseg.core.errors import DeployError
from edgeseg.core.process import run_limited

SECONDS = 60


def read_public_key(key: Path) -> bytes:
    """Derive the public key from a private one."""
    return _run_openssl(["pkey", "-in", str(key.resolve()), "-pubout"]).encode("ascii")


def sign_archive(archive: Path, key: Path) -> Path:
    """Write an archive's signature beside it."""
    signature = archive.with_name(f"{archive.name}.sig")
    files = ["-in", str(archive.resolve()), "-out", str(signature.resolve())]
    _run_openssl(["pkeyutl", "-sign", "-rawin", "-inkey", str(key.resolve()), *files])
    return signature


def _run_openssl(arguments: list[str]) -> str:
    try:
        status, said = run_limited(["openssl", *arguments], Path.cwd(), SECONDS)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise DeployError(
            f"Expected openssl to sign with, got: {error}.", "Install openssl 3, or leave --sign out."
        ) from error
    if status != 0:
        raise DeployError(
            f"Expected a private key without a passphrase that openssl can sign with, got: {' '.join(said.split())}",
            "Make one: openssl genpkey -algorithm ed25519 -out key.pem",
        )
    return said
