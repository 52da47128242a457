"""Access control of the HTTP server: host names (DNS rebinding), origin (CSRF) and the access token.

A stream shows pictures of patients. On 127.0.0.1 the Host and Origin headers are checked, since any web page in a
browser on this machine can send requests there; at any other address a client must also know a random token.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from urllib.parse import parse_qs

LOCAL = "127.0.0.1"
ANY = "0.0.0.0"
TOKEN_BYTES = 24
# Values of Sec-Fetch-Site for requests of other pages; a page on another port of this machine is "same-site".
FOREIGN_SITES = ("cross-site", "same-site")

HOST = re.compile(r"([a-z0-9._-]+)(?::[0-9]{1,5})?")
# An address that is reserved for documentation (RFC 5737), and the discard port.
_PROBE_ADDRESS = ("192.0.2.1", 9)


@dataclass(frozen=True)
class Access:
    """An address to serve at, and the token that clients must present; None where only this machine can connect."""

    address: str = LOCAL
    token: str | None = None

    def find_refusal(self, path: str, headers: Message, reached_at: tuple[str, int], changes_state: bool) -> str | None:
        """Explain in a sentence why a request is refused; None when it is allowed.

        Args:
            path: The request target, with its query.
            headers: Of the request.
            reached_at: The server's address and port that the client is connected to.
            changes_state: Whether the request is a POST; browsers always send an Origin with those.
        """
        address, port = reached_at
        if not _is_own_host(headers, address):
            return "This server answers only to its own address."
        if _is_cross_site(headers) or (changes_state and "Origin" not in headers):
            return "This server answers only to its own page."
        if self.token is not None and not _has_token(self.token, path, headers, port):
            return "Expected the token of this stream: open the address that it printed when it started."
        return None

    def make_cookie(self, port: int) -> Mapping[str, str]:
        """Make the header that stores the token in the browser, so that later requests need not carry it."""
        if self.token is None:
            return {}
        return {"Set-Cookie": f"{_name_cookie(port)}={self.token}; Path=/; HttpOnly; SameSite=Strict"}

    def write_url(self, port: int) -> str:
        """Write the address to open in a browser."""
        if self.token is None:
            return f"http://{self.address}:{port}/"
        host = find_own_address() if self.address == ANY else self.address
        return f"http://{host}:{port}/?token={self.token}"


THIS_MACHINE = Access()


def grant_access(address: str) -> Access:
    """Serve at an address, with a new token unless it is this machine's loopback.

    Raises:
        ValueError: It is no IPv4 address.
    """
    check_address(address)
    return Access(address, None if address == LOCAL else secrets.token_urlsafe(TOKEN_BYTES))


def check_address(address: str) -> None:
    """Check an IPv4 address.

    Raises:
        ValueError: It is none.
    """
    try:
        ipaddress.IPv4Address(address)
    except ValueError as error:
        raise ValueError(f"expected an IPv4 address of this machine, or {ANY} for all, got {address!r}") from error


def split_target(target: str) -> tuple[str, str]:
    """Split a request target into path and query; urlsplit() raises on some hostile targets."""
    path, _, query = target.partition("#")[0].partition("?")
    return path, query


def find_own_address() -> str:
    """Find the address of this machine in its network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # connecting a UDP socket sends no packet: it only picks the network interface
            probe.connect(_PROBE_ADDRESS)
        except OSError:
            return LOCAL
        return str(probe.getsockname()[0])


def _is_own_host(headers: Message, reached_at: str) -> bool:
    """Check the Host header: an attacker's name that resolves to this machine is DNS rebinding."""
    hosts = headers.get_all("Host", [])
    # none (HTTP/1.0) or several: no browser sends that
    if len(hosts) != 1:
        return False
    match = HOST.fullmatch(hosts[0].strip().lower())
    name = socket.gethostname().lower()
    return match is not None and match[1] in (LOCAL, "localhost", reached_at, name, f"{name}.local")


def _is_cross_site(headers: Message) -> bool:
    """Tell whether a page of another site sent the request (CSRF); following a link from there is allowed."""
    origins = headers.get_all("Origin", [])
    if origins:
        _, mark, place = origins[0].partition("://")
        return len(origins) > 1 or not mark or place.lower() != str(headers["Host"]).strip().lower()
    return headers.get("Sec-Fetch-Site") in FOREIGN_SITES and headers.get("Sec-Fetch-Mode") != "navigate"


def _has_token(token: str, path: str, headers: Message, port: int) -> bool:
    shown = parse_qs(split_target(path)[1]).get("token", [])
    pairs = (pair.strip().partition("=") for cookie in headers.get_all("Cookie", []) for pair in cookie.split(";"))
    kept = [value for name, _, value in pairs if name == _name_cookie(port)]
    # in constant time: the time of == would tell how many characters are right
    return any(hmac.compare_digest(given.encode(), token.encode()) for given in (*shown, *kept))


def _name_cookie(port: int) -> str:
    """Name the cookie after the port: browsers share cookies between the ports of a host (RFC 6265, 8.5)."""
    return f"edgeseg-{port}"
