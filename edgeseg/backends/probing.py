"""Trials: run a network on a backend in a process of its own first, since a native runtime may crash or hang on it.

Networks that passed are remembered in the user's cache, so that each is tried once.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import platform
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.backends.base import Backend, Probe
from edgeseg.core.errors import EdgesegError
from edgeseg.core.files import write_bytes
from edgeseg.core.flatbuffer import FlatbufferError, is_flatbuffer, read_network
from edgeseg.core.limits import MIB, TRIAL_BYTES
from edgeseg.core.process import describe_end, run_module_limited
from edgeseg.core.redact import to_one_line
from edgeseg.core.schema import SchemaError, from_plain, parse_json, to_plain
from edgeseg.core.signature import TensorSpec

# Networks that are remembered; older ones are dropped.
MOST_REMEMBERED = 256
FOLDER = "proved"
# How many parent folders are created: .cache/edgeseg, but no missing home.
_CREATED_PARENTS = 2
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
# Seconds for one trial.
LIMIT_S = 60.0
# Exit status of a trial that the backend refused.
REFUSED = 1
# The class of each backend in its module of that name; a trial imports only the one that it needs.
KINDS = {"cpu": "CpuBackend", "gpu": "GpuBackend", "edgetpu": "EdgeTpuBackend", "onnx": "OnnxBackend"}
# Memory of a trial: at least this much, and this many times the activations that the file announces.
LEAST_BYTES, ACTIVATION_FACTOR = 256 * MIB, 16

# Networks that passed a trial for this process, or ran in it.
_remembered: set[str] = set()


def try_once(name: str, variant: str, network: bytes, runtime: str, crash_hint: str) -> Probe:
    """Run the trial of a network, unless it passed before.

    Args:
        name: The backend.
        variant: The variant of the backend.
        network: The network.
        runtime: The library and its version.
        crash_hint: What to do when the process dies or does not answer.
    """
    known = key_network(network, name, variant, runtime)
    if is_remembered(known):
        return Probe(True, runtime)
    probe = try_backend(name, variant, network, crash_hint)
    if probe.available:
        remember(known)
    return probe


def try_backend(name: str, variant: str, network: bytes, crash_hint: str, limit_s: float = LIMIT_S) -> Probe:
    """Load a network in a child process and run it on two images.

    Args:
        name: The backend.
        variant: The variant of the backend.
        network: The network.
        crash_hint: What to do when the process dies or does not answer.
        limit_s: The time limit in seconds.
    """
    try:
        done = run_module_limited("edgeseg.backends.probing", [name, variant], network, limit_s)
    except subprocess.TimeoutExpired:
        detail = f"Expected the backend {name} to answer a trial within {limit_s:g} s, got no answer."
        return Probe(False, detail, crash_hint)
    end = describe_end(done)
    if done.returncode in (0, REFUSED) and done.stdout:
        try:
            return from_plain(Probe, parse_json(done.stdout.decode("utf-8")))
        except (SchemaError, ValueError):
            end = "but its process gave another answer"
    detail = f"Expected the backend {name} to survive a trial with this file, {to_one_line(end)}."
    return Probe(False, detail, crash_hint)


def key_network(network: bytes, backend: str, variant: str, runtime: str) -> str:
    """Build the key of a network on a backend; another version of the runtime needs another trial."""
    parts = (hashlib.sha256(network).hexdigest(), backend, variant, runtime, platform.machine())
    return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()


def is_remembered(name: str) -> bool:
    """Say whether a network passed its trial before."""
    if name not in _remembered and any(_contains(folder, name) for folder in _list_folders()):
        _remembered.add(name)
    return name in _remembered


def remember_here(name: str) -> None:
    """Remember a network for this process."""
    _remembered.add(name)


def remember(name: str) -> None:
    """Remember a network for later starts, if a cache folder can be used."""
    remember_here(name)
    for folder in _list_folders():
        with contextlib.suppress(OSError, EdgesegError):  # without a cache, the next start repeats the trial
            if _create_folder(folder):
                write_bytes(folder / name, f"{name}\n".encode())
                _drop_oldest(folder)
                return


def _list_folders() -> Iterator[Path]:
    """List the cache folders: those of a systemd service, then the user's."""
    for variable in ("CACHE_DIRECTORY", "STATE_DIRECTORY"):
        first = os.environ.get(variable, "").split(":")[0]
        if first.startswith("/"):
            yield Path(first) / FOLDER
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if cache.startswith("/"):
        yield Path(cache) / "edgeseg" / FOLDER
        return
    with contextlib.suppress(RuntimeError):  # a user without a home
        yield Path.home() / ".cache" / "edgeseg" / FOLDER


def _contains(folder: Path, name: str) -> bool:
    """Say whether a cache folder contains a name; a folder or file that others can write to is not trusted."""
    wanted = f"{name}\n".encode()
    try:
        if not _is_ours(folder.lstat(), stat.S_ISDIR):
            return False
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return _is_ours(os.fstat(handle), stat.S_ISREG) and os.read(handle, len(wanted) + 1) == wanted
        finally:
            os.close(handle)
    except (OSError, ValueError):  # ValueError: a NUL in the folder's name
        return False


def _is_ours(state: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    return is_kind(state.st_mode) and state.st_uid == os.geteuid() and not state.st_mode & _OTHERS_WRITE


def _create_folder(folder: Path) -> bool:
    """Create the folder for this user alone; never in the home of another user, as under sudo."""
    if not folder.is_dir():
        missing = [part for part in (*reversed(folder.parents[:_CREATED_PARENTS]), folder) if not part.exists()]
        above = missing[0].parent if missing else folder
        if not above.is_dir() or above.stat().st_uid != os.geteuid():
            return False
        for part in missing:
            part.mkdir(mode=0o700, exist_ok=True)
    return _is_ours(folder.lstat(), stat.S_ISDIR)


def _drop_oldest(folder: Path) -> None:
    files = [entry for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)]
    if len(files) > MOST_REMEMBERED:
        for entry in sorted(files, key=lambda entry: entry.stat(follow_symlinks=False).st_mtime)[:-MOST_REMEMBERED]:
            Path(entry.path).unlink(missing_ok=True)


def _run_trial(kind: type[Backend], variant: str, network: bytes) -> Probe:
    try:
        backend = kind(network, 1, variant)
        for tensor in _list_inputs(backend.input):
            backend.invoke(tensor)
    except EdgesegError as error:
        return Probe(False, error.message, error.hint)
    except MemoryError:
        return Probe(False, f"Expected a network that needs at most {TRIAL_BYTES >> 20} MiB, got one that needs more.")
    return Probe(True, backend.detail)


def _list_inputs(end: TensorSpec) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make a black input and one of noise: a crash may depend on the values."""
    dtype = np.dtype(end.quantisation.dtype)
    noise = np.random.default_rng(0).random(end.shape)
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        noise = limits.min + noise * (float(limits.max) - limits.min)
    return np.zeros(end.shape, dtype), noise.astype(dtype)


def _confine(kind: type[Backend], network: bytes) -> None:
    """Forbid core dumps, and limit memory, so that a network that needs too much fails here and not the machine.

    An accelerator's driver reserves more address space than the machine has memory, so it gets no limit.
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
    """Compute the memory limit of a trial from the activations that the file announces.

    The factor is large, as XNNPACK packs the weights a second time and keeps a pointer for every pixel under a kernel.
    An ONNX file gets the highest limit, as its activations are not known.
    """
    if not is_flatbuffer(network):
        return TRIAL_BYTES + 4 * len(network)
    try:
        announced = sum(tensor.bytes for tensor in read_network(network).tensors if tensor.data is None)
    except FlatbufferError:  # the runtime's own message is better
        announced = 0
    return min(TRIAL_BYTES, LEAST_BYTES + ACTIVATION_FACTOR * announced) + 4 * len(network)


def main() -> int:
    """Run one trial in the child process: the arguments are backend and variant, the network comes on stdin."""
    answer = os.dup(1)
    os.dup2(2, 1)  # native libraries write to stdout, too
    name, variant = sys.argv[1:]
    kind = getattr(importlib.import_module(f"edgeseg.backends.{name}"), KINDS[name])
    network = sys.stdin.buffer.read()
    _confine(kind, network)
    probe = _run_trial(kind, variant, network)
    os.write(answer, json.dumps(to_plain(probe)).encode("utf-8"))
    return 0 if probe.available else REFUSED


if __name__ == "__main__":
    sys.exit(main())
