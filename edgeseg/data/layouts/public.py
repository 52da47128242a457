"""Layouts of public ultrasound data sets as published: BUSI, HC18, Kaggle's nerves and CAMUS."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import cv2
import numpy as np

from edgeseg.core.errors import DataError
from edgeseg.data.defects import repeated_names
from edgeseg.data.groups import Row, read_length, read_table
from edgeseg.data.layouts.base import Found, collect_cases, compare_names, index_by_stem, list_folder
from edgeseg.data.reading import (
    CIRCUMFERENCE_MM,
    PIXEL_MM,
    Case,
    Mask,
    Reading,
    read_mask,
    split_labels,
    to_channels,
)
from edgeseg.data.volumes import find_raw, read_pixel_size, read_volume
from edgeseg.frame.images import list_images, read_image, to_frame

# Pixel size and head circumference in millimetres; None where the cell is empty.
Sizes = tuple[float | None, float | None]

# https://doi.org/10.1016/j.dib.2019.104863: 780 breast images; _mask_1 marks a second lesion of an image.
_BUSI_FINDINGS = ("benign", "malignant", "normal")
_BUSI_IMAGE = re.compile(r"^(?:benign|malignant|normal) \(\d+\)$")
_BUSI_MASK = re.compile(r"^((?:benign|malignant|normal) \(\d+\))_mask(?:_\d+)?$")

# https://doi.org/10.5281/zenodo.1322001: 999 fetal heads; 010_HC, 010_2HC, ... are images of one exam.
_HC18_FOLDER = "training_set"
_HC18_TABLE = "training_set_pixel_size_and_HC.csv"
_HC18_PIXEL_SIZE, _HC18_CIRCUMFERENCE = "pixel size(mm)", "head circumference (mm)"
_HC18_IMAGE = re.compile(r"^(\d+)_\d*HC$")
_HC18_OUTLINE = "_Annotation"
# A closed outline fills about its convex hull, an open one little more than its own line.
_HC18_CLOSED_SHARE = 0.9

# Kaggle 2016: the brachial plexus; S_N is image N of subject S.
_NERVE_IMAGE = re.compile(r"^(\d+)_\d+$")
_NERVE_MASK = "_mask"

# https://doi.org/10.1109/TMI.2019.2900516: two and four chamber views at end diastole and end systole.
_CAMUS_FILE = re.compile(r"^(patient\d+)_(2CH|4CH)_(ED|ES)(_gt)?\.(nii\.gz|nii|mhd)$")
# In the order of the label values 1 to 3.
_CAMUS_CLASSES = ("ventricle", "myocardium", "atrium")


class BusiLayout:
    """Folders benign, malignant and normal; `benign (1).png`, `benign (1)_mask.png`, `benign (1)_mask_1.png`."""

    name = "busi"
    expects = "BUSI as published: benign/benign (1).png, benign/benign (1)_mask.png, ..._mask_1.png; malignant; normal"

    def fits(self, root: Path) -> bool:
        """Look for an image named as BUSI names them."""
        return any(_BUSI_IMAGE.match(path.stem) for path in _list_busi(root))

    def find(self, root: Path) -> Found:
        """Collect the masks of each image; patients are not published, so every image is a group of its own."""
        named = index_by_stem(root, _list_busi(root))
        files = named.files.values()
        images = {path.stem: path for path in files if _BUSI_IMAGE.match(path.stem)}
        masks: dict[str, list[Path]] = {}
        for path in files:
            found = _BUSI_MASK.match(path.stem)
            if found:
                masks.setdefault(found.group(1), []).append(path)
        cases = tuple(
            Case(s, p, tuple(masks[s]), s, label=p.parent.name, read=read_merged)
            for s, p in images.items()
            if s in masks
        )
        return Found(cases, ("lesion",), (*named.defects, *compare_names(images, masks, root)))


def read_merged(case: Case, colour: bool) -> Reading:
    """Read an image and merge its masks."""
    frame = read_image(case.image, colour)
    return frame, (np.maximum.reduce([read_mask(path, frame) for path in case.masks]),)


def _list_busi(root: Path) -> list[Path]:
    return [path for name in _BUSI_FINDINGS if (root / name).is_dir() for path in list_images(root / name)]


class Hc18Layout:
    """training_set/000_HC.png with 000_HC_Annotation.png, and the table of pixel sizes."""

    name = "hc18"
    expects = f"HC18 as published: {_HC18_FOLDER}/000_HC.png and 000_HC_Annotation.png, {_HC18_TABLE}"

    def fits(self, root: Path) -> bool:
        """Look for an image named as HC18 names them."""
        return (root / _HC18_FOLDER).is_dir() and any(
            _HC18_IMAGE.match(path.stem) for path in list_images(root / _HC18_FOLDER)
        )

    def find(self, root: Path) -> Found:
        """Pair images with outlines; the exam's number is the group."""
        named = index_by_stem(root / _HC18_FOLDER, list_folder(root, _HC18_FOLDER))
        images = {stem: path for stem, path in named.files.items() if _HC18_IMAGE.match(stem)}
        outlines = {
            stem.removesuffix(_HC18_OUTLINE): path for stem, path in named.files.items() if stem.endswith(_HC18_OUTLINE)
        }
        table = _read_hc18_table(root / _HC18_TABLE)
        cases = tuple(
            _make_hc18_case(path, outlines[stem], table.get(path.name))
            for stem, path in images.items()
            if stem in outlines
        )
        return Found(cases, ("head",), (*named.defects, *compare_names(images, outlines, root / _HC18_FOLDER)))


def read_outlined(case: Case, colour: bool) -> Reading:
    """Read an image and fill its outline."""
    frame = read_image(case.image, colour)
    return frame, (fill_outline(read_mask(case.masks[0], frame)),)


def fill_outline(outline: Mask) -> Mask:
    """Fill the outline of an ellipse; one that the image's border cuts open is filled to its convex hull."""
    points = cv2.findNonZero(outline)
    if points is None:
        return np.zeros_like(outline)
    contours, _ = cv2.findContours(outline, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled, hull = np.zeros_like(outline), np.zeros_like(outline)
    cv2.drawContours(filled, contours, -1, 1, cv2.FILLED)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return filled if np.count_nonzero(filled) > _HC18_CLOSED_SHARE * np.count_nonzero(hull) else hull


def _make_hc18_case(image: Path, outline: Path, sizes: Sizes | None) -> Case:
    group = image.stem.split("_")[0]
    case = Case(image.stem, image, (outline,), group, read=read_outlined)
    if sizes is None:
        return case
    return dataclasses.replace(case, pixel_size_mm=sizes[0], head_circumference_mm=sizes[1])


def _read_hc18_table(path: Path) -> dict[str, Sizes]:
    if not os.path.lexists(path):
        return {}
    found: dict[str, tuple[Row, Sizes]] = {}
    for row in read_table(path, ("filename", _HC18_PIXEL_SIZE, _HC18_CIRCUMFERENCE)):
        name = row["filename"].strip()
        sizes = (
            read_length(row, _HC18_PIXEL_SIZE, PIXEL_MM, path, name),
            read_length(row, _HC18_CIRCUMFERENCE, CIRCUMFERENCE_MM, path, name),
        )
        first, known = found.setdefault(name, (row, sizes))
        if known != sizes:
            raise DataError(
                f"Expected one row for each image in {path}, got two that differ for {name} "
                f"(lines {first.line}, {row.line}).",
                "Copy the published table again.",
            )
    return {name: sizes for name, (_, sizes) in found.items()}


class NerveLayout:
    """S_N.tif and S_N_mask.tif, where S is the subject; in the folder itself or in its train/."""

    name = "nerve"
    expects = "Kaggle's ultrasound-nerve-segmentation: S_N.tif and S_N_mask.tif, in the folder or in its train/"

    def fits(self, root: Path) -> bool:
        """Look for a mask named as Kaggle names them."""
        return any(
            path.stem.endswith(_NERVE_MASK) and _NERVE_IMAGE.match(path.stem.removesuffix(_NERVE_MASK))
            for path in list_images(_find_nerve_folder(root))
        )

    def find(self, root: Path) -> Found:
        """Pair images with masks; the subject is the group."""
        folder = _find_nerve_folder(root)
        named = index_by_stem(folder, list_images(folder))
        files = named.files
        images = {stem: path for stem, path in files.items() if _NERVE_IMAGE.match(stem)}
        masks = {stem.removesuffix(_NERVE_MASK): path for stem, path in files.items() if stem.endswith(_NERVE_MASK)}
        cases = tuple(Case(s, p, (masks[s],), s.split("_")[0]) for s, p in images.items() if s in masks)
        return Found(cases, ("nerve",), (*named.defects, *compare_names(images, masks, folder)))


def _find_nerve_folder(root: Path) -> Path:
    return root / "train" if (root / "train").is_dir() else root


class CamusLayout:
    """patient0001/patient0001_2CH_ED.nii.gz and patient0001_2CH_ED_gt.nii.gz; likewise .mhd."""

    name = "camus"
    expects = "CAMUS: patient0001/patient0001_2CH_ED.nii.gz and patient0001_2CH_ED_gt.nii.gz (or .mhd)"

    def fits(self, root: Path) -> bool:
        """Look for a view named as CAMUS names them."""
        return any(_CAMUS_FILE.match(path.name) for path in root.glob("patient*/patient*"))

    def find(self, root: Path) -> Found:
        """Pair views with label maps; the patient is the group, and sequences are skipped."""
        images: dict[str, Path] = {}
        labels: dict[str, Path] = {}
        repeated = []
        for path in sorted(root.glob("patient*/patient*")):
            found = _CAMUS_FILE.match(path.name)
            if found:
                stem = "_".join(found.group(1, 2, 3))
                kind = labels if found.group(4) else images
                if stem in kind:
                    repeated.append(stem)
                kind.setdefault(stem, path)
        paired = [Case(s, p, (labels[s],), s.split("_")[0], read=read_view) for s, p in images.items() if s in labels]
        cases, unreadable = collect_cases(paired, _read_spacing)
        twice = (repeated_names(root, repeated),) if repeated else ()
        return Found(tuple(cases), _CAMUS_CLASSES, (*twice, *compare_names(images, labels, root), *unreadable))


def read_view(case: Case, colour: bool) -> Reading:
    """Read a view and its label map."""
    frame = to_channels(to_frame(read_volume(case.image), str(case.image)), colour)
    return frame, split_labels(read_volume(case.masks[0]), frame, len(_CAMUS_CLASSES), str(case.masks[0]))


def _read_spacing(case: Case) -> Case:
    raw = [find_raw(path) for path in case.files]
    return dataclasses.replace(
        case,
        pixel_size_mm=read_pixel_size(case.image),
        others=tuple(path for path in raw if path is not None and path.is_file()),
    )
