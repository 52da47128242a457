"""Images on a network's input grid that lie on disk, for sets that do not fit into memory.

Every image is decoded once; its pixels and masks on the grid, a thumbnail and a few facts are written into a folder of
the cache (core/cache.py), whose name is a hash of the data, the preprocessing and the versions that made them:

CACHE/grids/KEY/pixels.bin      one image after the other, 8 bit
CACHE/grids/KEY/masks.bin       likewise, eight pixels in a byte
CACHE/grids/KEY/thumbnails.bin  likewise, for the search for near-duplicates
CACHE/grids/KEY/facts.bin       size, brightness, marked pixels and checksums of every image
CACHE/grids/KEY/index.json      what the folder holds, and the checksum of facts.bin
CACHE/grids/KEY/done.bin        while it is being filled: one byte for every chunk that is on the disk
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, BinaryIO

import cv2
import numpy as np

import edgeseg
from edgeseg.core.cache import touch_entry
from edgeseg.core.errors import DataError, FolderBusyError, LimitError, OutputError, RunError
from edgeseg.core.files import DISK_FULL, explained_writes, partial_path, staged_folder, write_json
from edgeseg.core.limits import digest_regular
from edgeseg.core.marks import held_folder, read_mark, refuse_foreign, remove_folder
from edgeseg.core.parallel import map_ahead
from edgeseg.core.progress import Advance, ignore
from edgeseg.core.schema import read_json_table, to_plain
from edgeseg.core.spec import InputSpec
from edgeseg.data.dataset import Dataset, LabelledImage, read_case
from edgeseg.data.duplicates import SIDE, make_thumbnail
from edgeseg.data.reading import Case
from edgeseg.frame.preprocess import frame_to_grid, mask_to_grid

# Raised whenever what is stored, or how, changes.
VERSION = 2
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
# The white of 16 bits that nobody has chosen.
FULL_WHITE = 65535
# Of the facts file, which is read whole: a million images of 127 classes have 2 GB.
FACT_BYTES = 2**32
_WAITING_SECONDS = 0.5
_LOG = logging.getLogger(__name__)


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
                ("thumbnails", "<u4"),
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


def name_checksum(name: str) -> str:
    """Name the fact that is the checksum of a file's row."""
    return name.removesuffix(".bin")


def make_row(key: StoreKey, number: int, image: LabelledImage) -> _Row:
    """Bring an image onto the grid, and describe it."""
    spec, facts = key.input, np.zeros((), key.facts)
    data = {THUMBNAILS: make_thumbnail(image.frame).tobytes()}
    if key.grids:
        masks = np.stack([mask_to_grid(mask, spec) for mask in image.masks], axis=-1)
        data |= {PIXELS: frame_to_grid(image.frame, spec).tobytes(), MASKS: np.packbits(masks).tobytes()}
        facts["shown"] = masks.any(axis=(0, 1))
    facts["height"], facts["width"] = image.size
    facts["deep"], facts["brightest"] = image.deep, image.brightest
    facts["marked"], facts["border"] = image.marked, image.border_shares
    for name, row in data.items():
        facts[name_checksum(name)] = zlib.crc32(row)
    data[FACTS] = facts.tobytes()
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
        "facts_sha256": digest_regular(folder / FACTS, FACT_BYTES).hex(),
        "bytes": {name: count * size for name, size in key.row_bytes.items()},
    }


def is_sound(folder: Path, key: StoreKey, count: int) -> bool:
    """Say whether a folder holds a whole stored set as edgeseg wrote it."""
    mark = read_mark(folder)
    if folder.is_symlink() or mark is None or not mark.whole or folder.stat().st_uid != os.geteuid():
        return False
    try:
        found = read_json_table(folder / INDEX)
        sizes = {name: (folder / name).lstat().st_size for name in key.row_bytes}
        return bool(found == _describe_content(folder, key, count) and sizes == found["bytes"])
    except (OSError, ValueError, LimitError):
        return False


def provide_store(grids: Path, key: StoreKey, cases: Sequence[Case], advance: Advance = ignore) -> Path:
    """Find the folder of a stored set, or write it first; while another process writes it, wait.

    Args:
        grids: The folder of all stored sets.
        key: Which set.
        cases: Its cases.
        advance: Called for every case.
    """
    folder, waited = grids / key.name, False
    while not is_sound(folder, key, len(cases)):
        _remove_damaged(folder, key, len(cases))
        try:
            _refuse_others(partial_path(folder))
            _refuse_full_disk(grids, folder, key, len(cases))
            with staged_folder(folder, keep_partial=True, go_on=True) as partial, _explained(folder):
                partial.chmod(0o700)
                fill_store(partial, key, cases, advance)
        except FolderBusyError:
            if not waited:
                _LOG.info("Another edgeseg is reading the same images; waiting for it.")
            waited = True
            sleep(_WAITING_SECONDS)
        except (OutputError, RunError):
            # another process may have finished it in this moment; what was written beside it is not needed then
            if not is_sound(folder, key, len(cases)):
                raise
            _drop_partial(folder)
    touch_entry(folder)
    return folder


def _drop_partial(folder: Path) -> None:
    partial = partial_path(folder)
    # whoever works there, or removes it now, comes to the same end
    with contextlib.suppress(FolderBusyError, FileNotFoundError), held_folder(partial):
        remove_folder(partial)


def _remove_damaged(folder: Path, key: StoreKey, count: int) -> None:
    # looked at again: another process may have moved a whole one there since
    if os.path.lexists(folder) and not is_sound(folder, key, count):
        _refuse_others(folder)
        _LOG.warning("Stored images in %s are damaged, and are made again.", folder)
        with explained_writes(folder):
            remove_folder(folder)


def _refuse_others(folder: Path) -> None:
    """Refuse what is not edgeseg's in the place of a folder.

    Raises:
        OutputError: Somebody else's file or folder is there.
        FolderBusyError: Another process works there, and may not have marked it yet.
    """
    hint = "Move it away, or the cache with EDGESEG_CACHE=DIR."
    # moved away by another process at any moment, or begun and not marked yet
    with contextlib.suppress(FileNotFoundError):
        try:
            if os.path.lexists(folder):
                refuse_foreign(folder, hint)
        except OutputError:
            if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
                raise
            # looked at again while nobody else may write
            with held_folder(folder):
                if any(folder.iterdir()):
                    refuse_foreign(folder, hint)


def _refuse_full_disk(grids: Path, folder: Path, key: StoreKey, count: int) -> None:
    state = os.statvfs(grids)
    needed = count * sum(key.row_bytes.values())
    partial = partial_path(folder)
    # another process may move it away meanwhile
    with contextlib.suppress(OSError):
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
