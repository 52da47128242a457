"""Try a backend in a process of its own: what crashes or hangs there becomes a sentence here."""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.backends.base import Backend, Probe, TensorInfo
from edgeseg.backends.proved import is_proved, name_network, remember
from edgeseg.core.errors import EdgesegError
from edgeseg.core.flatbuffer import FlatbufferError
from edgeseg.core.limits import MIB, TRIAL_BYTES
from edgeseg.core.network import is_flatbuffer, read_network
from edgeseg.core.process import describe_end, feed_module
from edgeseg.core.safetext import make_line
from edgeseg.core.schema import MisfitError, from_plain, to_plain
from edgeseg.core.strictjson import parse_json

LIMIT_S = 60.0
REFUSED = 1
KINDS = {"cpu": "CpuBackend", "gpu": "GpuBackend", "edgetpu": "EdgeTpuBackend", "onnx": "OnnxBackend"}
"""The class of each backend in its module of that name; the trial loads only the one it needs."""
LEAST_BYTES, MANIFOLD = 256 * MIB, 16
"""What the smallest network may take in its trial, and how often what it announces."""


def try_once(name: str, variant: str, network: bytes, runtime: str, crash_hint: str) -> Probe:
    """Try a network that is new here; one that ran before is believed.

    Args:
        name: The backend.
        variant: What stands behind its name.
        network: What to run.
        runtime: The library and its version.
        crash_hint: What to do when the process dies or does not answer.
    """
    known = name_network(network, name, variant, runtime)
    if is_proved(known):
        return Probe(True, runtime)
    probe = try_backend(name, variant, network, crash_hint)
    if probe.available:
        remember(known)
    return probe


def try_backend(name: str, variant: str, network: bytes, crash_hint: str, limit_s: float = LIMIT_S) -> Probe:
    """Load a network elsewhere and run it on two pictures.

    Args:
        name: The backend.
        variant: What stands behind its name.
        network: What to run.
        crash_hint: What to do when the process dies or does not answer.
        limit_s: How long it may take.
    """
    try:
        done = feed_module("edgeseg.backends.trial", [name, variant], network, limit_s)
    except subprocess.TimeoutExpired:
        detail = f"Expected the backend {name} to answer a trial within {limit_s:g} s, got no answer."
        return Probe(False, detail, crash_hint)
    end = describe_end(done)
    if done.returncode in (0, REFUSED) and done.stdout:
        try:
            return from_plain(Probe, parse_json(done.stdout.decode("utf-8")))
        except (MisfitError, ValueError):
            end = "but its process gave another answer"
    detail = f"Expected the backend {name} to survive a trial with this file, {make_line(end)}."
    return Probe(False, detail, crash_hint)


def _run_once(kind: type[Backend], variant: str, network: bytes) -> Probe:
    try:
        backend = kind(network, 1, variant)
        for tensor in _list_inputs(backend.input):
            backend.invoke(tensor)
    except EdgesegError as error:
        return Probe(False, error.message, error.hint)
    except MemoryError:
        return Probe(False, f"Expected a network that needs at most {TRIAL_BYTES >> 20} MiB, got one that needs more.")
    return Probe(True, backend.detail)


def _list_inputs(end: TensorInfo) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make a black picture and one of noise, for what depends on the numbers that come."""
    dtype = np.dtype(end.quantisation.dtype)
    noise = np.random.default_rng(0).random(end.shape)
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        noise = limits.min + noise * (float(limits.max) - limits.min)
    return np.zeros(end.shape, dtype), noise.astype(dtype)


def _confine(kind: type[Backend], network: bytes) -> None:
    """Leave no core dump, and let a network that asks for too much memory fail here instead of the whole machine.

    Not where an accelerator is driven: its driver reserves more than a machine has.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    status = Path("/proc/self/status")
    confined = kind.computes_in_memory() and status.is_file()
    used = re.search(r"VmData:\s+(\d+) kB", status.read_text("utf-8")) if confined else None
    if used:
        limit = int(used[1]) * 1024 + _allow_bytes(network)
        highest = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = limit if highest == resource.RLIM_INFINITY else min(limit, highest)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, highest))


def _allow_bytes(network: bytes) -> int:
    """Work out what a network may take: what its file announces, many times over, since shapes in it may be lies.

    The runtime packs the weights a second time, and keeps a pointer for every pixel that a kernel covers. Of an ONNX
    file nobody knows.
    """
    if not is_flatbuffer(network):
        return TRIAL_BYTES + 4 * len(network)
    try:
        announced = sum(tensor.bytes for tensor in read_network(network).tensors if tensor.data is None)
    except FlatbufferError:  # the runtime says better what it misses
        announced = 0
    return min(TRIAL_BYTES, LEAST_BYTES + MANIFOLD * announced) + 4 * len(network)


def main() -> int:
    """Run one trial: the backend's name and variant are the arguments, the network comes on stdin."""
    answer = os.dup(1)
    os.dup2(2, 1)  # native libraries chat on stdout, too
    name, variant = sys.argv[1:]
    kind = getattr(importlib.import_module(f"edgeseg.backends.{name}"), KINDS[name])
    network = sys.stdin.buffer.read()
    _confine(kind, network)
    probe = _run_once(kind, variant, network)
    os.write(answer, json.dumps(to_plain(probe)).encode("utf-8"))
    return 0 if probe.available else REFUSED


if __name__ == "__main__":
    sys.exit(main())
