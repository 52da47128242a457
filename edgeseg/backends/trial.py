"""Try a backend in a process of its own: what crashes or hangs there becomes a sentence here."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np

from edgeseg.backends.base import Backend, Probe
from edgeseg.core.errors import BackendError
from edgeseg.core.process import describe_end, feed_module
from edgeseg.core.schema import to_plain

LIMIT_S = 60.0
REFUSED = 1


def try_backend(name: str, variant: str, network: bytes, crash_hint: str, limit_s: float = LIMIT_S) -> Probe:
    """Load a network elsewhere and run it once.

    Args:
        name: The backend.
        variant: What stands behind its name.
        network: What to run; zeros are put in.
        crash_hint: What to do when the process dies or does not answer.
        limit_s: How long it may take.
    """
    try:
        done = feed_module("edgeseg.backends.trial", [name, variant], network, limit_s)
    except subprocess.TimeoutExpired:
        detail = f"Expected the backend {name} to answer a trial within {limit_s:g} s, got no answer."
        return Probe(False, detail, crash_hint)
    if done.returncode in (0, REFUSED) and done.stdout:
        return Probe(**json.loads(done.stdout))
    return Probe(False, f"Expected the backend {name} to survive a trial, {describe_end(done)}.", crash_hint)


def _run_once(kind: type[Backend], variant: str, network: bytes) -> Probe:
    try:
        backend = kind(network, 1, variant)
        backend.invoke(np.zeros(backend.input.shape, backend.input.quantisation.dtype))
    except BackendError as error:
        return Probe(False, error.message, error.hint)
    return Probe(True, backend.detail)


def main() -> int:
    """Run one trial: the backend's name and variant are the arguments, the network comes on stdin."""
    from edgeseg.backends.select import BACKENDS

    answer = os.dup(1)
    os.dup2(2, 1)  # native libraries chat on stdout, too
    name, variant = sys.argv[1:]
    probe = _run_once(BACKENDS[name], variant, sys.stdin.buffer.read())
    os.write(answer, json.dumps(to_plain(probe)).encode("utf-8"))
    return 0 if probe.available else REFUSED


if __name__ == "__main__":
    sys.exit(main())
