"""Write files and result folders whole or not at all, and read CSV tables.

A file is written under a temporary name, synced and renamed. A result folder grows as OUT.partial and is renamed to OUT
when it is whole; `marks` keeps folders that edgeseg did not write from being replaced.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from edgeseg.core.errors import DataError, OutputError, RunError
from edgeseg.core.marks import MARK, held_folder, list_foreign, read_mark, refuse_foreign, remove_folder, write_mark

# How a text begins that a spreadsheet takes for a formula (CWE-1236), after apostrophes of an earlier escape.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
PARTIAL_SUFFIX = ".partial"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; a device such as /dev/null is never replaced."""
    with open_whole(path) as file:
        file.write(data)


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its place when the block ends, whole, or not at all."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OutputError(f"Expected a file or nothing at {path}, got a device or a pipe.", "Name another file.")
    with explained_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                # without it the rename may reach the disk before the data does
                os.fsync(file.fileno())
            # mkstemp creates files that only their owner can read
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def append_whole(handle: int, data: bytes) -> None:
    """Append all of the data to an open file or, where the disk is full, nothing.

    Raises:
        OSError: The disk is full.
    """
    size = os.fstat(handle).st_size
    if os.write(handle, data) < len(data):
        os.ftruncate(handle, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _umask() -> int:
    # the mask can only be read by setting another one
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def explained_writes(path: Path, among_others: bool = False) -> Iterator[None]:
    """Turn an OSError from writing into an OutputError with advice.

    Args:
        path: What is written.
        among_others: Whether the block does more than that; errors about other files then pass unchanged.
    """
    try:
        yield
    except OSError as error:
        if among_others and not _is_about(error, path):
            raise
        raise OutputError(
            f"Writing {path} failed: {error.strerror or error}.",
            "Check that the disk has room and that you may write there.",
        ) from error


def _is_about(error: OSError, folder: Path) -> bool:
    """Say whether an error is about a file in the folder or, where it names none, about a full disk."""
    if error.filename is None:
        return error.errno in DISK_FULL
    return Path(os.fsdecode(error.filename)).absolute().is_relative_to(folder.absolute())


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file whole or not at all."""
    write_text(path, format_rows(columns, rows))


def format_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Format rows as CSV that no spreadsheet runs as formulas; `read_rows` returns what was written."""
    return "".join(_format_row([_escape_formula(cell) for cell in row]) for row in [columns, *rows])


def _format_row(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # with this terminator, cells with \r or \n are quoted
    return text.getvalue().removesuffix("\r\n") + "\n"


def _escape_formula(cell: Any) -> Any:
    """Put an apostrophe before a text that a spreadsheet would run as a formula; numbers stay numbers."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) and not _is_number(cell) else cell


def _unescape_formula(cell: Any) -> Any:
    return cell[1:] if isinstance(cell, str) and cell.startswith("'") and _FORMULA.match(cell) else cell


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-](inf|nan)", text) is not None


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file that a person or another program has written."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [
                {_unescape_formula(name): _unescape_formula(cell) for name, cell in row.items()}
                for row in csv.DictReader(file)
            ]
    except UnicodeDecodeError as error:
        raise DataError(
            f"Expected UTF-8 in {path}, got other bytes from position {error.start}.",
            "Save the table again as CSV in UTF-8.",
        ) from error


def partial_path(out: Path) -> Path:
    """The folder in which a result grows until it is whole."""
    place = _resolve(out)
    return place.with_name(place.name + PARTIAL_SUFFIX)


@contextmanager
def staged_folder(
    out: Path, overwrite: bool = False, keep_partial: bool = False, go_on: bool = False
) -> Iterator[Path]:
    """Let a result folder grow beside its final place and move it there when it is whole.

    An existing folder at `out` stays until the new one is complete, so an interrupted overwrite loses nothing. Only
    folders with edgeseg's mark and without other files are replaced or removed.

    Args:
        out: The final folder.
        overwrite: Whether an existing folder may be replaced.
        keep_partial: Whether an interrupted result stays under its partial name.
        go_on: Whether to continue an interrupted result.

    Yields:
        The folder to write into.
    """
    refuse_existing(out, overwrite, go_on)
    partial, out = partial_path(out), _resolve(out)
    with explained_writes(partial), ExitStack() as held:
        if not go_on:
            _clear_partial(partial)
        elif partial.is_symlink():
            # what it leads to is somebody else's
            refuse_foreign(partial)
        partial.mkdir(parents=True, exist_ok=go_on)
        held.enter_context(held_folder(partial))
        if read_mark(partial) is None:
            # first of all: only a marked folder may be removed later
            write_mark(partial, whole=False)
        held = held.pop_all()
    with held:
        try:
            with explained_writes(partial, among_others=True):
                yield partial
            with explained_writes(partial):
                write_mark(partial, whole=True)
                _swap(partial, out, overwrite)
        except BaseException:
            if not _is_kept(partial, keep_partial):
                shutil.rmtree(partial, ignore_errors=True)
            raise


def _clear_partial(partial: Path) -> None:
    """Remove an interrupted result; a folder that is not edgeseg's is refused."""
    if os.path.lexists(partial):
        refuse_foreign(partial)
        with held_folder(partial):
            remove_folder(partial)


def _is_kept(partial: Path, keep: bool) -> bool:
    """Say whether an interrupted result stays: a whole one always does, since only its renaming failed."""
    mark = read_mark(partial)
    if mark is not None and mark.whole:
        return True
    return keep and any(path.name != MARK for path in partial.iterdir())


def refuse_existing(out: Path, overwrite: bool, go_on: bool = False) -> None:
    """Refuse an existing folder unless it may be replaced, and always one that is not edgeseg's."""
    _prepare(out, overwrite, go_on)
    if not out.exists() or not any(out.iterdir()):
        return
    if not overwrite:
        raise OutputError(
            f"The output folder {out} is already there and not empty.",
            f"{'Move it away' if go_on else 'Name another --out'}, or replace it with "
            f"{'--resume --overwrite' if go_on else '--overwrite'} (it stays until the new one is whole).",
        )
    refuse_foreign(_resolve(out))


def refuse_taken(out: Path, overwrite: bool, what: str) -> None:
    """Refuse to begin long work where there is an interrupted result to continue, or a finished one."""
    _prepare(out, overwrite)
    partial = partial_path(out)
    if partial.is_dir() and any(partial.iterdir()):
        with held_folder(partial):
            pass  # refuses at once where another process writes there
        if overwrite or list_foreign(partial) is None:
            refuse_foreign(partial)
        else:
            raise RunError(
                f"Expected no interrupted {what} at {out}, got {partial}.",
                f"Continue it with {'--resume --overwrite' if out.exists() else '--resume'}, "
                "or throw it away and begin again with --overwrite.",
            )
    refuse_existing(out, overwrite)


def _prepare(out: Path, overwrite: bool, go_on: bool = False) -> None:
    """Refuse places where no result can go, and finish a replacement that was killed."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"Expected a folder to write, got the file {out}.", "Name another --out.")
    if out.resolve() in (Path.cwd(), *Path.cwd().parents) or (overwrite and out.resolve() == Path.home()):
        raise OutputError(f"Refusing to replace {out}: it holds the folder you work in.", "Name another --out.")
    _finish_interrupted(_resolve(out), overwrite, go_on)


def _swap(new: Path, out: Path, overwrite: bool) -> None:
    """Rename a whole result to its final place; `_finish_interrupted` handles every state between the steps."""
    if not overwrite or not out.exists() or not any(out.iterdir()):
        new.rename(out)  # replaces an empty folder and fails on one that was filled meanwhile
        return
    refuse_foreign(out, f"Move it away; the new result is whole, in {new}.")
    if read_mark(out) is None:
        write_mark(out, whole=True)
    old = next(path for path in _list_replaced(out) if not os.path.lexists(path))
    out.rename(old)
    new.rename(out)
    with contextlib.suppress(OSError):  # the result is in place; the rest of the old one is removed next time
        remove_folder(old)


def _finish_interrupted(out: Path, overwrite: bool, go_on: bool) -> None:
    """Finish a `_swap` that was killed."""
    partial = partial_path(out)
    mark, replacing = read_mark(partial), go_on and overwrite
    whole = mark is not None and mark.whole and (replacing or not out.exists())
    with explained_writes(out):
        if whole:
            with held_folder(partial):
                _swap(partial, out, replacing)
        for old in itertools.takewhile(os.path.lexists, _list_replaced(out)):
            _clear_replaced(old, out)
    if whole and go_on:
        raise RunError(
            f"Expected an interrupted result to go on with, got a finished one for {out}.", "It is there now."
        )


def _clear_replaced(old: Path, out: Path) -> None:
    """Remove a replaced folder, or put it back where no new one is in its place."""
    if read_mark(old) is None:
        with contextlib.suppress(OSError):  # without a mark it is only removed where it is empty
            old.rmdir()
    elif out.exists():
        remove_folder(old)
    else:
        old.rename(out)


def _list_replaced(out: Path) -> Iterator[Path]:
    """List names for the old folder while it is replaced; nobody would name a copy of their own like that."""
    yield out.with_name(f".{out.name}.replaced")
    for number in itertools.count(2):
        yield out.with_name(f".{out.name}.replaced-{number}")


def _resolve(out: Path) -> Path:
    """Resolve a link, so that its target is replaced and not the link, and the names `.` and `..`."""
    return out.resolve() if out.is_symlink() or out.name in ("", "..") else out
