"""What names of folders and files say: images or masks, which part and patient, to which image a mask belongs."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import DataError
from edgeseg.core.limits import CASES
from edgeseg.data.annotations.labelled import PARTS
from edgeseg.frame.images import SUFFIXES

# A folder below the data folder, by the names on the way to it.
Folder = tuple[str, ...]
IMAGE, MASK, OTHER, PASSED = "image", "mask", "other", "passed over"
# Folders below folders; a data set has three or four.
DEPTH = 8
# Files of a folder that is no data folder, such as somebody's home.
ENTRIES = 4 * CASES


def _read_words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_IMAGE_WORDS = _read_words(
    "image images img imgs scan scans frame frames picture pictures photo photos input inputs original "
    "originals raw bmode"
)
_MASK_WORDS = _read_words(
    "mask masks label labels gt gts truth truths groundtruth annotation annotations annot annots anno annos "
    "seg segs segmentation segmentations labelmap labelmaps target targets"
)
# Pictures that are neither, such as masks drawn over images and the numbered objects of Pascal VOC.
_PASSED_WORDS = _read_words(
    "overlay overlays preview previews vis visualization visualizations visualisation visualisations object "
    "objects instance instances prediction predictions pred preds thumbnail thumbnails"
)
# Words that say nothing about a folder of images or masks.
_FILLERS = _read_words(
    "ground set sets data dataset folder files file all us ultrasound png jpg jpeg bmp tif tiff binary manual "
    "map maps class"
)
# What macOS and network storages leave beside images.
_SYSTEM = frozenset(("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information"))
# What findings are called as names of folders; such a folder is no patient.
FINDINGS = _read_words("benign malignant normal healthy abnormal positive negative cancer cancerous")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
_MASK_ENDING = re.compile(rf"(?i)(?P<rest>.*?)[ _.-]+(?:ground[ _-]?)?(?:{'|'.join(sorted(_MASK_WORDS))})[ _.-]?\d*")
_ROLE = re.compile(rf"(?i)(?<![^\W\d_])(?:ground[ _-]?)?(?:{'|'.join(sorted(_IMAGE_WORDS | _MASK_WORDS))})(?![^\W\d_])")
_SIGNS = re.compile(r"[ _.-]+")


def scan_images(root: Path) -> dict[Folder, list[str]]:
    """List the image files of a folder and its subfolders by name; hidden files, and those of systems, are skipped.

    Raises:
        DataError: A folder may not be read, or there are more files than any data set has.
    """
    found: dict[Folder, list[str]] = {}
    left: list[Folder] = [()]
    seen, entries = {_identify(root)}, 0
    while left:
        folder = left.pop()
        names, folders = _scan_folder(root.joinpath(*folder))
        entries += len(names) + len(folders)
        if entries > ENTRIES:
            raise DataError(f"Expected a data folder at {root}, got more than {ENTRIES} files.", "Name a subfolder.")
        if names:
            found[folder] = names
        for name in folders if len(folder) < DEPTH else ():
            # a link that leads back into the folder would be read again and again
            place = _identify(root.joinpath(*folder, name))
            if place not in seen:
                seen.add(place)
                left.append((*folder, name))
    return {folder: sorted(found[folder]) for folder in sorted(found)}


def _scan_folder(folder: Path) -> tuple[list[str], list[str]]:
    names, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in _SYSTEM:
                    continue
                if _is_folder(entry):
                    folders.append(entry.name)
                elif entry.name.lower().endswith(SUFFIXES):
                    names.append(entry.name)
    except OSError as error:
        raise DataError(
            f"Expected a readable folder at {folder}, got none: {error.strerror or error}.",
            "Allow reading it, or move it away.",
        ) from error
    return names, sorted(folders, reverse=True)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _identify(folder: Path) -> tuple[int, int]:
    try:
        state = folder.stat()
    except OSError:
        return (-1, -1)
    return state.st_dev, state.st_ino


@dataclass(frozen=True)
class Place:
    """What a folder's names say: the kind of its pictures, their part, the other folders, and words of a class."""

    kind: str = OTHER
    part: str = ""
    rest: Folder = ()
    words: tuple[str, ...] = ()


def read_place(folder: Folder) -> Place:
    """Read the names on the way to a folder; of several that name a kind, the innermost decides."""
    kind, part, words = OTHER, "", tuple[str, ...]()
    rest: list[str] = []
    for name in folder:
        tokens = split_words(name)
        kept = [word for word in tokens if word not in PARTS and word not in _FILLERS]
        kinds = [word for word in kept if word in _IMAGE_WORDS or word in _MASK_WORDS]
        parts = [PARTS[word] for word in tokens if word in PARTS]
        if _PASSED_WORDS.intersection(tokens):
            return Place(PASSED)
        if kinds and not any(word.isdigit() for word in kept):
            # of "mask images" and "image labels" these are masks
            kind = MASK if _MASK_WORDS.intersection(kinds) else IMAGE
            words = tuple(word for word in _WORD.findall(name) if word.lower() in kept and word.lower() not in kinds)
        elif not parts or kept:
            rest.append(name)
            continue
        part = part or (parts[0] if parts else "")
    return Place(kind, part, tuple(rest), words)


def split_words(name: str) -> list[str]:
    """Split a name into words: at signs, between letters and digits, and where a capital begins one."""
    return [word.lower() for word in _WORD.findall(name)]


def read_places(tree: Mapping[Folder, list[str]]) -> dict[Folder, Place]:
    """Read the names of all folders; those of overlays and the like are left out."""
    places = {folder: read_place(folder) for folder in tree}
    return {folder: place for folder, place in places.items() if place.kind != PASSED}


def find_wrapper(tree: Mapping[Folder, list[str]]) -> Folder:
    """Find the folders that hold everything and whose names say nothing: `dataset` of `dataset/images/a.png`."""
    folders = list(read_places(tree)) or [()]
    # the first and the last of sorted folders differ where any do
    common = tuple(name for name, _ in _while_equal(min(folders), max(folders)))
    plain = [read_place((name,)) == Place(rest=(name,)) for name in common]
    return common[: [*plain, False].index(False)]


def _while_equal(first: Folder, second: Folder) -> Iterator[tuple[str, str]]:
    return itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))


def list_bases(stem: str) -> Iterator[str]:
    """List the names that the image of a mask may have, the most certain first."""
    yield stem
    ending = _MASK_ENDING.fullmatch(stem)
    if ending and ending["rest"]:
        yield ending["rest"]


def is_mask_name(stem: str) -> bool:
    """Say whether a name is that of a mask beside its image: a_mask, a_seg_1, mask_a."""
    words = split_words(stem)
    return _MASK_ENDING.fullmatch(f"_{stem}") is not None or (bool(words) and words[0] in _MASK_WORDS)


def reduce_name(stem: str) -> str:
    """Reduce a name to what images and masks share: without words such as image and mask, signs and case."""
    return _SIGNS.sub("_", _ROLE.sub("", unicodedata.normalize("NFC", stem))).strip("_").casefold()
