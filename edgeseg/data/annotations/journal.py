"""What a writer has added so far: one JSON line for each image, so that an interrupted writer can go on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from edgeseg.core.errors import OutputError
from edgeseg.core.files import append_whole, explained_writes
from edgeseg.core.redact import is_printable

_CHUNK_BYTES = 2**20


class Journal:
    """A file of JSON lines: a head that says what is written, then one line for each image.

    An image that is added again replaces itself. In memory are its name and the place of its line, no labels.

    Args:
        path: The file; it is removed when the writer has ended.
        head: The format and the classes; an interrupted journal with others is refused.
        resume: Whether to go on with an interrupted journal; else it is an error that there is one.
    """

    def __init__(self, path: Path, head: Mapping[str, Any], resume: bool) -> None:
        self._path = path
        self._places: dict[str, int] = {}
        if os.path.lexists(path):
            if not resume:
                raise OutputError(
                    f"Expected no interrupted labels in {path.parent}, got {path.name}.",
                    "Go on with them with --resume, or name another --out.",
                )
            self._size = self._load(head)
        else:
            self._size = 0
            self._append(head)

    @property
    def names(self) -> frozenset[str]:
        """List the images that were added."""
        return frozenset(self._places)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def add(self, name: str, entry: Mapping[str, Any]) -> None:
        """Note an image: all of its line or, where the disk is full, nothing."""
        place = self._size
        self._append({"name": name, **entry})
        self._places[name] = place

    def entries(self) -> Iterator[dict[str, Any]]:
        """Read what was noted, each image once, in the order in which they were added last."""
        with self._path.open("rb") as file:
            for place in sorted(self._places.values()):
                file.seek(place)
                yield json.loads(file.readline())

    def remove(self) -> None:
        """Remove the file: the result is written."""
        self._path.unlink(missing_ok=True)

    def _append(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        with explained_writes(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # opened for each image: no handle stays open where a writer is interrupted
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                append_whole(handle, line)
            finally:
                os.close(handle)
        self._size += len(line)

    def _load(self, head: Mapping[str, Any]) -> int:
        """Read the names and places of an interrupted journal; a line that was cut off is dropped."""
        size = 0
        with explained_writes(self._path), self._path.open("r+b") as file:
            for number, line in enumerate(file):
                entry = self._parse(line)
                if entry is None:
                    break
                if number == 0 and entry != json.loads(json.dumps(head)):
                    raise self._refuse(f"got one of {entry.get('format')} with the classes {entry.get('classes')}")
                if number:
                    self._places[entry["name"]] = size
                size += len(line)
            file.truncate(size)
        if size == 0:
            self._append(head)
            return self._size
        return size

    def _parse(self, line: bytes) -> dict[str, Any] | None:
        if not line.endswith(b"\n"):
            return None
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._refuse("got an unreadable one") from error
        if not isinstance(entry, dict) or not isinstance(entry.get("name", ""), str):
            raise self._refuse("got an unreadable one")
        return entry

    def _refuse(self, got: str) -> OutputError:
        return OutputError(
            f"Expected the interrupted labels of the same format and classes in {self._path}, {got}.",
            "Go on with the same model and format, or name another --out.",
        )


def check_name(name: str) -> PurePosixPath:
    """Refuse a name that is no path inside the folder of images."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or not is_printable(name) or not path.name:
        raise ValueError(f"expected a name relative to the folder of images, with slashes, got {name!r}")
    return path


def open_journal(folder: Path, name: str, classes: Sequence[str], resume: bool, there: Sequence[Path]) -> Journal:
    """Begin or continue a journal; results that are there already are never replaced.

    Args:
        folder: Where labels are written.
        name: The format.
        classes: Names of all classes.
        resume: Whether to go on after an interruption.
        there: Files of the result that exist.
    """
    path = folder / f".{name}.jsonl"
    if there and not (resume and path.exists()):
        raise OutputError(
            f"Expected no labels at {there[0]}, got a file that was there before.",
            "Move it away, or name another --out.",
        )
    return Journal(path, {"format": name, "classes": list(classes)}, resume)


class LabelFiles:
    """The files of a format with one file for each image; files that were there before are never replaced.

    Args:
        journal: Where the files are noted.
        ending: The ending of a file of labels.
    """

    def __init__(self, journal: Journal, ending: str) -> None:
        self._journal, self._ending = journal, ending
        self._owners = {entry["stem"].casefold(): entry["name"] for entry in journal.entries()}

    def choose(self, name: PurePosixPath) -> PurePosixPath:
        """Return an image's name without its ending or, where another image has that, with it.

        The labels of `x.png` and `x.jpg` cannot share `x.json`.
        """
        for path in (name.with_suffix(""), name):
            # file systems of macOS and Windows would merge names that differ in case alone
            if self._owners.get(str(path).casefold(), str(name)) == str(name):
                return path
        raise OutputError(f"Expected images whose names differ in more than case, got {name} twice.", "Rename one.")

    def note(self, name: PurePosixPath, folder: Path, part: str = "") -> Path:
        """Note that an image's labels are written, and return the file."""
        stem = self.choose(name)
        path = folder / f"{stem}{self._ending}"
        if str(name) not in self._journal:
            if path.exists():
                raise OutputError(
                    f"Expected no labels at {path}, got a file that was there before.",
                    "Move it away, or name another --out.",
                )
            # noted first: a file that is written but not noted would be taken for somebody else's later
            self._journal.add(str(name), {"stem": str(stem), "part": part})
            self._owners[str(stem).casefold()] = str(name)
        return path
