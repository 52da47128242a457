"""Sign an archive with the system's openssl, so that a board can refuse one that was changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from edgeseg.core.errors import DeployError
from edgeseg.core.process import feed_limited

SECONDS = 60
SUFFIX = ".sig"


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
        done = feed_limited(["openssl", *arguments], data, SECONDS)
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
