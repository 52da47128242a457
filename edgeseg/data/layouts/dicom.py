"""DICOM images with PNG masks: images/NAME.dcm beside masks/NAME.png."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.data.dicom import (
    SIZE_TAGS,
    SPACING_TAGS,
    check_announced,
    find_pixel_size,
    find_tissue_region,
    read_dicom_image,
    read_header,
    read_pixels_header,
    silent_dicom,
)
from edgeseg.data.layouts.base import Found, collect_cases, index_by_stem, pair_files
from edgeseg.data.reading import Case, Reading, crop, read_mask, to_channels


class DicomLayout:
    """images/NAME.dcm and masks/NAME.png; several classes in masks_CLASS/."""

    name = "dicom"
    expects = "images/NAME.dcm and masks/NAME.png (several classes: masks_CLASS/NAME.png)"

    def fits(self, root: Path) -> bool:
        """Look for images/ with DICOM files."""
        return bool(_list_files(root))

    def find(self, root: Path) -> Found:
        """Pair images with masks by name; pixel size and region come from the header."""
        files = _list_files(root)
        if not files:
            raise DataError(f"Expected .dcm files in {root / 'images'}, got none.", "Name another folder or layout.")
        found = pair_files(root, index_by_stem(root / "images", files))
        cases, unreadable = collect_cases(found.cases, _read_case_header)
        return Found(tuple(cases), found.classes, (*found.defects, *unreadable))


def read_dicom_pair(case: Case, colour: bool) -> Reading:
    """Read a DICOM image and one mask file for each class, cropped to the header's ultrasound region like a stream."""
    frame = to_channels(_read_pixels(case.image), colour, str(case.image))
    masks = tuple(read_mask(path, frame) for path in case.masks)
    return crop(frame, case.region), tuple(crop(mask, case.region) for mask in masks)


def _list_files(root: Path) -> list[Path]:
    return sorted(p for p in root.glob("images/*") if p.suffix.lower() == ".dcm" and not p.name.startswith("."))


def _read_case_header(case: Case) -> Case:
    """Take pixel size and ultrasound region from the header, as a stream of such a file does."""
    header = read_header(case.image, (*SIZE_TAGS, *SPACING_TAGS))
    _refuse_cine(case.image, check_announced(header, case.image))
    with silent_dicom(case.image):
        size, region = find_pixel_size(header), find_tissue_region(header)
    return dataclasses.replace(case, pixel_size_mm=size, region=region, read=read_dicom_pair)


def _read_pixels(path: Path) -> NDArray[Any]:
    header, frames = read_pixels_header(path)
    _refuse_cine(path, frames)
    return read_dicom_image(header, path)


def _refuse_cine(path: Path, frames: int) -> None:
    if frames != 1:
        raise DataError(f"Expected a single image in {path}, got {frames} frames.", "Export each frame as a file.")
