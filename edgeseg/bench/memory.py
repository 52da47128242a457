"""How much memory a model needs: the most that a process of its own held, which loads it and draws masks.

The process that times several models would tell the memory of all of them together.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from edgeseg.core.errors import BackendError
from edgeseg.core.modelfile import read_model
from edgeseg.core.process import describe_end, feed_module
from edgeseg.core.redact import make_line
from edgeseg.inference.segmenter import Segmenter
from edgeseg.machine.boards import ROOT, read_text

LIMIT_S = 180.0
FRAME_SIZE = (480, 640)


def measure_memory(path: Path, backend: str, threads: int, sha256: str = "") -> float:
    """Run a model in a process of its own; gives the most megabytes it held, Python and libraries included.

    Args:
        path: The model file.
        backend: What it runs on.
        threads: CPU threads it may use.
        sha256: The hash on the card of the file that is meant: the path may lead to another one by now.
    """
    hint = f"Run edgeseg bench on {path.name} alone to see whether it is that file."
    try:
        arguments = [str(path.absolute()), backend, str(threads), sha256]
        done = feed_module("edgeseg.bench.memory", arguments, b"", LIMIT_S)
    except subprocess.TimeoutExpired as silence:
        raise BackendError(
            f"Expected the memory of {path.name} within {LIMIT_S:g} s, got no answer.", hint
        ) from silence
    if done.returncode:
        raise BackendError(f"Expected a process to draw masks with {path.name}, {make_line(describe_end(done))}.", hint)
    return float(done.stdout.split()[-1])


def read_peak_mb(process: int | str = "self", root: Path = ROOT) -> float:
    """Read the most memory a process held; getrusage would count what its parent held before it, too."""
    line = re.search(r"VmHWM:\s+(\d+) kB", read_text(root / f"proc/{process}/status"))
    if line is None:
        raise BackendError(
            f"Expected a peak of memory in /proc/{process}/status, got none.", "edgeseg bench measures on Linux."
        )
    return round(int(line[1]) / 1024, 1)


def main() -> None:
    """Draw masks and print the peak; model, backend and threads are the arguments, parity was judged before."""
    path, backend, threads, sha256 = sys.argv[1:]
    model = read_model(Path(path))
    if sha256 not in ("", model.card.sha256):
        sys.exit(f"{path} was replaced while it was measured")
    segmenter = Segmenter(model, backend, int(threads), enforce_parity=False)
    segmenter.warm_up()
    segmenter.segment(np.zeros((*FRAME_SIZE, segmenter.card.input.channels), np.uint8))
    sys.stdout.write(f"{read_peak_mb()}\n")


if __name__ == "__main__":
    main()
