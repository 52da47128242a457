"""HC18 as published: fetal heads with ellipse outlines, pixel sizes and measured circumferences."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import cv2
import numpy as np

from edgeseg.core.errors import DataError
from edgeseg.core.images import list_images, read_image
from edgeseg.data.case import CIRCUMFERENCE_MM, PIXEL_MM, Case
from edgeseg.data.layouts.base import Found, compare_names, list_folder, name_files
from edgeseg.data.reading import Mask, Reading, read_mask
from edgeseg.data.tables import Row, read_length, read_table

FOLDER = "training_set"
TABLE = "training_set_pixel_size_and_HC.csv"
PIXEL_SIZE, CIRCUMFERENCE = "pixel size(mm)", "head circumference (mm)"
CLOSED_SHARE = 0.9
"""A closed outline fills about its hull, an open one little more than itself."""
_IMAGE = re.compile(r"^(\d+)_\d*HC$")
_ENDING = "_Annotation"

Sizes = tuple[float | None, float | None]
"""The pixel size and the circumference, in millimetres; None where the cell is empty."""


class Hc18Layout:
    """training_set/000_HC.png with 000_HC_Annotation.png, and the table of pixel sizes."""

    name = "hc18"
    expects = f"HC18 as published: {FOLDER}/000_HC.png and 000_HC_Annotation.png, {TABLE}"

    def fits(self, root: Path) -> bool:
        """Look for an image named as HC18 names them."""
        return (root / FOLDER).is_dir() and any(_IMAGE.match(path.stem) for path in list_images(root / FOLDER))

    def find(self, root: Path) -> Found:
        """Pair images with outlines; the exam's number is the group."""
        named = name_files(root / FOLDER, list_folder(root, FOLDER))
        images = {stem: path for stem, path in named.files.items() if _IMAGE.match(stem)}
        outlines = {stem.removesuffix(_ENDING): path for stem, path in named.files.items() if stem.endswith(_ENDING)}
        table = _read_table(root / TABLE)
        cases = tuple(
            _make_case(path, outlines[stem], table.get(path.name)) for stem, path in images.items() if stem in outlines
        )
        return Found(cases, ("head",), (*named.defects, *compare_names(images, outlines, root / FOLDER)))


def read_outlined(case: Case, colour: bool) -> Reading:
    """Read an image and fill its outline."""
    frame = read_image(case.image, colour)
    return frame, (fill_outline(read_mask(case.masks[0], frame)),)


def fill_outline(outline: Mask) -> Mask:
    """Fill an ellipse's outline; one that the image's border cuts open is filled to its convex hull."""
    points = cv2.findNonZero(outline)
    if points is None:
        return np.zeros_like(outline)
    contours, _ = cv2.findContours(outline, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled, hull = np.zeros_like(outline), np.zeros_like(outline)
    cv2.drawContours(filled, contours, -1, 1, cv2.FILLED)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return filled if np.count_nonzero(filled) > CLOSED_SHARE * np.count_nonzero(hull) else hull


def _make_case(image: Path, outline: Path, sizes: Sizes | None) -> Case:
    group = image.stem.split("_")[0]
    case = Case(image.stem, image, (outline,), group, read=read_outlined)
    if sizes is None:
        return case
    return dataclasses.replace(case, pixel_size_mm=sizes[0], head_circumference_mm=sizes[1])


def _read_table(path: Path) -> dict[str, Sizes]:
    if not os.path.lexists(path):
        return {}
    found: dict[str, tuple[Row, Sizes]] = {}
    for row in read_table(path, ("filename", PIXEL_SIZE, CIRCUMFERENCE)):
        name = row["filename"].strip()
        sizes = (
            read_length(row, PIXEL_SIZE, PIXEL_MM, path, name),
            read_length(row, CIRCUMFERENCE, CIRCUMFERENCE_MM, path, name),
        )
        first, known = found.setdefault(name, (row, sizes))
        if known != sizes:
            raise DataError(
                f"Expected one row for each image in {path}, got two that differ for {name} "
                f"(lines {first.line}, {row.line}).",
                "Copy the published table again.",
            )
    return {name: sizes for name, (_, sizes) in found.items()}
