"""The marker file of every folder that edgeseg writes: without it no folder is deleted or replaced.

FOLDER/.edgeseg is written first. When the folder is whole it lists every file in it, so that a file that somebody else
added is reported instead of deleted. Folders of versions without markers are recognised by their files.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import FolderBusyError, LimitError, OutputError
from edgeseg.core.limits import TABLE_BYTES, read_regular
from edgeseg.core.schema import parse_json

MARK = ".edgeseg"
# A marker that is being written.
_NEW = f"{MARK}.new"
_MAKER = "edgeseg"
_LOG = logging.getLogger(__name__)
# How many foreign files a message names.
_NAMED = 3
_ANOTHER = "Move it away, or name another --out."


@dataclass(frozen=True)
class Mark:
    """The content of a folder's marker."""

    whole: bool
    files: frozenset[str] = frozenset()
    """All files in the folder when it was whole, relative to it."""


@dataclass(frozen=True)
class _Kind:
    """How to recognise a folder without a marker: it has one of the signs, and no other names at its top."""

    signs: tuple[str, ...]
    names: str
    beginning: str = ""
    """How the sign's content begins."""


_UNMARKED = (
    _Kind(
        ("run.json",),
        r"run\.json|weights\.h5|model\.tflite|history\.csv|curve\.png|test-cases\.(png|csv)|split\.csv|report\.html|"
        "logs|checkpoint",
    ),
    _Kind(
        ("plan.json", "compress.json"),
        r"plan\.json|folds\.json|cases\.csv|fold-\d+(\.partial)?|(compress|report|bench|stream)\.json|report\.(html|md)|"
        r"recipes|networks|unfinished|phantom|run",
    ),
    _Kind(("recipes",), "recipes|networks|unfinished"),
    _Kind(("overlays.csv",), r"overlays\.csv|sheet\.png|(worst|best|false-positive)-\d+\.png"),
    _Kind(
        ("SOURCE.md",), r"SOURCE\.md|images|masks|masks_vessel|groups\.csv|clips", "Synthetic ultrasound phantoms made"
    ),
)


def read_mark(folder: Path) -> Mark | None:
    """Read a folder's marker; None where there is none, or one that edgeseg did not write."""
    try:
        value = parse_json(read_regular(folder / MARK, TABLE_BYTES).decode("utf-8"))
    except (OSError, ValueError, LimitError):
        return None
    if not isinstance(value, dict) or value.get("made_by") != _MAKER:
        return None
    files = value.get("files")
    names = files if isinstance(files, list) else ()
    return Mark(value.get("whole") is True, frozenset(name for name in names if isinstance(name, str)))


def write_mark(folder: Path, whole: bool) -> None:
    """Write a folder's marker; for a whole folder with a list of its files."""
    _write_mark(folder, whole, _list_files(folder) if whole else ())


def _write_mark(folder: Path, whole: bool, files: Iterable[str]) -> None:
    path = folder / _NEW
    with path.open("w", encoding="utf-8") as file:
        json.dump({"made_by": _MAKER, "whole": whole, "files": sorted(files)}, file, indent=0)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    path.replace(folder / MARK)


def add_to_mark(folder: Path, name: str) -> None:
    """List a file that was written into a whole folder later as edgeseg's own; without such a mark, do nothing."""
    mark = read_mark(folder)
    if mark is not None and mark.whole:
        _write_mark(folder, True, mark.files | {name})


def list_foreign(folder: Path) -> list[str] | None:
    """List files that edgeseg did not write in a folder of its own; None where the folder is not edgeseg's."""
    mark = read_mark(folder)
    if mark is None:
        return _list_foreign_unmarked(folder) if set(os.listdir(folder)) - {_NEW} else []  # noqa: PTH208 - names alone
    return sorted(_list_files(folder) - mark.files) if mark.whole else []


def refuse_foreign(folder: Path, hint: str = _ANOTHER) -> None:
    """Refuse to delete or replace a folder that edgeseg did not write, or that holds foreign files."""
    if folder.is_symlink() or not folder.is_dir():
        raise OutputError(f"Expected a folder of edgeseg's to replace at {folder}, got something else.", hint)
    foreign = list_foreign(folder)
    if foreign is None:
        names = sorted(path.name for path in folder.iterdir())
        raise OutputError(
            f"Expected a folder that edgeseg wrote, to replace it, got {folder} with {_name(names)}.", hint
        )
    if foreign:
        raise OutputError(
            f"Expected nothing but edgeseg's own files in {folder}, to replace it, got {_name(foreign)} as well.", hint
        )


def remove_folder(folder: Path, hint: str = _ANOTHER) -> None:
    """Remove a folder that edgeseg wrote, if it exists; the marker goes last, so that an interrupted removal can go on.

    Raises:
        OutputError: It is not edgeseg's, or holds foreign files.
        OSError: It cannot be removed.
    """
    if not folder.is_symlink() and not folder.exists():
        return
    refuse_foreign(folder, hint)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARK:
            path.unlink()
    # last: without its marker a half-removed folder could not be removed again
    (folder / MARK).unlink(missing_ok=True)
    folder.rmdir()


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Lock a folder against other edgeseg processes within the block; the lock ends with its process."""
    taken = FolderBusyError(
        f"Expected nobody else to write into {folder}, got another edgeseg at work there.",
        "Wait until it has ended, or name another --out.",
    )
    with _held(folder, os.O_DIRECTORY, taken):
        yield


@contextmanager
def held_file(path: Path) -> Iterator[None]:
    """Lock a file, which others may read meanwhile, as `held_folder` locks a folder."""
    taken = OutputError(
        f"Expected nobody else to work with {path}, got another edgeseg at work with it.", "Wait until it has ended."
    )
    with _held(path, os.O_NONBLOCK, taken):
        yield


@contextmanager
def _held(path: Path, flags: int, taken: OutputError) -> Iterator[None]:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise taken from error
    except OSError:
        # some network file systems
        _LOG.debug("no locks on the disk of %s", path)
    try:
        yield
    finally:
        os.close(handle)


def _list_files(folder: Path) -> set[str]:
    """List files and links below a folder without its marker; links are not followed."""
    found = set()
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if Path(place, name).is_symlink()]
        found |= {Path(place, name).relative_to(folder).as_posix() for name in (*files, *links)}
    return found - {MARK, _NEW}


def _list_foreign_unmarked(folder: Path) -> list[str] | None:
    names = sorted(path.name for path in folder.iterdir())
    for kind in _UNMARKED:
        if any(_has_sign(folder / sign, kind.beginning) for sign in kind.signs):
            made = {f"{path.stem}.tflite" for path in folder.glob("recipes/*.toml")} | {"float32.tflite"}
            own = made if "recipes" in kind.names else set()
            return [name for name in names if name not in own and not re.fullmatch(kind.names, name)]
    return None


def _has_sign(path: Path, beginning: str) -> bool:
    if not beginning:
        return path.exists()
    try:
        return read_regular(path, TABLE_BYTES).startswith(beginning.encode())
    except (OSError, LimitError):
        return False


def _name(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) if not name.isprintable() else name for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
