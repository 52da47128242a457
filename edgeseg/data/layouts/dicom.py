"""DICOM images with PNG masks, read through pydicom; names and identifiers in the header are never loaded."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, MissingExtraError
from edgeseg.data.case import Case, square_pixel
from edgeseg.data.layouts.base import Found, collect_cases, name_files, pair_files
from edgeseg.data.reading import Reading, read_mask, to_channels, to_frame

MM_PER_CM, CENTIMETRES = 10.0, 3
SPACING_TAGS = ("PixelSpacing", "SequenceOfUltrasoundRegions")
PIXEL_TAGS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "PixelData",
)


class DicomLayout:
    """images/NAME.dcm and masks/NAME.png; several classes in masks_CLASS/."""

    name = "dicom"
    expects = "images/NAME.dcm and masks/NAME.png (several classes: masks_CLASS/NAME.png)"

    def fits(self, root: Path) -> bool:
        """Look for images/ with DICOM files."""
        return bool(_list_files(root))

    def find(self, root: Path) -> Found:
        """Pair images with masks by name and take the pixel size from the header."""
        files = _list_files(root)
        if not files:
            raise DataError(f"Expected .dcm files in {root / 'images'}, got none.", "Name another folder or layout.")
        found = pair_files(root, name_files(root / "images", files))
        cases, unreadable = collect_cases(found.cases, _add_spacing)
        return Found(tuple(cases), found.classes, (*found.defects, *unreadable))


def read_dicom_pair(case: Case, colour: bool) -> Reading:
    """Read a DICOM image and one mask file for each class."""
    frame = to_channels(_read_pixels(case.image), colour)
    return frame, tuple(read_mask(path, frame) for path in case.masks)


def _list_files(root: Path) -> list[Path]:
    return sorted(p for p in root.glob("images/*") if p.suffix.lower() == ".dcm" and not p.name.startswith("."))


def _add_spacing(case: Case) -> Case:
    with _silent(case.image) as pydicom:
        header = pydicom.dcmread(case.image, specific_tags=list(SPACING_TAGS), stop_before_pixels=True)
        size = find_pixel_size(header)
    return dataclasses.replace(case, pixel_size_mm=size, read=read_dicom_pair)


def find_pixel_size(header: Any) -> float | None:
    """Find millimetres per pixel in the pixel spacing or in ultrasound regions that agree."""
    if header.get("PixelSpacing"):
        height, width = header.PixelSpacing
        return square_pixel(float(width), float(height))
    sizes = {_region_size(region) for region in header.get("SequenceOfUltrasoundRegions") or ()} - {None}
    return sizes.pop() if len(sizes) == 1 else None


def _region_size(region: Any) -> float | None:
    if {region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")} != {CENTIMETRES}:
        return None
    return square_pixel(*(MM_PER_CM * abs(float(region[f"PhysicalDelta{axis}"].value)) for axis in "XY"))


def _read_pixels(path: Path) -> NDArray[Any]:
    with _silent(path) as pydicom:
        header = pydicom.dcmread(path, specific_tags=list(PIXEL_TAGS))
        frames = int(header.get("NumberOfFrames") or 1)
    if frames != 1:
        raise DataError(f"Expected a single image in {path}, got {frames} frames.", "Export each frame as a file.")
    with _silent(path) as pydicom:
        values = np.asarray(header.pixel_array)
        if header.PhotometricInterpretation == "PALETTE COLOR":
            values = pydicom.pixels.apply_color_lut(values, header)
        values = _to_white(values, header)
    return to_frame(values, str(path))


def _to_white(values: NDArray[Any], header: Any) -> NDArray[Any]:
    """Turn black and white over where 0 is white, and stretch 9 to 15 stored bits to 16."""
    bits = int(header.BitsStored)
    if header.PhotometricInterpretation == "MONOCHROME1":
        values = ((1 << bits) - 1 - values).astype(values.dtype)
    return values << (16 - bits) if values.dtype == np.uint16 and 8 < bits < 16 else values


@contextmanager
def _silent(path: Path) -> Iterator[Any]:
    """Give pydicom and keep back what it says, which may quote names from the header: only an error's kind is told."""
    pydicom = _import_pydicom()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield pydicom
    except Exception as error:  # noqa: BLE001 - pydicom's decoders raise whatever a damaged header leads to
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"Expected a DICOM image, got the unreadable file {path} ({type(error).__name__}).",
        "Copy the file again, or export it uncompressed.",
    )


def _import_pydicom() -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise MissingExtraError("pydicom", "dicom") from error
    pydicom.config.logger.disabled = True
    return pydicom
