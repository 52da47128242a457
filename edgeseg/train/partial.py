"""What an interruption has left beside --out: of which kind it is, and whether there is anything to go on with."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeseg.core.errors import RunError
from edgeseg.core.files import partial_path
from edgeseg.core.jsonfile import read_json_table
from edgeseg.core.schema import MisfitError
from edgeseg.train.run import RECORD

PLAN = "plan.json"
TRAINING, FOLDS, COMPRESSION, NOTHING = "training", "cross-validation", "compression", ""
_COMMANDS = {
    TRAINING: "edgeseg train DATA --out {} --resume",
    FOLDS: "edgeseg train DATA --out {} --resume",
    COMPRESSION: "edgeseg compress RUN --out {} --resume",
}


@dataclass(frozen=True)
class Partial:
    """The folder in which an interrupted result grew."""

    kind: str
    """Empty where the interruption came before anything was written down."""
    out: Path

    def expect(self, *kinds: str) -> bool:
        """Say whether there is something of these kinds to go on with; something of another kind is refused."""
        if self.kind == NOTHING:
            _tell_new_start(self.out)
            return False
        if self.kind not in kinds:
            raise RunError(
                f"Expected an interrupted {kinds[0]} at {partial_path(self.out)}, got an interrupted {self.kind}.",
                f"Continue that with: {_COMMANDS[self.kind].format(self.out)}, or name another --out.",
            )
        return True


def find_partial(out: Path, what: str) -> Partial:
    """Look at what an interruption has left; nothing at all is refused.

    Args:
        out: The final folder.
        what: What is to be continued, for the message.
    """
    folder = partial_path(out)
    if not folder.is_dir():
        raise RunError(f"Expected an interrupted {what} at {folder}, got none.", "Leave out --resume.")
    return Partial(_name_kind(folder), out)


def _name_kind(folder: Path) -> str:
    if (folder / RECORD).is_file():
        return TRAINING
    if not (folder / PLAN).is_file():
        return NOTHING
    return FOLDS if "folds" in read_plan(folder) else COMPRESSION


def read_plan(folder: Path) -> dict[str, Any]:
    """Read what was to be made in a folder."""
    try:
        return read_json_table(folder / PLAN)
    except MisfitError as error:
        raise RunError(
            f"Expected what was to be made in {folder / PLAN}, got a damaged file: {error}.",
            "Begin again with --overwrite.",
        ) from error


def _tell_new_start(out: Path) -> None:
    print(f"edgeseg: {partial_path(out)} holds nothing to go on with; it begins anew.", file=sys.stderr, flush=True)
