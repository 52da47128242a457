"""Roll a bundle out to the boards of an inventory: to one, to a share, to all.

Every board of a stage must pass `verify` before the next stage begins; otherwise all boards of this roll-out go back to
what they had in use before.

INVENTORY.toml        the boards: how ssh reaches them, and their groups
INVENTORY.state.json  the last roll-out, written before and after every step, so that it survives a kill
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any

from edgeseg.core.errors import DeployError
from edgeseg.core.files import write_json
from edgeseg.core.redact import redact
from edgeseg.core.schema import SchemaError, from_plain, read_json_table, to_plain
from edgeseg.deploy.inventory import (
    RELEASE,
    FleetBoard,
    Found,
    Needs,
    check_form,
    look_at_all,
    on_all,
    read_release,
    refuse_unfit,
)
from edgeseg.deploy.options import FleetOptions
from edgeseg.deploy.remote import GO_BACK, OWN_FILES, VERIFY, WAIT_AND_INSTALL, Answer

VERSION = 1
# States of a board in a roll-out.
WAITING, INSTALLING, INSTALLED, VERIFIED = "waiting", "installing", "installed", "verified"
NOT_PASSED, FAILED, WENT_BACK, NOT_BACK, SKIPPED = "did not pass", "failed", "went back", "not back", "skipped"
# States of a roll-out.
RUNNING, DONE, GOING_BACK, STOPPED = "running", "done", "going back", "stopped"
# The status with which board.sh and install.sh say that masks or budget did not hold.
GATE_STATUS = 3
# Lines that are shown of what a board said when something failed there.
_SHOWN_LINES = 20
# The archive in the home folder and its copy below the prefix, what is unpacked, and the model once more.
_ROOM = 3
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class BoardState:
    """A board in a roll-out."""

    name: str
    stage: int
    state: str = WAITING
    now: str = ""
    """The release in use, as far as it is known; empty without an installation."""
    before: str = ""
    """The release that was in use when the roll-out began, to which the board goes back."""
    own: tuple[str, ...] = ()
    """Settings and key that lay there although nothing was installed, and stay when it is removed again."""
    sentence: str = ""
    """What went wrong."""

    def __post_init__(self) -> None:
        if self.before:
            check_form(RELEASE, self.before, "the name of a release")
        # they become arguments on the board
        if not set(self.own) <= set(OWN_FILES):
            raise SchemaError(f"expected files among {', '.join(OWN_FILES)}, got {', '.join(self.own)}")


@dataclass(frozen=True)
class RollOut:
    """A roll-out: what is rolled out, how far it is, and what every board carries."""

    release: str
    sha256: str
    """Of the archive."""
    outcome: str
    boards: tuple[BoardState, ...]
    reason: str = ""
    """Why it stopped."""
    gate_failed: bool = False
    """Whether it stopped since a board did not pass its checks."""
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise SchemaError(f"expected version {VERSION}, got {self.version}")
        check_form(RELEASE, self.release, "the name of a release")

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """Give the names of the boards of each stage."""
        numbers = sorted({board.stage for board in self.boards if board.state != SKIPPED})
        return tuple(tuple(board.name for board in self.boards if board.stage == number) for number in numbers)

    def to_json(self) -> dict[str, Any]:
        """Give the roll-out as it stands in --json and in the state file."""
        return dict(to_plain(self))


def plan_roll_out(release: str, sha256: str, found: Mapping[str, Found], share: float) -> RollOut:
    """Divide the boards into stages: the first that is reached, then up to the share, then all."""
    reached = [name for name, board in found.items() if board.reached]
    ends = (1, max(2, math.ceil(share * len(reached))))
    stages = {name: 1 + sum(number >= end for end in ends) for number, name in enumerate(reached)}
    return RollOut(
        release,
        sha256,
        RUNNING,
        tuple(
            BoardState(name, stages[name], now=board.now, before=board.now, own=board.own)
            if board.reached
            else BoardState(name, 0, SKIPPED, sentence=board.sentence)
            for name, board in found.items()
        ),
    )


def state_path(inventory: Path) -> Path:
    """Name the file beside an inventory that holds its last roll-out."""
    return inventory.with_suffix(".state.json")


def read_state(inventory: Path) -> RollOut | None:
    """Read the last roll-out of an inventory; None before the first one."""
    path = state_path(inventory)
    try:
        return from_plain(RollOut, read_json_table(path))
    except FileNotFoundError:
        return None
    except SchemaError as error:
        raise DeployError(
            f"Expected the last roll-out in {path}, got: {error}.",
            "Put the file back as it was, or move it away: then it is not known what boards carried before.",
        ) from error


@dataclass(frozen=True)
class Parcel:
    """What is rolled out."""

    files: tuple[Path, ...]
    """The archive and, where it is signed, its signature."""
    release: str
    machines: tuple[str, ...]
    unpacked_bytes: int
    device_tree: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Give the hash of the archive."""
        return hashlib.sha256(self.files[0].read_bytes()).hexdigest()

    @property
    def needs(self) -> Needs:
        """Say what a board needs at least; a new Python environment takes more room."""
        room = _ROOM * (self.files[0].stat().st_size + self.unpacked_bytes)
        return Needs(self.machines, self.device_tree, room)


class Fleet:
    """A roll-out at work: every step changes the state, and the state is on the disk before the next one."""

    def __init__(self, inventory: Path, boards: Iterable[FleetBoard], options: FleetOptions, state: RollOut) -> None:
        """Take up a roll-out as the state says."""
        self._path, self._options, self.state = state_path(inventory), options, state
        self._boards = {board.name: board for board in boards}
        self._lock, self._stopped = Lock(), Event()
        self._write()

    def _write(self) -> None:
        write_json(self._path, self.state.to_json())

    def _change(self, name: str, **changes: Any) -> None:
        with self._lock:
            boards = [dataclasses.replace(b, **changes) if b.name == name else b for b in self.state.boards]
            self.state = dataclasses.replace(self.state, boards=tuple(boards))
            self._write()
        _LOG.debug("%s: %s %s", name, changes.get("state", ""), changes.get("sentence", ""))

    def _stop(self, name: str, state: str, sentence: str, answer: Answer) -> None:
        """Let no further board begin, and show what this one said."""
        self._stopped.set()
        gate_failed = answer.status == GATE_STATUS
        why = "masks or budget did not hold" if gate_failed else f"{sentence}: {answer.reason}"
        self._change(name, sentence=why, state=NOT_PASSED if gate_failed else state)
        said = "\n  ".join(answer.said.splitlines()[-_SHOWN_LINES:])
        _LOG.info("%s", redact(f"{name}: {why}. It said:\n  {said}" if said else f"{name}: {why}"))
        with self._lock:
            if not self.state.reason:
                self.state = dataclasses.replace(self.state, reason=f"{name}: {why}", gate_failed=gate_failed)

    def _end(self, outcome: str) -> RollOut:
        with self._lock:
            self.state = dataclasses.replace(self.state, outcome=outcome)
            self._write()
        return self.state

    def go_on(self, parcel: Parcel) -> RollOut:
        """Install and verify stage by stage, or go back."""
        for names in self.state.stages:
            self._on(names, (WAITING, INSTALLING), lambda board: self._install(board, parcel), "Boards installed")
            if not self._stopped.is_set() and self._list(names, (INSTALLED,)):
                time.sleep(self._options.soak_s)
                self._on(names, (INSTALLED,), self._verify, "Boards verified")
            if self._stopped.is_set():
                return self.go_back()
        return self._end(DONE)

    def _list(self, names: Iterable[str], states: Sequence[str]) -> list[BoardState]:
        return [board for board in self.state.boards if board.name in names and board.state in states]

    def _on(self, names: Iterable[str], states: Sequence[str], work: Callable[[BoardState], None], title: str) -> None:
        boards = self._list(names, states)
        if boards:
            on_all(boards, work, self._options.parallel, title)

    def _install(self, board: BoardState, parcel: Parcel) -> None:
        if self._stopped.is_set():
            return
        self._change(board.name, state=INSTALLING, sentence="")
        remote, limit = self._boards[board.name].remote, self._options.timeout_s
        # the same name in every attempt: what a kill left there is replaced
        upload = f"edgeseg-upload-{self.state.release}.tar.gz"
        sent = [(path, upload + suffix) for path, suffix in zip(parcel.files, ("", ".sig"), strict=False)]
        answer, doing = remote.copy(sent, limit), "copying failed"
        if answer.status == 0:
            answer, doing = remote.run(WAIT_AND_INSTALL, [upload], limit), "installing failed"
        if answer.status == 0:
            self._change(board.name, state=INSTALLED, now=self.state.release)
        else:
            self._stop(board.name, FAILED, doing, answer)

    def _verify(self, board: BoardState) -> None:
        answer = self._boards[board.name].remote.run(VERIFY, [], self._options.timeout_s)
        if answer.status == 0:
            self._change(board.name, state=VERIFIED)
        else:
            self._stop(board.name, FAILED, "verifying failed", answer)

    def go_back(self) -> RollOut:
        """Bring every board of this roll-out back to what it had in use before; one that is lost is tried next time."""
        self._end(GOING_BACK)
        changed = (INSTALLING, INSTALLED, VERIFIED, NOT_PASSED, FAILED, NOT_BACK)
        names = [board.name for board in self.state.boards if board.before != self.state.release]
        self._on(names, changed, self._go_back, "Boards going back")
        return self._end(GOING_BACK if self._list(names, (NOT_BACK,)) else STOPPED)

    def _go_back(self, board: BoardState) -> None:
        arguments = [self.state.release, board.before, *board.own]
        answer = self._boards[board.name].remote.run(GO_BACK, arguments, self._options.timeout_s)
        if answer.status != 0:
            self._change(board.name, state=NOT_BACK, sentence=f"going back failed: {answer.reason}")
            return
        links = [line.removeprefix("now").strip() for line in answer.said.splitlines() if line.startswith("now")]
        now = read_release(links[-1] if links else "")
        # a board that did not pass never left its model
        kept = board.state in (NOT_PASSED, FAILED) and board.now != self.state.release
        self._change(board.name, state=board.state if kept else WENT_BACK, now=now)


def verify_all(boards: Sequence[FleetBoard], options: FleetOptions) -> dict[str, str]:
    """Check masks and budget on boards, by their names: "passed", or why not."""

    def verify(board: FleetBoard) -> str:
        answer = board.remote.run(VERIFY, [], options.timeout_s)
        if answer.status == 0:
            return "passed"
        return NOT_PASSED if answer.status == GATE_STATUS else answer.reason

    verdicts = on_all(boards, verify, options.parallel, "Boards verified")
    return {board.name: verdict for board, verdict in zip(boards, verdicts, strict=True)}


def prepare(
    inventory: Path, boards: Sequence[FleetBoard], parcel: Parcel, options: FleetOptions, overwrite: bool = False
) -> RollOut:
    """Look at all boards, and plan a roll-out, or take up the one that was interrupted; nothing is changed.

    Args:
        inventory: The inventory's file, beside which the state is kept.
        boards: Those of its boards that get the release.
        parcel: What they get.
        options: How it proceeds.
        overwrite: Whether to begin anew although another roll-out is not finished.
    """
    last = None if overwrite else read_state(inventory)
    begun = last if last is not None and last.outcome in (RUNNING, GOING_BACK) else None
    if begun is not None:
        _refuse_other(inventory, begun, parcel, boards)
        if begun.outcome == GOING_BACK:
            return begun
    found = look_at_all(boards, options)
    refuse_unfit(found, parcel.needs, options.skip_unreachable)
    if begun is None:
        return plan_roll_out(parcel.release, parcel.sha256, found, options.share)
    return _correct(begun, found, parcel.sha256)


def _refuse_other(inventory: Path, last: RollOut, parcel: Parcel, boards: Sequence[FleetBoard]) -> None:
    hint = f"Repeat that command, or: edgeseg fleet {inventory} --rollback; or begin anew with --overwrite."
    if last.release != parcel.release:
        raise DeployError(
            f"Expected to go on with the roll-out of {last.release}, which is {last.outcome}, got {parcel.release}.",
            hint,
        )
    if {board.name for board in last.boards} != {board.name for board in boards}:
        raise DeployError(f"Expected the boards that the roll-out of {last.release} was begun with, got others.", hint)


def _correct(begun: RollOut, found: Mapping[str, Found], sha256: str) -> RollOut:
    """Correct a roll-out that was interrupted by what the boards really carry."""
    boards = []
    for board in begun.boards:
        seen = found[board.name]
        if board.state == SKIPPED:
            boards.append(board)
        elif not seen.reached:
            lost = SKIPPED if board.state == WAITING else board.state
            boards.append(dataclasses.replace(board, state=lost, sentence=seen.sentence))
        elif seen.now != begun.release:
            boards.append(dataclasses.replace(board, state=WAITING, now=seen.now))
        else:
            state = board.state if board.state == VERIFIED else INSTALLED
            boards.append(dataclasses.replace(board, state=state, now=seen.now))
    return dataclasses.replace(begun, boards=tuple(boards), sha256=sha256, reason="", gate_failed=False)


def find_return(inventory: Path, boards: Sequence[FleetBoard]) -> RollOut:
    """Find the last roll-out, to go back from it."""
    last = read_state(inventory)
    if last is None:
        raise DeployError(
            f"Expected a roll-out to go back from in {state_path(inventory)}, got none.", "There was none from here."
        )
    known = {board.name for board in boards}
    missing = [board.name for board in last.boards if board.name not in known]
    if missing:
        raise DeployError(
            f"Expected the boards of the last roll-out in {inventory}, got none named {missing[0]}.",
            "Put it back into the inventory.",
        )
    return last
