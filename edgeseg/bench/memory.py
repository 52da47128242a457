"""Peak memory of a model, measured in a process of its own that loads it and segments frames.

The peak of the benchmark's own process would be that of all models together.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from edgeseg.bench.pairs import open_timed
from edgeseg.core.errors import BackendError
from edgeseg.core.process import describe_end, run_module_limited
from edgeseg.core.redact import to_one_line
from edgeseg.machine.boards import ROOT, read_text

LIMIT_S = 180.0
FRAME_SIZE = (480, 640)


def measure_memory(path: Path, backend: str, threads: int, sha256: str = "") -> float:
    """Run a model in its own process and return the peak memory in MB, Python and libraries included.

    Args:
        path: The model file.
        backend: The backend, with its variant.
        threads: CPU threads it may use.
        sha256: The expected hash on the card, since the file may have been replaced meanwhile.
    """
    hint = f"Run edgeseg bench on {path.name} alone to see whether it is that file."
    try:
        arguments = [str(path.absolute()), backend, str(threads), sha256]
        done = run_module_limited("edgeseg.bench.memory", arguments, b"", LIMIT_S)
    except subprocess.TimeoutExpired as silence:
        raise BackendError(
            f"Expected the memory of {path.name} within {LIMIT_S:g} s, got no answer.", hint
        ) from silence
    if done.returncode:
        raise BackendError(f"Expected the peak memory of {path.name}, {to_one_line(describe_end(done))}.", hint)
    return float(done.stdout.split()[-1])


def read_peak_mb(process: int | str = "self", root: Path = ROOT) -> float:
    """Read the peak resident memory of a process (VmHWM, proc(5)).

    getrusage() will not do: on Linux a child starts with its parent's peak.
    """
    line = re.search(r"VmHWM:\s+(\d+) kB", read_text(root / f"proc/{process}/status"))
    if line is None:
        raise BackendError(
            f"Expected VmHWM in /proc/{process}/status, got none.", "edgeseg bench measures memory on Linux only."
        )
    return round(int(line[1]) / 1024, 1)


def main() -> None:
    """Segment frames and print the peak; the arguments are model, backend, threads and hash."""
    path, backend, threads, sha256 = sys.argv[1:]
    segmenter = open_timed(Path(path), backend, int(threads), enforce_parity=False)
    if sha256 not in ("", segmenter.card.sha256):
        sys.exit(f"{path} was replaced while it was measured")
    segmenter.warm_up()
    segmenter.segment(np.zeros((*FRAME_SIZE, segmenter.card.input.channels), np.uint8))
    # the answer to the parent process
    sys.stdout.write(f"{read_peak_mb()}\n")


if __name__ == "__main__":
    main()
