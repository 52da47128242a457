"""The cache folder: what edgeseg may make again at any time, private to its user, and how it is listed and cleared.

EDGESEG_CACHE names the folder, or turns it off with the word `off`; else it is edgeseg/ in XDG_CACHE_HOME or ~/.cache.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import FolderBusyError, OutputError
from edgeseg.core.files import explained_writes
from edgeseg.core.marks import held_folder, list_foreign, read_mark, remove_folder, write_mark

VARIABLE = "EDGESEG_CACHE"
OFF = "off"
# Below it are the folders with images, one for each data set and input of a network.
GRIDS = "grids"
_MOVE = f"Name a folder of your own with {VARIABLE} (or {OFF}, to write none)."
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class CacheEntry:
    """One folder in the cache."""

    path: Path
    size: int
    """Bytes."""
    used: float
    """When it was last opened, in seconds since 1970."""
    whole: bool
    """Whether it was finished."""


def find_cache() -> Path | None:
    """Find the cache folder, which need not exist; None where the cache is turned off."""
    named = os.environ.get(VARIABLE, "").strip()
    if named.lower() == OFF:
        return None
    base = os.environ.get("XDG_CACHE_HOME", "").strip()
    # the XDG specification has relative paths ignored
    if not named and base and Path(base).is_absolute():
        return Path(base) / "edgeseg"
    try:
        return Path(named).expanduser().absolute() if named else Path.home() / ".cache" / "edgeseg"
    except RuntimeError as error:
        raise OutputError(f"Expected a home folder for the cache {named}, got none.", _MOVE) from error


def open_cache(place: Path, outside: Path) -> Path:
    """Make the cache folder for images, which only its user may enter, or check the one that is there.

    Args:
        place: The cache.
        outside: A data folder that it must not be in.
    """
    if place.resolve().is_relative_to(outside.resolve()):
        raise OutputError(f"Expected a cache outside the data folder {outside}, got {place}.", _MOVE)
    grids = place / GRIDS
    for folder in (place, grids):
        if os.path.lexists(folder) and not folder.is_dir():
            raise OutputError(f"Expected a folder for the cache at {folder}, got something else.", _MOVE)
    with explained_writes(place):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        grids.mkdir(mode=0o700, exist_ok=True)
        if read_mark(grids) is None and list_foreign(grids) == []:
            # another process may do the same at this moment
            with contextlib.suppress(FileNotFoundError):
                write_mark(grids, whole=False)
    _check_own(grids)
    return grids


def _check_own(folder: Path) -> None:
    """Refuse a folder that others may have filled: its images would be trained on."""
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode):
        raise OutputError(f"Expected a folder for the cache at {folder}, got a link.", _MOVE)
    if state.st_uid != os.geteuid():
        raise OutputError(f"Expected a cache of your own at {folder}, got another user's.", _MOVE)
    if state.st_mode & _OTHERS_WRITE:
        raise OutputError(
            f"Expected a cache that only you may write at {folder}, got one that others may write, too.",
            f"Type: chmod 700 '{folder}'",
        )
    if read_mark(folder) is None:
        raise OutputError(f"Expected edgeseg's cache at {folder}, got a folder with other files.", _MOVE)


def list_cache(place: Path) -> list[CacheEntry]:
    """List what the cache holds, the longest unused first; nothing where there is no cache."""
    folder = place / GRIDS
    if not folder.is_dir() or read_mark(folder) is None:
        return []
    entries = []
    for path in folder.iterdir():
        # another process may remove it meanwhile
        with contextlib.suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink():
                entries.append(_describe(path))
    return sorted(entries, key=lambda entry: entry.used)


def _describe(path: Path) -> CacheEntry:
    # blocks, since a folder that is being filled has room that is not used yet
    size = sum(file.lstat().st_blocks * 512 for file in path.iterdir())
    mark = read_mark(path)
    return CacheEntry(path, size, path.stat().st_mtime, mark is not None and mark.whole)


def touch_entry(folder: Path) -> None:
    """Note that a folder was used now."""
    with contextlib.suppress(OSError):
        os.utime(folder)


def clear_cache(place: Path) -> tuple[int, int]:
    """Remove what the cache holds; what another process is writing stays.

    Returns:
        How many folders were removed, and how many stay because somebody writes them.

    Raises:
        OutputError: A folder holds files that edgeseg did not write.
    """
    cleared = [_clear_entry(entry.path) for entry in list_cache(place)]
    return sum(cleared), len(cleared) - sum(cleared)


def _clear_entry(folder: Path) -> bool:
    """Remove a folder; say whether nobody writes it."""
    # another process may remove it meanwhile
    with contextlib.suppress(FileNotFoundError):
        try:
            with held_folder(folder), explained_writes(folder):
                remove_folder(folder, "Move it away, or remove it by hand.")
        except FolderBusyError:
            return False
    return True
