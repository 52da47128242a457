"""All kinds of input by name, without importing what they are made of."""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import ClassVar

from fuzzing.kind import Kind

MODULES = ("models", "media", "wires")
TRIAL, TRIAL_BYTES = "trial", 400 * 2**20


class TrialKind(Kind):
    """No input at all: it does what the fuzzer has to notice, to prove that it does."""

    name: ClassVar[str] = TRIAL
    share: ClassVar[float] = 0.0

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give one of each failure, and what is none."""
        return {name: name.encode for name in ("abort", "hang", "memory", "exception", "refused", "accepted")}

    def mutate(self, rng: Random) -> bytes:
        """Choose one."""
        return rng.choice((b"refused", b"accepted"))

    def feed(self, data: bytes) -> None:
        """Do it."""
        from edgeseg.core.errors import DataError

        if data == b"abort":
            os.kill(os.getpid(), signal.SIGABRT)
        elif data == b"hang":
            time.sleep(3600)
        elif data == b"memory":
            len(b"\1" * TRIAL_BYTES)
        elif data == b"exception":
            raise KeyError("trial")
        elif data == b"refused":
            raise DataError("Expected nothing, got nothing.", "")


def find_kinds() -> dict[str, type[Kind]]:
    """Import and list all kinds whose packages are installed."""
    modules = [importlib.import_module(f"fuzzing.{name}") for name in MODULES]
    kinds = [kind for module in modules for kind in module.KINDS]
    return {kind.name: kind for kind in [*kinds, TrialKind] if all(find_spec(name) for name in kind.needs)}


def make_kind(name: str, folder: Path) -> Kind:
    """Make a kind in a folder of its own."""
    place = folder / name
    place.mkdir(parents=True)
    return find_kinds()[name](place)
