"""HC18 as published: fetal heads with ellipse outlines, pixel sizes and measured circumferences."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import cv2
import numpy as np

from edgeseg.core.errors import DataError
from edgeseg.core.files import read_rows
from edgeseg.core.images import list_images, read_image
from edgeseg.data.case import Case
from edgeseg.data.layouts.base import Found, compare_names, list_folder
from edgeseg.data.reading import Mask, Reading, read_mask

FOLDER = "training_set"
TABLE = "training_set_pixel_size_and_HC.csv"
PIXEL_SIZE, CIRCUMFERENCE = "pixel size(mm)", "head circumference (mm)"
CLOSED_SHARE = 0.9
"""A closed outline fills about its hull, an open one little more than itself."""
_IMAGE = re.compile(r"^(\d+)_\d*HC$")
_ENDING = "_Annotation"


class Hc18Layout:
    """training_set/000_HC.png with 000_HC_Annotation.png, and the table of pixel sizes."""

    name = "hc18"
    expects = f"HC18 as published: {FOLDER}/000_HC.png and 000_HC_Annotation.png, {TABLE}"

    def fits(self, root: Path) -> bool:
        """Look for an image named as HC18 names them."""
        return (root / FOLDER).is_dir() and any(_IMAGE.match(path.stem) for path in list_images(root / FOLDER))

    def find(self, root: Path) -> Found:
        """Pair images with outlines; the exam's number is the group."""
        files = {path.stem: path for path in list_folder(root, FOLDER)}
        images = {stem: path for stem, path in files.items() if _IMAGE.match(stem)}
        outlines = {stem.removesuffix(_ENDING): path for stem, path in files.items() if stem.endswith(_ENDING)}
        table = _read_table(root / TABLE)
        cases = tuple(
            _make_case(path, outlines[stem], table.get(path.name)) for stem, path in images.items() if stem in outlines
        )
        return Found(cases, ("head",), compare_names(images, outlines, root / FOLDER))


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


def _make_case(image: Path, outline: Path, sizes: tuple[float, float] | None) -> Case:
    group = image.stem.split("_")[0]
    case = Case(image.stem, image, (outline,), group, read=read_outlined)
    if sizes is None:
        return case
    return dataclasses.replace(case, pixel_size_mm=sizes[0], head_circumference_mm=sizes[1])


def _read_table(path: Path) -> dict[str, tuple[float, float]]:
    if not path.is_file():
        return {}
    rows = read_rows(path)
    try:
        return {row["filename"]: (_read_length(row[PIXEL_SIZE]), _read_length(row[CIRCUMFERENCE])) for row in rows}
    except (KeyError, ValueError) as error:
        raise DataError(
            f"Expected the columns filename, {PIXEL_SIZE} and {CIRCUMFERENCE} with numbers in {path}, got {error}.",
            "Copy the published table again.",
        ) from error


def _read_length(text: str) -> float:
    length = float(text)
    if not 0 < length < float("inf"):
        raise ValueError(f"the length {text}")
    return length
