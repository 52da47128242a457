"""General layouts: folders of images and masks of the same names, label maps, and NumPy arrays."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import tokenize
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.limits import CASES, CLASSES, MAPPED_BYTES, check_pixels, check_regular
from edgeseg.core.redact import is_printable
from edgeseg.core.schema import parse_json
from edgeseg.core.spec import MODALITIES, SCRIBBLES
from edgeseg.data.coding import ValueSurvey, find_coding
from edgeseg.data.defects import DefectError, missing_images, missing_modalities, stray_labels, wrong_size
from edgeseg.data.layouts.base import (
    UNNAMED_CLASS,
    Found,
    NamedFiles,
    compare_names,
    index_by_stem,
    list_folder,
    mask_folders,
    match_names,
    number_classes,
    pair_files,
)
from edgeseg.data.layouts.paired import code_cases
from edgeseg.data.reading import (
    GIVEN_PARTS,
    Case,
    Mask,
    Reading,
    binary_mask,
    find_values,
    read_modalities,
    to_channels,
)
from edgeseg.data.weak_labels import UNLABELLED, WeakLabels, take_label_map
from edgeseg.frame.images import as_data_error, holds_images, list_images, read_bytes, read_image, to_frame

FIRST = "images"
# In this file, the names of the modalities in the order of their folders.
NAMES = "modalities.json"
# What NumPy raises on a damaged header, which it parses as a Python literal.
_HEADER_ERRORS = (
    ValueError,
    EOFError,
    OSError,
    SyntaxError,
    TypeError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
)
# Masks that are read to recognise the layout.
_PEEKED = 8
_SAVE_AGAIN = "Save the array again with numpy.save."
_NAMES_HINT = 'For example {"modalities": ["bmode", "doppler"]}: first for images/, then for images_*/ by name.'


class PlainLayout:
    """images/NAME.png and masks/NAME.png; several classes in masks_CLASS/, further modalities in images_MODALITY/."""

    name = "plain"
    expects = "images/NAME.png and masks/NAME.png (several classes: masks_CLASS/NAME.png)"

    def fits(self, root: Path) -> bool:
        """Look for images/ and masks/, whose first masks have one class each."""
        if not holds_images(root / FIRST):
            return False
        folders = mask_folders(root)
        if len(folders) != 1:
            return bool(folders)
        masks = list_images(folders[0])
        return not _hold_classes(masks) if masks else not any(path.is_dir() for path in folders[0].iterdir())

    def find(self, root: Path) -> Found:
        """Pair images with masks by name; every image is a group of its own."""
        images = index_by_stem(root / FIRST, list_folder(root, FIRST))
        further = [path for path in sorted(root.glob(f"{FIRST}_*")) if path.is_dir()]
        if further:
            return join_modalities(root, images, further)
        if holds_images(root / SCRIBBLES):
            return add_scribbles(root, images)
        return pair_files(root, images)


def add_scribbles(root: Path, images: NamedFiles) -> Found:
    """Pair images with masks, and those without a mask with the label map of the same name in scribbles/."""
    folder = root / SCRIBBLES
    drawn = index_by_stem(folder, list_images(folder))
    masked = {path.stem for one in mask_folders(root) for path in list_images(one)}
    weak = {stem: path for stem, path in drawn.files.items() if stem not in masked}
    full = NamedFiles({stem: path for stem, path in images.files.items() if stem not in weak}, images.defects)
    found = pair_files(root, full)
    classes = len(found.classes)
    cases = tuple(
        Case(
            stem,
            images.files[stem],
            (path,),
            stem,
            read=partial(_read_scribbles, classes=classes),
            labels=SCRIBBLES,
            read_weak=partial(_read_unlabelled, classes=classes),
        )
        for stem, path in weak.items()
        if stem in images.files
    )
    orphans = sorted(set(weak) - set(images.files))
    defects = (*drawn.defects, *((missing_images(folder, orphans),) if orphans else ()))
    everything = sorted((*found.cases, *cases), key=lambda case: case.stem)
    return dataclasses.replace(found, cases=tuple(everything), defects=(*found.defects, *defects))


def _read_map(path: Path, size: tuple[int, int], classes: int) -> tuple[tuple[Mask, ...], WeakLabels]:
    labels = read_image(path)
    if labels.shape != size:
        raise wrong_size(str(path), size, labels.shape)
    stray = [value for value in find_values(labels) if classes < value != UNLABELLED]
    if stray:
        raise stray_labels(str(path), sorted(stray), f"{classes}, or {UNLABELLED} where nothing is known,")
    return take_label_map(labels, classes)


def _read_scribbles(case: Case, colour: bool, classes: int) -> Reading:
    frame = read_image(case.image, colour)
    return frame, _read_map(case.masks[0], (frame.shape[0], frame.shape[1]), classes)[0]


def _read_unlabelled(case: Case, size: tuple[int, int], classes: int) -> WeakLabels:
    return _read_map(case.masks[0], size, classes)[1]


def _hold_classes(masks: list[Path]) -> bool:
    """Say whether some of the masks hold several classes, which is another layout."""
    survey = ValueSurvey()
    for path in masks[:: len(masks) // _PEEKED + 1]:
        with contextlib.suppress(DataError):  # a damaged mask is named when all are read
            survey.add(path)
    if survey.most < 2:
        return False
    try:
        return find_coding(survey, Path()).classes > 1
    except DefectError:
        return False


def join_modalities(root: Path, images: NamedFiles, further: list[Path]) -> Found:
    """Join the images of the same name in several folders into one frame, each a channel."""
    if len(further) + 1 > MODALITIES:
        raise DataError(
            f"Expected at most {MODALITIES} folders of images in {root}, got {len(further) + 1}: {FIRST}, "
            f"{', '.join(path.name for path in further)}.",
            "Take a folder away: each is a modality, and the network's input has a channel for each.",
        )
    named = [index_by_stem(folder, list_images(folder)) for folder in further]
    complete = set(images.files).intersection(*(one.files for one in named))
    found = pair_files(root, images)
    names = read_names(root / NAMES, tuple(path.name.removeprefix(f"{FIRST}_") for path in (root / FIRST, *further)))
    cases = tuple(
        dataclasses.replace(
            case, others=tuple(one.files[case.stem] for one in named), modalities=names, read=read_modalities
        )
        for case in found.cases
        if case.stem in complete
    )
    return Found(cases, found.classes, (*found.defects, *_list_gaps([images, *named], [root / FIRST, *further])))


def read_names(path: Path, folders: tuple[str, ...]) -> tuple[str, ...]:
    """Read the names of the modalities, in the order of their folders; without the file these are the folders'."""
    if not os.path.lexists(path):
        return folders
    try:
        table = parse_json(read_bytes(path).decode("utf-8"))
    except ValueError as error:
        raise DataError(f"Expected a list of names in {path}, got another file: {error}.", _NAMES_HINT) from error
    names = table.get("modalities") if isinstance(table, dict) else None
    whole = isinstance(names, list) and all(isinstance(name, str) and is_printable(name) for name in names)
    if not isinstance(names, list) or not whole or len(names) != len(folders) or len({*names}) < len(names):
        raise DataError(
            f"Expected {len(folders)} different names in {path}, one for each of {', '.join(folders)}, got others.",
            _NAMES_HINT,
        )
    return tuple(names)


def _list_gaps(named: list[NamedFiles], folders: list[Path]) -> list[DefectError]:
    stems = set().union(*(one.files for one in named))
    gaps = [(folder, sorted(stems - set(one.files))) for folder, one in zip(folders, named, strict=True)]
    own = [defect for one in named[1:] for defect in one.defects]
    return own + [missing_modalities(folder, missing) for folder, missing in gaps if missing]


class LabelMapLayout:
    """images/NAME.png and labels/NAME.png with 0 for background and 1 to K for the classes."""

    name = "labelmap"
    expects = "images/NAME.png and labels/NAME.png (0 for background, 1 to K for the classes)"

    def fits(self, root: Path) -> bool:
        """Look for images/ and labels/."""
        return all(holds_images(root / name) for name in ("images", "labels"))

    def find(self, root: Path) -> Found:
        """Pair images with label maps; all maps are read once to find the classes."""
        folder = root / "labels"
        images = index_by_stem(root / "images", list_folder(root, "images"))
        labels = match_names(index_by_stem(folder, list_folder(root, "labels")), images)
        paired = [Case(s, p, (labels.files[s],), s) for s, p in images.files.items() if s in labels.files]
        found = code_cases(paired, folder, number_classes(1)[0], numbered=True)
        defects = (*images.defects, *labels.defects, *compare_names(images.files, labels.files, folder))
        return dataclasses.replace(found, defects=(*defects, *found.defects))


class ArraysLayout:
    """train_images.npy and train_masks.npy; val_ and test_ where they were given."""

    name = "arrays"
    expects = "train_images.npy (n, height, width[, channels]) and train_masks.npy; also val_ and test_, kept as parts"

    def fits(self, root: Path) -> bool:
        """Look for an array of images."""
        return any(os.path.lexists(root / f"{part}_images.npy") for part in GIVEN_PARTS)

    def find(self, root: Path) -> Found:
        """Number the images of each part; given parts are kept, and a lone train_ is divided like any other data."""
        parts = [part for part in GIVEN_PARTS if os.path.lexists(root / f"{part}_images.npy")]
        found = [_find_part(root, part, part if len(parts) > 1 else "") for part in parts]
        classes = found[0].classes if found else ()
        if any(part.classes != classes for part in found):
            raise DataError(f"Expected masks of the same classes in all parts of {root}, got others.", _SAVE_AGAIN)
        cases = tuple(case for part in found for case in part.cases)
        return Found(cases, classes, tuple(defect for part in found for defect in part.defects))


def read_slice(case: Case, colour: bool, number: int) -> Reading:
    """Read one image of an array, and its masks; three channels are taken as RGB."""
    source = f"{case.image}, image {number}"
    # opened for every image: a memory map costs little, and no file stays open between them
    frame = to_channels(to_frame(_open(case.image)[number], source), colour, source)
    masks = np.atleast_3d(_open(case.masks[0])[number])
    where = f"{case.masks[0]}, mask {number}"
    return frame, tuple(binary_mask(masks[:, :, k], frame, where) for k in range(masks.shape[2]))


def _find_part(root: Path, part: str, given: str) -> Found:
    images, masks = (root / f"{part}_{kind}.npy" for kind in ("images", "masks"))
    shape = _open(masks).shape
    counts = len(_open(images)), shape[0]
    stems = [f"{part}_{number:05d}" for number in range(max(counts))]
    cases = tuple(
        Case(stem, images, (masks,), stem, part=given, read=partial(read_slice, number=number))
        for number, stem in enumerate(stems[: min(counts)])
    )
    channels = shape[3] if len(shape) == 4 else 1
    classes = number_classes(channels) if channels > 1 else (UNNAMED_CLASS,)
    return Found(cases, classes, compare_names(stems[: counts[0]], stems[: counts[1]], masks))


def _open(path: Path) -> NDArray[Any]:
    """Memory-map an array, so that one image is read without the others."""
    dtype, shape, fortran, start = _read_array_header(path)
    if len(shape) not in (3, 4):
        raise DataError(f"Expected an array (n, height, width[, channels]) in {path}, got {shape}.", _SAVE_AGAIN)
    as_data_error(check_pixels, path, shape[2], shape[1])
    if not (0 < shape[0] <= CASES and 0 < math.prod(shape[3:]) <= CLASSES):
        raise DataError(
            f"Expected 1 to {CASES} images of at most {CLASSES} channels in {path}, got the shape {shape}.", _SAVE_AGAIN
        )
    found = path.stat().st_size - start
    if found < math.prod(shape) * dtype.itemsize:
        raise DataError(f"Expected the whole array {dtype} {shape} in {path}, got {found} bytes.", _SAVE_AGAIN)
    order: Literal["F", "C"] = "F" if fortran else "C"
    return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape, order=order)


def _read_array_header(path: Path) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    """Read type, shape, Fortran order and data offset from an .npy header; nothing is allocated."""
    if not os.path.lexists(path):
        raise DataError(f"Expected an array at {path}, got none.", "Save the masks beside the images.")
    as_data_error(check_regular, path, MAPPED_BYTES)
    try:
        with path.open("rb") as file:
            major, _ = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            start = file.tell()
    except _HEADER_ERRORS as error:
        raise DataError(f"Expected an array of numbers, got the unreadable file {path}.", _SAVE_AGAIN) from error
    if dtype.kind not in "buif":
        raise DataError(f"Expected an array of numbers, got {dtype} in {path}.", _SAVE_AGAIN)
    return dtype, shape, fortran, start
