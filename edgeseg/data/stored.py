"""Read images on a network's grid from disk (data/store.py); what is not stored is decoded again from its files.

Rows are read with pread, not through a memory map: the pages stay the kernel's own and count as nobody's memory, and a
damaged disk or a file that was cut off is an error in one sentence instead of the end of the process (SIGBUS).
"""

from __future__ import annotations

import contextlib
import os
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.limits import read_regular
from edgeseg.core.progress import progress_bar
from edgeseg.data.dataset import LabelledImage, read_case
from edgeseg.data.reading import Case
from edgeseg.data.store import (
    FACT_BYTES,
    FACTS,
    INDEX,
    MASKS,
    PIXELS,
    THUMBNAILS,
    StoreKey,
    name_checksum,
    provide_store,
)

# Images whose arrays are in memory at once, where all of them are looked at.
BLOCK = 256
_CLEAR = "Remove it with: edgeseg data cache --clear. It is made again from the images."
_REPEAT = "Repeat the command: they are made again from the images."
_Decode = Callable[[bytearray], NDArray[Any]]


class _File:
    """A file that is open for reading until nobody uses it any more: it may be removed from the cache meanwhile."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        weakref.finalize(self, os.close, self._handle)

    def read(self, size: int, offset: int) -> bytearray:
        # not read-only bytes: callers may change what they have read
        data = bytearray(size)
        try:
            read = os.preadv(self._handle, [data], offset)
        except OSError as error:
            raise DataError(f"Reading stored images in {self.folder} failed: {error.strerror}.", _CLEAR) from error
        if read < size:
            raise self.spoil()
        return data

    def spoil(self) -> DataError:
        """Let the next call make the set again, and build the error of a file that is not as it was written."""
        # without it no set is sound
        with contextlib.suppress(OSError):
            (self.folder / INDEX).unlink()
        return DataError(f"Expected stored images in {self.folder} as they were written, got others.", _REPEAT)


@dataclass(frozen=True, eq=False)
class StoredRows:
    """Rows of equal size in a file, some of them in an order of their own; they are read when they are asked for."""

    file: _File
    size: int
    """Bytes of a row."""
    numbers: NDArray[np.int64]
    """The rows."""
    decode: _Decode
    """Makes an array of a row's bytes."""
    checksums: NDArray[np.uint32]
    """CRC-32 of every row of the file."""

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.numbers)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of all rows together."""
        return (len(self), *self.decode(bytearray(self.size)).shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read one row by its number, or several by a slice or an array of numbers."""
        chosen = self.numbers[key]
        if np.ndim(chosen) == 0:
            return self._read(int(chosen))
        rows = [self._read(int(number)) for number in chosen]
        return np.stack(rows) if rows else np.zeros((0, *self.shape[1:]), self.decode(bytearray(self.size)).dtype)

    def pick(self, numbers: NDArray[np.int64]) -> StoredRows:
        """Choose rows, without reading them."""
        return replace(self, numbers=self.numbers[numbers])

    def then(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> StoredRows:
        """Change every row when it is read."""
        decode = self.decode
        return replace(self, decode=lambda data: change(decode(data)))

    def _read(self, number: int) -> NDArray[Any]:
        data = self.file.read(self.size, number * self.size)
        if zlib.crc32(data) != self.checksums[number]:
            raise self.file.spoil()
        return self.decode(data)


class StoredSet(Mapping[str, LabelledImage]):
    """The cases of a stored set by their names; what is not stored is decoded again when it is asked for."""

    def __init__(self, folder: Path, key: StoreKey, cases: Sequence[Case]) -> None:
        """Open a folder that is sound, as `provide_store` gives it.

        Args:
            folder: The folder.
            key: What it holds.
            cases: The cases it was made of.
        """
        self.key, self.cases, self._folder = key, cases, folder
        self.facts = np.frombuffer(read_regular(folder / FACTS, FACT_BYTES), key.facts)
        # opened at once: the cache may be cleared before the last part of the cases is asked for
        self._files = {name: _File(folder / name) for name in key.row_bytes if name != FACTS}
        self._numbers = {case.stem: number for number, case in enumerate(cases)}
        self._last: LabelledImage | None = None

    def __len__(self) -> int:
        """Count the cases."""
        return len(self.cases)

    def __iter__(self) -> Iterator[str]:
        """List the names."""
        return iter(self._numbers)

    def __getitem__(self, stem: str) -> StoredImage:
        """Take a case by its name."""
        return StoredImage(self, self._numbers[stem])

    @property
    def grids(self) -> Path:
        """The folder of all stored sets."""
        return self._folder.parent

    @property
    def deep(self) -> bool:
        """Say whether an image has 16 bits, whose white must be known."""
        return bool(self.facts["deep"].any())

    @property
    def thumbnails(self) -> StoredRows:
        """The thumbnails of all cases."""
        return self._open(THUMBNAILS, lambda data: np.frombuffer(data, np.float32))

    def open_pixels(self, numbers: NDArray[np.int64]) -> StoredRows:
        """Open the pixels of some cases."""
        spec = self.key.input
        shape = spec.height, spec.width, spec.channels
        return self._open(PIXELS, lambda data: np.frombuffer(data, np.uint8).reshape(shape)).pick(numbers)

    def open_masks(self, numbers: NDArray[np.int64]) -> StoredRows:
        """Open the masks of some cases."""
        shape = self.key.input.height, self.key.input.width, len(self.key.classes)
        count = shape[0] * shape[1] * shape[2]
        return self._open(
            MASKS, lambda data: np.unpackbits(np.frombuffer(data, np.uint8), count=count).reshape(shape)
        ).pick(numbers)

    def _open(self, name: str, decode: _Decode) -> StoredRows:
        checksums = self.facts[name_checksum(name)]
        return StoredRows(self._files[name], self.key.row_bytes[name], np.arange(len(self)), decode, checksums)

    def decode(self, number: int) -> LabelledImage:
        """Read a case from its files; the last one is kept, as frame and masks are asked for one after the other."""
        last = self._last
        if last is None or last.case is not self.cases[number]:
            self._last = last = read_case(self.cases[number], self.key.input)
        return last


def open_stored(grids: Path, key: StoreKey, cases: Sequence[Case]) -> StoredSet:
    """Open a stored set; decode its cases and write it first where that was not done yet.

    Args:
        grids: The folder of all stored sets.
        key: Which set.
        cases: Its cases.
    """
    with progress_bar("Reading images", len(cases)) as advance:
        while True:
            folder = provide_store(grids, key, cases, advance)
            # somebody may clear the cache in this moment
            with contextlib.suppress(FileNotFoundError):
                return StoredSet(folder, key, cases)


class StoredImage(LabelledImage):
    """A case of a stored set: what is known of it is at hand, frame and masks are decoded when they are asked for."""

    def __init__(self, stored: StoredSet, number: int) -> None:
        """Name a case.

        Args:
            stored: The set.
            number: The case's number in it.
        """
        # the base class is frozen
        object.__setattr__(self, "stored", stored)
        object.__setattr__(self, "number", number)
        object.__setattr__(self, "case", stored.cases[number])

    stored: StoredSet
    number: int

    @property
    def frame(self) -> NDArray[Any]:
        """The image at its own size."""
        return self.stored.decode(self.number).frame

    @property
    def masks(self) -> tuple[NDArray[np.uint8], ...]:
        """One ground-truth mask per class at the frame's size."""
        return self.stored.decode(self.number).masks

    @property
    def weak(self) -> None:
        """Nothing: stored sets have full masks."""
        return

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame."""
        facts = self.stored.facts[self.number]
        return int(facts["height"]), int(facts["width"])

    @property
    def deep(self) -> bool:
        """Say whether the frame has 16 bits."""
        return bool(self.stored.facts[self.number]["deep"])

    @property
    def brightest(self) -> int:
        """The highest value in the frame."""
        return int(self.stored.facts[self.number]["brightest"])

    @property
    def marked(self) -> tuple[int, ...]:
        """Count the pixels of each class."""
        return tuple(int(count) for count in self.stored.facts[self.number]["marked"])

    @property
    def border_shares(self) -> tuple[float, ...]:
        """The share of the image's border that each class covers."""
        return tuple(float(share) for share in self.stored.facts[self.number]["border"])
