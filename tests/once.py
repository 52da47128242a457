"""Make what takes long once for all test processes: the first that needs it makes it, the others wait and take it."""

from __future__ import annotations

import fcntl
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

Made = TypeVar("Made")


def find_shared(request: pytest.FixtureRequest) -> Path:
    """Find the folder that all processes of this test run share."""
    base: Path = request.getfixturevalue("tmp_path_factory").getbasetemp()
    return base.parent if hasattr(request.config, "workerinput") else base


def make_once(shared: Path, name: str, make: Callable[[], Made]) -> Made:
    """Give what making gave, in whichever process it was made.

    Args:
        shared: The folder that the processes share.
        name: What it is known by.
        make: Makes it; what it gives is kept as a pickle.
    """
    made = shared / f"{name}.made"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            made.write_bytes(pickle.dumps(make()))
        result: Made = pickle.loads(made.read_bytes())
    return result
