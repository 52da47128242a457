"""edgeseg with a backend that is slow, fails or hangs: python -m tests.fakes.backends NAME SECONDS LIVES FAULT ...

NAME is the backend that is put in place, SECONDS what each of its inferences takes, LIVES after how many it is at its
end, and FAULT how it ends: it "fails" or "hangs". The rest is what one would give to edgeseg. Every inference writes
the line "invoke" to stderr when it begins.
"""

from __future__ import annotations

import functools
import sys
import time
from typing import Any, ClassVar

from numpy.typing import NDArray

from edgeseg.backends.base import Probe
from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.select import BACKENDS
from edgeseg.cli.app import main
from edgeseg.inference import supervision

HANG_LIMIT_S = 0.5


class Fake(CpuBackend):
    """The CPU backend, made worse."""

    seconds: ClassVar[float]
    lives: ClassVar[int]
    hangs: ClassVar[bool]

    def __init__(self, network: bytes, threads: int = 1, variant: str = "") -> None:
        super().__init__(network, threads, variant)
        self._left = self.lives

    @classmethod
    def probe(cls, network: bytes = b"", variant: str = "") -> Probe:
        return Probe(True, f"{len(network)}{variant}")

    def invoke(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        print("invoke", file=sys.stderr, flush=True)
        self._left -= 1
        if self._left < 0 and not self.hangs:
            raise RuntimeError("the device was lost")
        time.sleep(self.seconds if self._left >= 0 else 1e6)
        return super().invoke(tensor)


def put_in_place(name: str, seconds: str, lives: str, fault: str) -> None:
    """Let edgeseg find the fake under this name, and notice a hang soon."""
    members = {"name": name, "seconds": float(seconds), "lives": int(lives), "hangs": fault == "hangs"}
    BACKENDS[name] = type("NamedFake", (Fake,), members)
    supervision.SupervisedSegmenter = functools.partial(supervision.SupervisedSegmenter, limit_s=HANG_LIMIT_S)  # type: ignore[assignment,misc]


if __name__ == "__main__":
    put_in_place(*sys.argv[1:5])
    sys.argv[1:] = sys.argv[5:]
    main()
