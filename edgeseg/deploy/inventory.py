"""The inventory of a fleet, and what its boards answer: what they carry, and whether a roll-out can begin.

INVENTORY.toml has a table [[board]] for each, with its name, how ssh reaches it, and its groups.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgeseg.core.errors import DeployError, UnknownNameError
from edgeseg.core.limits import INVENTORY_BYTES
from edgeseg.core.progress import progress_bar
from edgeseg.core.redact import to_one_line
from edgeseg.core.schema import SchemaError, from_plain
from edgeseg.deploy.options import FleetOptions
from edgeseg.deploy.remote import OWN_FILES, PROBE, Remote
from edgeseg.machine.boards import read_toml

# Boards of one inventory.
MOST_BOARDS = 10_000
PROBE_S = 60.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# Not what ssh would take for an option, nor anything that a shell reads: a ProxyCommand of the user's gets it as %h.
_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9._:-]{0,254}(%[A-Za-z0-9._-]{1,32})?")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,62}")
RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")
_HINT = 'Write for each board: [[board]], name = "lab-1", host = "10.0.0.5", and user, port or groups where needed.'


@dataclass(frozen=True)
class FleetBoard:
    """A board of the inventory; keys and everything else that ssh needs are in the user's own ssh configuration."""

    name: str
    host: str
    user: str = ""
    port: int | None = None
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.name, *self.groups):
            check_form(_NAME, name, "a name of letters, digits and . _ -")
        check_form(_HOST, self.host, "a host name or an address in host")
        if self.user:
            check_form(_USER, self.user, "a user's name in user")
        if self.port is not None and not 0 < self.port < 65_536:
            raise SchemaError(f"expected a port from 1 to 65535, got {self.port}")

    @property
    def place(self) -> str:
        """Write how ssh reaches it."""
        user, port = f"{self.user}@" if self.user else "", f" at port {self.port}" if self.port else ""
        return f"{user}{self.host.lower()}{port}"

    @property
    def remote(self) -> Remote:
        """Give what runs commands there."""
        return Remote(self.host, self.user, self.port)


def check_form(pattern: re.Pattern[str], value: str, wanted: str) -> None:
    """Refuse a value of another form: it becomes an argument of ssh, or of a command on a board."""
    if pattern.fullmatch(value) is None:
        raise SchemaError(f"expected {wanted}, got {value!r}")


@dataclass(frozen=True)
class Inventory:
    """The boards, in the order in which they get a release."""

    board: tuple[FleetBoard, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.board) <= MOST_BOARDS:
            raise SchemaError(f"expected 1 to {MOST_BOARDS} tables [[board]], got {len(self.board)}")
        _refuse_twice("every name once", [board.name for board in self.board])
        _refuse_twice("every board once", [board.place for board in self.board])


def _refuse_twice(wanted: str, values: Sequence[str]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise SchemaError(f"expected {wanted}, got {twice[0]} twice")


def read_inventory(path: Path, groups: Sequence[str] = ()) -> tuple[FleetBoard, ...]:
    """Read the boards of an inventory; with groups, those that are in one of them."""
    try:
        boards = from_plain(Inventory, read_toml(path, INVENTORY_BYTES)).board
    except FileNotFoundError as error:
        raise DeployError(f"Expected an inventory of boards at {path}, got no such file.", _HINT) from error
    except SchemaError as error:
        raise DeployError(f"Expected an inventory of boards in {path}, got: {error}.", _HINT) from error
    known = {group for board in boards for group in board.groups}
    for group in groups:
        if group not in known:
            raise UnknownNameError("group of the inventory", group, known)
    return tuple(board for board in boards if not groups or set(groups) & set(board.groups))


@dataclass(frozen=True)
class Found:
    """What a board answered when it was looked at; without `reached` the sentence says why it did not."""

    reached: bool
    sentence: str = ""
    machine: str = ""
    model: str = ""
    """What the device tree calls the board; empty where there is none."""
    identity: str = ""
    now: str = ""
    before: str = ""
    free_kib: int = 0
    own: tuple[str, ...] = ()


def look_at(board: FleetBoard, seconds: float = PROBE_S) -> Found:
    """Ask a board what it carries; it changes nothing there."""
    answer = board.remote.run(PROBE, [], seconds)
    if answer.status != 0:
        return Found(False, answer.reason)
    lines = [line.partition(" ") for line in answer.said.splitlines()]
    values = {key: value.strip() for key, _, value in lines}
    free = values.get("free", "")
    if not free.isdecimal() or "identity" not in values:
        return Found(False, f"it gave another answer than a board does: {to_one_line(answer.said, 80)}")
    return Found(
        reached=True,
        machine=values.get("machine", ""),
        model=values.get("model", ""),
        identity=values["identity"],
        now=read_release(values.get("now", "")),
        before=read_release(values.get("before", "")),
        free_kib=int(free[:18]),
        own=tuple(name for name in OWN_FILES if ("own", " ", name) in lines),
    )


def read_release(link: str) -> str:
    """Read the name of a release from where a link on a board leads; empty where it leads to none."""
    name = link.removeprefix("releases/")
    return name if RELEASE.fullmatch(name) else ""


def look_at_all(boards: Sequence[FleetBoard], options: FleetOptions) -> dict[str, Found]:
    """Ask all boards what they carry, by their names."""
    look = partial(look_at, seconds=min(PROBE_S, options.timeout_s))
    found = on_all(boards, look, options.parallel, "Boards looked at")
    return {board.name: answer for board, answer in zip(boards, found, strict=True)}


def on_all(boards: Sequence[Any], work: Callable[[Any], Any], parallel: int, title: str) -> list[Any]:
    """Work on several boards at a time; an interruption lets those end that have begun."""
    with ThreadPoolExecutor(parallel) as pool, progress_bar(title, len(boards)) as advance:
        futures = [pool.submit(work, board) for board in boards]
        try:
            results = []
            for future in futures:
                results.append(future.result())
                advance("")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results


@dataclass(frozen=True)
class Needs:
    """What a board must be and have."""

    machines: tuple[str, ...]
    device_tree: tuple[str, ...] = ()
    """Parts of the device tree's model, one of which the board's must contain; empty for any."""
    room_bytes: int = 0

    def is_kind(self, board: Found) -> bool:
        """Say whether a board is of the kind, as `install.sh` will judge."""
        named = not self.device_tree or any(part in board.model for part in self.device_tree)
        return board.machine in self.machines and named


def refuse_unfit(found: Mapping[str, Found], needs: Needs, skip_unreachable: bool) -> None:
    """Refuse a roll-out before it begins: boards that do not answer, are full, of another kind, or listed twice."""
    reached = {name: board for name, board in found.items() if board.reached}
    lost = [name for name in found if name not in reached]
    if lost and not skip_unreachable:
        more = f" (and {len(lost) - 1} more that did not answer)" if len(lost) > 1 else ""
        raise DeployError(
            f"Expected to reach the board {lost[0]} by ssh, got: {found[lost[0]].sentence}{more}.",
            "Check that ssh works without a question, or leave it out: --skip-unreachable. No board was changed.",
        )
    if not reached:
        raise DeployError("Expected at least one board that can be reached, got none.", "No board was changed.")
    for name, board in reached.items():
        _refuse_board(name, board, needs)
    seen: dict[str, str] = {}
    for name, board in reached.items():
        other = seen.setdefault(board.identity, name)
        if other != name:
            raise DeployError(
                f"Expected every board once, got {other} and {name}, which are one and the same.",
                "Remove one of them from the inventory. No board was changed.",
            )


def _refuse_board(name: str, board: Found, needs: Needs) -> None:
    if not needs.is_kind(board):
        kind = " or ".join(needs.device_tree or needs.machines)
        raise DeployError(
            f"Expected a board of the kind {kind} at {name}, got {to_one_line(board.model or board.machine)}.",
            "Choose the boards of one kind with --group. No board was changed.",
        )
    room, free = needs.room_bytes / 1e6, board.free_kib * 1024 / 1e6
    if free < room:
        raise DeployError(
            f"Expected {room:,.0f} MB of room on the disk of {name}, got {free:,.0f}.",
            "Make room there. No board was changed.",
        )
