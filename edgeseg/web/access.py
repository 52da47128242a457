"""Who may ask a server of ours: what names it goes by, whose pages may give it orders, and who knows its token."""

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
FOREIGN_SITES = ("cross-site", "same-site")
"""What a browser calls a page from elsewhere, one on another port of this machine included."""

HOST = re.compile(r"([a-z0-9._-]+)(?::[0-9]{1,5})?")


@dataclass(frozen=True)
class Access:
    """An address to serve at, and the token that a client must know there; None on this machine only."""

    address: str = LOCAL
    token: str | None = None

    def find_refusal(self, path: str, headers: Message, reached_at: tuple[str, int], changes_state: bool) -> str | None:
        """Say in a sentence why a request gets no answer; None when it gets one.

        Args:
            path: What was asked for, with everything behind the question mark.
            headers: Of the request.
            reached_at: The address and port of ours that the client is connected to.
            changes_state: Whether it would change something; browsers say whose page gives an order.
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
        """Make the header that lets a browser which showed the token ask again without it."""
        if self.token is None:
            return {}
        return {"Set-Cookie": f"{_name_cookie(port)}={self.token}; Path=/; HttpOnly; SameSite=Strict"}

    def write_url(self, port: int) -> str:
        """Write the address that a person opens."""
        if self.token is None:
            return f"http://{self.address}:{port}/"
        host = find_own_address() if self.address == ANY else self.address
        return f"http://{host}:{port}/?token={self.token}"


THIS_MACHINE = Access()


def grant_access(address: str) -> Access:
    """Ask for a new token wherever others could reach the address.

    Raises:
        ValueError: It is no IPv4 address.
    """
    check_address(address)
    return Access(address, None if address == LOCAL else secrets.token_urlsafe(TOKEN_BYTES))


def check_address(address: str) -> None:
    """Refuse what is no IPv4 address.

    Raises:
        ValueError: So it is.
    """
    try:
        ipaddress.IPv4Address(address)
    except ValueError as error:
        raise ValueError(f"expected an IPv4 address of this machine, or {ANY} for all, got {address!r}") from error


def split_target(target: str) -> tuple[str, str]:
    """Split what a request asks for into its path and what stands behind the question mark.

    Whatever comes is taken as it is; urlsplit() raises on some of it.
    """
    path, _, query = target.partition("#")[0].partition("?")
    return path, query


def find_own_address() -> str:
    """Find the address by which this machine is known in its network; connecting UDP sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return LOCAL
        return str(probe.getsockname()[0])


def _is_own_host(headers: Message, reached_at: str) -> bool:
    """Look at the name that was asked for: a foreign one was made to point here (DNS rebinding)."""
    hosts = headers.get_all("Host", [])
    if len(hosts) != 1:
        return False
    match = HOST.fullmatch(hosts[0].strip().lower())
    name = socket.gethostname().lower()
    return match is not None and match[1] in (LOCAL, "localhost", reached_at, name, f"{name}.local")


def _is_cross_site(headers: Message) -> bool:
    """Say whether a page of another site asks; that a person follows a link from there is no harm."""
    origins = headers.get_all("Origin", [])
    if origins:
        _, mark, place = origins[0].partition("://")
        return len(origins) > 1 or not mark or place.lower() != str(headers["Host"]).strip().lower()
    return headers.get("Sec-Fetch-Site") in FOREIGN_SITES and headers.get("Sec-Fetch-Mode") != "navigate"


def _has_token(token: str, path: str, headers: Message, port: int) -> bool:
    shown = parse_qs(split_target(path)[1]).get("token", [])
    pairs = (pair.strip().partition("=") for cookie in headers.get_all("Cookie", []) for pair in cookie.split(";"))
    kept = [value for name, _, value in pairs if name == _name_cookie(port)]
    return any(hmac.compare_digest(given.encode(), token.encode()) for given in (*shown, *kept))


def _name_cookie(port: int) -> str:
    """Name the cookie after the port: browsers give a machine's cookies to all of its ports."""
    return f"edgeseg-{port}"
