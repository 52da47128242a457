"""Who may connect: certificates, a shared token that is proved without being sent, and addresses.

Flower's authentication of nodes belongs to its newer transport. The token is a key that every site has: the server asks
with a random number, and the answer is that number under HMAC-SHA256. It says who may join; the certificate says who
the server is.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
import ssl
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edgeseg.core.errors import TrainingError
from edgeseg.core.limits import MIB, read_regular

SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Say whether only this machine can be reached by it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def read_address(text: str) -> Address:
    """Parse HOST:PORT.

    Raises:
        ValueError: It is written otherwise.
    """
    host, mark, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (mark and host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"expected HOST:PORT, such as 127.0.0.1:8440, got {text!r}")
    if any(character.isspace() or character in "/@" for character in host):
        raise ValueError(f"expected the name or address of a machine, got {host!r}")
    return Address(host, int(port))


def refuse_taken_port(address: Address) -> None:
    """Refuse an address on which nothing can listen.

    Raises:
        TrainingError: Another program listens there, or the address is not one of this machine's.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # as the server itself will: a connection that has just ended is no obstacle
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            raise TrainingError(
                f"Expected to listen on {address}, got: {error.strerror or error}.",
                "Name another port with --listen, or end the program that uses this one.",
            ) from error


def read_token(path: Path | None) -> bytes:
    """Read the token that all sites and the server share; empty where there is none."""
    if path is None:
        return b""
    token = read_regular(path, MIB // 64).strip()
    if len(token) < SHORTEST_TOKEN:
        raise TrainingError(
            f"Expected a token of at least {SHORTEST_TOKEN} letters in {path}, got {len(token)}.",
            "Make one with: openssl rand -hex 32",
        )
    return token


def make_nonce() -> str:
    """Make a random number that is used once."""
    return secrets.token_hex(32)


def prove(token: bytes, nonce: str) -> str:
    """Prove that one has the token."""
    return hmac.new(token, nonce.encode(), "sha256").hexdigest()


def is_proof(token: bytes, nonce: str, proof: object) -> bool:
    """Say whether a proof was made with the token."""
    return isinstance(proof, str) and hmac.compare_digest(
        prove(token, nonce).encode(), proof.encode("utf-8", "replace")
    )


def read_server_certificate(certificate: Path, key: Path) -> tuple[bytes, bytes, bytes]:
    """Read a server's certificate (with those that lead to its root, if any) and its key, as gRPC takes them.

    Raises:
        TrainingError: They do not belong together, or the certificate is not valid now.
    """
    chain, secret = _read(certificate), _read(key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_refuse_password)
    except (ssl.SSLError, ValueError, OSError) as error:
        raise TrainingError(
            f"Expected a certificate and its key in PEM, got {certificate} and {key}, which do not work together.",
            "The key must be the certificate's own, and without a password.",
        ) from error
    _refuse_expired(chain, certificate)
    return chain, chain, secret


def read_root(path: Path) -> bytes:
    """Read the certificate by which a site knows the server."""
    content = _read(path)
    _refuse_expired(content, path)
    return content


def _refuse_password() -> str:
    raise ValueError("a key with a password")


def _refuse_expired(content: bytes, path: Path) -> None:
    # comes with Flower
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise TrainingError(
            f"Expected a certificate in PEM, got {path}, which is none.", "It begins with -----BEGIN CERTIFICATE-----."
        ) from error
    first, now = found[0], datetime.now(timezone.utc)
    # of a file with many roots, such as the system's, some are always outdated
    if len(found) == 1 and not first.not_valid_before_utc <= now <= first.not_valid_after_utc:
        raise TrainingError(
            f"Expected a certificate that is valid today, got {path}, valid from {first.not_valid_before_utc:%Y-%m-%d} "
            f"to {first.not_valid_after_utc:%Y-%m-%d}.",
            "Make a new one, and check the clock of this machine.",
        )


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, MIB)
    except OSError as error:
        raise TrainingError(f"Expected a certificate or key at {path}, got: {error.strerror}.", "") from error
