"""Images on a network's input grid that lie on disk, for sets that do not fit into memory.

Every image is decoded once; its pixels and masks on the grid, a thumbnail and a few facts are written into a folder of
the cache (core/cache.py), whose name is a hash of the data, the preprocessing and the versions that made them:

CACHE/grids/KEY/pixels.bin      one image after the other, 8 bit
CACHE/grids/KEY/masks.bin       likewise, eight pixels in a byte
CACHE/grids/KEY/thumbnails.bin  likewise, for the search for near-duplicates
CACHE/grids/KEY/facts.bin       size, brightness, marked pixels and checksums of every image
CACHE/grids/KEY/index.json      what the folder holds, and the checksum of facts.bin
CACHE/grids/KEY/done.bin        while it is being filled: one byte for every chunk that is on the disk

Rows are read with pread, not through a memory map: the pages stay the kernel's own and count as nobody's memory, and a
damaged disk or a file that was cut off is an error in one sentence instead of the end of the process (SIGBUS).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import sleep
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

import edgeseg
from edgeseg.core.cache import touch_entry
from edgeseg.core.errors import DataError, FolderBusyError, LimitError, OutputError, RunError
from edgeseg.core.files import DISK_FULL, explained_writes, partial_path, staged_folder, write_json
from edgeseg.core.limits import TABLE_BYTES, digest_regular, read_regular
from edgeseg.core.marks import read_mark, remove_folder
from edgeseg.core.parallel import map_ahead
from edgeseg.core.progress import Advance, ignore
from edgeseg.core.schema import to_plain
from edgeseg.core.spec import InputSpec
from edgeseg.data.dataset import Dataset, LabelledImage, read_case
from edgeseg.data.duplicates import SIDE, make_thumbnail
from edgeseg.data.reading import Case
from edgeseg.frame.preprocess import frame_to_grid, mask_to_grid

# Raised whenever what is stored, or how, changes.
VERSION = 1
INDEX, FACTS, PIXELS, MASKS, THUMBNAILS, DONE = (
    "index.json",
    "facts.bin",
    "pixels.bin",
    "masks.bin",
    "thumbnails.bin",
    "done.bin",
)
# Images after which what was written is put on the disk and noted: as many are decoded again after an interruption.
CHUNK = 256
# Images whose arrays are in memory at once, where all of them are looked at.
BLOCK = 256
# The white of 16 bits that nobody has chosen.
FULL_WHITE = 65535
# Of the facts file, which is read whole: a million images of 127 classes have 2 GB.
_FACT_BYTES = 2**32
_WAITING_SECONDS = 0.5
_CLEAR = "Remove it with: edgeseg data cache --clear. It is made again from the images."
_LOG = logging.getLogger(__name__)
_Decode = Callable[[bytes | bytearray], NDArray[Any]]


@dataclass(frozen=True)
class StoreKey:
    """What the content of a stored set follows from."""

    fingerprint: str
    """Of all images and masks."""
    layout: str
    """How the folder was read."""
    stems: str
    """Hash of the cases' names in their order."""
    classes: tuple[str, ...]
    input: InputSpec
    grids: bool = True
    """Whether pixels and masks are stored; facts and thumbnails always are."""

    @property
    def name(self) -> str:
        """Name the folder."""
        table = {**to_plain(self), "version": VERSION, "edgeseg": edgeseg.__version__, "opencv": cv2.__version__}
        return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def facts(self) -> np.dtype[Any]:
        """The type of a row of facts."""
        classes = (len(self.classes),)
        return np.dtype(
            [
                ("height", "<i4"),
                ("width", "<i4"),
                ("deep", "?"),
                ("brightest", "<u2"),
                ("marked", "<i8", classes),
                ("border", "<f8", classes),
                ("shown", "?", classes),
                ("pixels", "<u4"),
                ("masks", "<u4"),
            ]
        )

    @property
    def row_bytes(self) -> dict[str, int]:
        """The bytes of one image in every file."""
        spec = self.input
        rows = {FACTS: self.facts.itemsize, THUMBNAILS: 4 * SIDE * SIDE * spec.channels}
        if self.grids:
            area = spec.height * spec.width
            rows |= {PIXELS: area * spec.channels, MASKS: -(-area * len(self.classes) // 8)}
        return rows

    def on_grid(self, spec: InputSpec, deep: bool) -> StoreKey:
        """Describe the same images on a grid.

        Args:
            spec: The network's input.
            deep: Whether there are images of 16 bits; otherwise white changes nothing.
        """
        # the filter runs after the augmentation, on pixels that are not stored
        plain = dataclasses.replace(spec, denoise="none", white=spec.white if deep else FULL_WHITE)
        return dataclasses.replace(self, input=plain, grids=True)


def describe_key(dataset: Dataset, fingerprint: str, layout: str, spec: InputSpec) -> StoreKey:
    """Describe what a stored set of a dataset would hold without pixels and masks, for which white must be known.

    Args:
        dataset: The dataset, with its classes in the order of a model.
        fingerprint: Of all images and masks.
        layout: The layout as it was given, with its options.
        spec: The network's input.
    """
    names = hashlib.sha256("\0".join(case.stem for case in dataset.cases).encode("utf-8", "surrogateescape"))
    classes = tuple(one.name for one in dataset.classes)
    plain = dataclasses.replace(spec, denoise="none", white=FULL_WHITE)
    return StoreKey(fingerprint, f"{dataset.layout} {layout}", names.hexdigest(), classes, plain, grids=False)


@dataclass(frozen=True)
class _Row:
    """What is stored of one image: its bytes in every file."""

    number: int
    data: Mapping[str, bytes]


def make_row(key: StoreKey, number: int, image: LabelledImage) -> _Row:
    """Bring an image onto the grid, and describe it."""
    spec, facts = key.input, np.zeros((), key.facts)
    data = {}
    if key.grids:
        masks = np.stack([mask_to_grid(mask, spec) for mask in image.masks], axis=-1)
        data = {PIXELS: frame_to_grid(image.frame, spec).tobytes(), MASKS: np.packbits(masks).tobytes()}
        facts["pixels"], facts["masks"] = (zlib.crc32(data[name]) for name in (PIXELS, MASKS))
        facts["shown"] = masks.any(axis=(0, 1))
    facts["height"], facts["width"] = image.size
    facts["deep"], facts["brightest"] = image.deep, image.brightest
    facts["marked"], facts["border"] = image.marked, image.border_shares
    data |= {FACTS: facts.tobytes(), THUMBNAILS: make_thumbnail(image.frame).tobytes()}
    for name, size in key.row_bytes.items():
        if len(data[name]) != size:
            raise DataError(
                f"Expected images of one kind, got {image.case.stem} with another number of channels.",
                "Save all images in grey or all in colour.",
            )
    return _Row(number, data)


def fill_store(folder: Path, key: StoreKey, cases: Sequence[Case], advance: Advance = ignore) -> None:
    """Decode cases and write them into a folder; what an interrupted call has written there stays.

    Args:
        folder: The folder.
        key: What is to be written.
        cases: All cases.
        advance: Called for every case, with nothing that names it.
    """
    chunks = -(-len(cases) // CHUNK)
    with ExitStack() as stack:
        files = {name: stack.enter_context(_open_private(folder / name)) for name in (*key.row_bytes, DONE)}
        done = _prepare(files, key, len(cases), chunks)
        missing = [number for number in range(len(cases)) if not done[number // CHUNK]]
        for _ in range(len(cases) - len(missing)):
            advance("")
        for row in map_ahead(lambda number: make_row(key, number, read_case(cases[number], key.input)), missing):
            for name, data in row.data.items():
                _write_at(files[name], row.number * len(data), data)
            if (row.number + 1) % CHUNK == 0 or row.number + 1 == len(cases):
                for name in key.row_bytes:
                    os.fdatasync(files[name].fileno())
                # after the data: what is noted is on the disk
                _write_at(files[DONE], row.number // CHUNK, b"\1")
            advance("")
    (folder / DONE).unlink()
    write_json(folder / INDEX, _describe_content(folder, key, len(cases)))


@contextmanager
def _open_private(path: Path) -> Iterator[BinaryIO]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "r+b", buffering=0) as file:
        yield file


def _prepare(files: Mapping[str, BinaryIO], key: StoreKey, count: int, chunks: int) -> bytes:
    """Give files their size, and read which chunks an interrupted call has written."""
    sizes = {**{name: count * size for name, size in key.row_bytes.items()}, DONE: chunks}
    fits = all(os.fstat(files[name].fileno()).st_size == size for name, size in sizes.items())
    for name, size in sizes.items():
        if not fits:
            os.ftruncate(files[name].fileno(), 0)
        os.ftruncate(files[name].fileno(), size)
    return os.pread(files[DONE].fileno(), chunks, 0)


def _write_at(file: BinaryIO, offset: int, data: bytes) -> None:
    while data:
        written = os.pwrite(file.fileno(), data, offset)
        offset, data = offset + written, data[written:]


def _describe_content(folder: Path, key: StoreKey, count: int) -> dict[str, Any]:
    return {
        "key": key.name,
        "images": count,
        "facts_sha256": digest_regular(folder / FACTS, _FACT_BYTES).hex(),
        "bytes": {name: count * size for name, size in key.row_bytes.items()},
    }


def is_sound(folder: Path, key: StoreKey, count: int) -> bool:
    """Say whether a folder holds a whole stored set as edgeseg wrote it."""
    mark = read_mark(folder)
    if folder.is_symlink() or mark is None or not mark.whole or folder.stat().st_uid != os.geteuid():
        return False
    try:
        found = json.loads(read_regular(folder / INDEX, TABLE_BYTES))
        sizes = {name: (folder / name).lstat().st_size for name in key.row_bytes}
        return bool(found == _describe_content(folder, key, count) and sizes == found["bytes"])
    except (OSError, ValueError, LimitError):
        return False


def provide_store(grids: Path, key: StoreKey, cases: Sequence[Case], advance: Advance = ignore) -> StoredSet:
    """Open a stored set, or write it first; while another process writes it, wait.

    Args:
        grids: The folder of all stored sets.
        key: Which set.
        cases: Its cases.
        advance: Called for every case.
    """
    folder, waited = grids / key.name, False
    while not is_sound(folder, key, len(cases)):
        _remove_damaged(folder)
        try:
            _refuse_full_disk(grids, folder, key, len(cases))
            with _explained(folder), staged_folder(folder, keep_partial=True, go_on=True) as partial:
                partial.chmod(0o700)
                fill_store(partial, key, cases, advance)
        except FolderBusyError:
            if not waited:
                _LOG.info("Another edgeseg is reading the same images; waiting for it.")
            waited = True
            sleep(_WAITING_SECONDS)
        except (OutputError, RunError):
            # another process may have finished it in this moment
            if not is_sound(folder, key, len(cases)):
                raise
    touch_entry(folder)
    return StoredSet(folder, key, tuple(cases))


def _remove_damaged(folder: Path) -> None:
    if os.path.lexists(folder):
        _LOG.warning("Stored images in %s are damaged, and are made again.", folder)
        with explained_writes(folder):
            remove_folder(folder)


def _refuse_full_disk(grids: Path, folder: Path, key: StoreKey, count: int) -> None:
    state = os.statvfs(grids)
    needed = count * sum(key.row_bytes.values())
    partial = partial_path(folder)
    if partial.is_dir():
        needed -= sum(file.lstat().st_blocks * 512 for file in partial.iterdir())
    free = state.f_bavail * state.f_frsize
    if needed > free:
        raise OutputError(
            f"Expected {needed / 2**20:,.0f} MB of free disk for {count} images on the network's grid in {grids}, got "
            f"{free / 2**20:,.0f} MB.",
            "Clear the cache with edgeseg data cache --clear, or move it with EDGESEG_CACHE=DIR.",
        )


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise OutputError(
            f"Writing stored images to {folder.parent} failed: {error.strerror}.",
            "Make room, or move the cache with EDGESEG_CACHE=DIR; the next call goes on where this one stopped.",
        ) from error


class StoredRows:
    """Rows of equal size in a file, some of them in an order of their own; they are read when they are asked for."""

    def __init__(
        self,
        path: Path,
        size: int,
        numbers: NDArray[np.int64],
        decode: _Decode,
        checksums: NDArray[np.uint32] | None = None,
    ) -> None:
        """Open the file.

        Args:
            path: The file.
            size: Bytes of a row.
            numbers: The rows.
            decode: Makes an array of a row's bytes.
            checksums: CRC-32 of every row of the file.
        """
        self._file = _share(path)
        self._path, self._size, self._numbers, self._decode, self._checksums = path, size, numbers, decode, checksums

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._numbers)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of all rows together."""
        return (len(self), *self._decode(bytes(self._size)).shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read one row by its number, or several by a slice or an array of numbers."""
        chosen = self._numbers[key]
        if np.ndim(chosen) == 0:
            return self._read(int(chosen))
        rows = [self._read(int(number)) for number in chosen]
        return np.stack(rows) if rows else np.zeros((0, *self.shape[1:]), self._decode(bytes(self._size)).dtype)

    def pick(self, numbers: Any) -> StoredRows:
        """Choose rows, without reading them."""
        return StoredRows(self._path, self._size, self._numbers[numbers], self._decode, self._checksums)

    def then(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> StoredRows:
        """Change every row when it is read."""
        decode = self._decode
        return StoredRows(self._path, self._size, self._numbers, lambda data: change(decode(data)), self._checksums)

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Read all rows, some at a time."""
        for start in range(0, len(self), BLOCK):
            yield self[start : start + BLOCK]

    def _read(self, number: int) -> NDArray[Any]:
        try:
            data = os.pread(self._file.fileno(), self._size, number * self._size)
        except OSError as error:
            raise DataError(
                f"Reading stored images in {self._path.parent} failed: {error.strerror}.", _CLEAR
            ) from error
        if len(data) < self._size or (self._checksums is not None and zlib.crc32(data) != self._checksums[number]):
            raise DataError(f"Expected stored images in {self._path.parent} as they were written, got others.", _CLEAR)
        return self._decode(data)


def _share(path: Path) -> BinaryIO:
    # kept open: what is removed from the cache stays readable for those who use it
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb", buffering=0)


class StoredSet(Mapping[str, LabelledImage]):
    """The cases of a stored set by their names; what is not stored is decoded again when it is asked for."""

    def __init__(self, folder: Path, key: StoreKey, cases: Sequence[Case]) -> None:
        """Open a folder that is sound.

        Args:
            folder: The folder.
            key: What it holds.
            cases: The cases it was made of.
        """
        self.key, self.cases, self._folder = key, cases, folder
        self.facts = np.frombuffer(read_regular(folder / FACTS, _FACT_BYTES), key.facts)
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
        return self._open(PIXELS, lambda data: np.frombuffer(data, np.uint8).reshape(shape), "pixels").pick(numbers)

    def open_masks(self, numbers: NDArray[np.int64]) -> StoredRows:
        """Open the masks of some cases."""
        shape = self.key.input.height, self.key.input.width, len(self.key.classes)
        count = shape[0] * shape[1] * shape[2]
        return self._open(
            MASKS, lambda data: np.unpackbits(np.frombuffer(data, np.uint8), count=count).reshape(shape), "masks"
        ).pick(numbers)

    def _open(self, name: str, decode: _Decode, checksums: str | None = None) -> StoredRows:
        known = None if checksums is None else self.facts[checksums]
        return StoredRows(self._folder / name, self.key.row_bytes[name], np.arange(len(self)), decode, known)

    def decode(self, number: int) -> LabelledImage:
        """Read a case from its files; the last one is kept, as frame and masks are asked for one after the other."""
        last = self._last
        if last is None or last.case is not self.cases[number]:
            self._last = last = read_case(self.cases[number], self.key.input)
        return last


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
