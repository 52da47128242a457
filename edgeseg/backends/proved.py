"""Remember which networks have run here once without harm, so that the trial in another process is paid only once.

One small file for each network, named by a hash of the network, the backend, the runtime's version and the machine. A
folder that is missing, full, read-only, of another user or filled with garbage costs a trial and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from edgeseg.core.errors import EdgesegError
from edgeseg.core.files import write_bytes

MOST = 256
"""How many networks are remembered; the oldest give way."""
FOLDER = "proved"
_MADE = 2
"""How many folders above are made as well: .cache/edgeseg; a home that is not there stays away."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_here: set[str] = set()
"""What ran in this very process, or in a trial for it."""


def name_network(network: bytes, backend: str, variant: str, runtime: str) -> str:
    """Name a network on a backend; another version of the runtime must prove itself anew."""
    parts = (hashlib.sha256(network).hexdigest(), backend, variant, runtime, platform.machine())
    return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()


def is_proved(name: str) -> bool:
    """Say whether this network ran here before."""
    if name not in _here and any(_holds(folder, name) for folder in _list_folders()):
        _here.add(name)
    return name in _here


def remember_here(name: str) -> None:
    """Remember a network for as long as this process lives."""
    _here.add(name)


def remember(name: str) -> None:
    """Remember a network for later starts, where there is a folder for that."""
    remember_here(name)
    for folder in _list_folders():
        with contextlib.suppress(OSError, EdgesegError):  # then the next start tries the network again
            if _make_folder(folder):
                write_bytes(folder / name, f"{name}\n".encode())
                _forget_oldest(folder)
                return


def _list_folders() -> Iterator[Path]:
    """List where to look: what systemd gives a service, else the user's cache."""
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


def _holds(folder: Path, name: str) -> bool:
    """Say whether a folder of ours holds a name; what others could have written there is not believed."""
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


def _make_folder(folder: Path) -> bool:
    """Make the folder for this user alone; never inside the home of another user, as under sudo."""
    if not folder.is_dir():
        missing = [part for part in (*reversed(folder.parents[:_MADE]), folder) if not part.exists()]
        above = missing[0].parent if missing else folder
        if not above.is_dir() or above.stat().st_uid != os.geteuid():
            return False
        for part in missing:
            part.mkdir(mode=0o700, exist_ok=True)
    return _is_ours(folder.lstat(), stat.S_ISDIR)


def _forget_oldest(folder: Path) -> None:
    files = [entry for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)]
    if len(files) > MOST:
        for entry in sorted(files, key=lambda entry: entry.stat(follow_symlinks=False).st_mtime)[:-MOST]:
            Path(entry.path).unlink(missing_ok=True)
