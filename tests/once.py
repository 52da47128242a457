"""Make what takes long once for all test processes: the first that needs it makes it, the others wait and take it."""

from __future__ import annotations

import fcntl
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

Made = TypeVar("Made")


def make_once(request: pytest.FixtureRequest, name: str, make: Callable[[Path], Made]) -> tuple[Path, Made]:
    """Give the folder of that name that all processes of a test run share, and what making it gave.

    Args:
        request: The fixture's.
        name: The folder's.
        make: Fills the folder, which exists and is empty.
    """
    base: Path = request.getfixturevalue("tmp_path_factory").getbasetemp()
    shared = base.parent if hasattr(request.config, "workerinput") else base
    folder = shared / name
    made = folder.with_name(f"{name}.made")
    with folder.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            folder.mkdir()
            made.write_bytes(pickle.dumps(make(folder)))
    return folder, pickle.loads(made.read_bytes())
