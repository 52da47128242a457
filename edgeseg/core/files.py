"""Write results so that nothing half-made ever stands under a final name, and read tables."""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from edgeseg.core.errors import DataError, OutputError, RunError

PARTIAL_SUFFIX = ".partial"
OLD_SUFFIX = ".old"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def partial_path(out: Path) -> Path:
    """Name the folder in which a result grows until it is whole."""
    return out.with_name(out.name + PARTIAL_SUFFIX)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with explained_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file whole or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    write_text(path, text.getvalue())


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file that a person or another program has written."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise DataError(
            f"Expected UTF-8 in {path}, got other bytes from position {error.start}.",
            "Save the table again as CSV in UTF-8.",
        ) from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def append_whole(handle: int, data: bytes) -> None:
    """Add to an open file all of it or, where the disk is full, nothing.

    Raises:
        OSError: There is no room.
    """
    size = os.fstat(handle).st_size
    if os.write(handle, data) < len(data):
        os.ftruncate(handle, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def staged_folder(
    out: Path, overwrite: bool = False, keep_partial: bool = False, go_on: bool = False
) -> Iterator[Path]:
    """Let a result folder grow beside its final place and move it there when it is whole.

    What stood at `out` before stays until the new folder is complete, so an interrupted overwrite loses nothing.

    Args:
        out: The final folder.
        overwrite: Whether a folder that is already there may be replaced.
        keep_partial: Whether an interrupted result stays under its partial name.
        go_on: Whether to go on with what an interruption left there.

    Yields:
        The folder to write into.
    """
    refuse_existing(out, overwrite, go_on)
    partial = partial_path(out)
    with ExitStack() as held:
        with explained_writes(partial):
            if partial.is_dir():
                held.enter_context(hold_folder(partial))
            if not go_on or not partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                held.enter_context(hold_folder(partial))
        with _growing(partial, out, keep_partial):
            yield partial


@contextmanager
def _growing(partial: Path, out: Path, keep_partial: bool) -> Iterator[None]:
    try:
        with explained_writes(partial, among_others=True):
            yield
        with explained_writes(partial):
            _swap(partial, out)
    except BaseException:
        if not keep_partial or not any(partial.iterdir()):
            shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Keep other processes from growing a result in the same folder; the system lets go when this one ends.

    Raises:
        RunError: Another process holds it.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _take_lock(handle):
            raise RunError(
                f"Expected nobody else at work in {folder}, got another process that is writing there.",
                "Wait until it has ended, or name another --out.",
            )
        yield
    finally:
        os.close(handle)


def _take_lock(handle: int) -> bool:
    """Lock an open folder unless another process has; where the file system knows no locks, nobody is kept out."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # NFS locks only what is open for writing, which no folder is
        return True
    return True


def refuse_existing(out: Path, overwrite: bool, go_on: bool = False) -> None:
    """Refuse a folder that is already there unless it may be replaced, and never replace a file."""
    if out.is_file():
        raise OutputError(f"Expected a folder to write, got the file {out}.", "Name another --out.")
    if out.exists() and not overwrite and any(out.iterdir()):
        raise OutputError(
            f"The output folder {out} is already there and not empty.",
            f"{'Move it away' if go_on else 'Name another --out'}, or replace it with "
            f"{'--resume --overwrite' if go_on else '--overwrite'} (it stays until the new one is whole).",
        )
    if overwrite and out.resolve() in (Path.cwd(), *Path.cwd().parents, Path.home()):
        raise OutputError(f"Refusing to replace {out}: it holds the folder you work in.", "Name another --out.")


def refuse_taken(out: Path, overwrite: bool, what: str) -> None:
    """Refuse to begin, before long work, where an interrupted result waits to be continued or a finished one stands."""
    if partial_path(out).is_dir():
        with hold_folder(partial_path(out)):
            pass
    if partial_path(out).is_dir() and not overwrite:
        raise RunError(
            f"Expected no interrupted {what} at {out}, got {partial_path(out)}.",
            f"Continue it with {'--resume --overwrite' if out.exists() else '--resume'}, "
            "or throw it away and begin again with --overwrite.",
        )
    refuse_existing(out, overwrite)


@contextmanager
def explained_writes(path: Path, among_others: bool = False) -> Iterator[None]:
    """Turn the operating system's refusal to write into a sentence.

    Args:
        path: What is written.
        among_others: Whether the block does more than that: what it could not read is then left as it is.
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
    """Tell whether something in a folder was refused or, where no file is named, whether there was no room."""
    if error.filename is None:
        return error.errno in NO_ROOM
    return Path(os.fsdecode(error.filename)).absolute().is_relative_to(folder.absolute())


def _swap(new: Path, out: Path) -> None:
    old = out.with_name(out.name + OLD_SUFFIX)
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
