"""Read DICOM through pydicom: pixels, sizes, rates and regions; names and identifiers are never loaded."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, MissingExtraError
from edgeseg.core.images import to_frame
from edgeseg.core.spec import Region
from edgeseg.data.case import square_pixel

MM_PER_CM, CENTIMETRES = 10.0, 3
PICTURE, TISSUE = 1, 1
SPACING_TAGS = ("PixelSpacing", "SequenceOfUltrasoundRegions")
CINE_TAGS = (*SPACING_TAGS, "FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate")
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


def read_header(path: Path, tags: Sequence[str]) -> Any:
    """Read these tags of a header and nothing else."""
    with silent_dicom(path) as pydicom:
        return pydicom.dcmread(path, specific_tags=list(tags), stop_before_pixels="PixelData" not in tags)


def read_pixels_header(path: Path, tags: Sequence[str] = ()) -> tuple[Any, int]:
    """Read what `read_image` needs, and further tags.

    Returns:
        The header, and how many frames it holds.
    """
    header = read_header(path, (*PIXEL_TAGS, *tags))
    with silent_dicom(path):
        frames = int(header.get("NumberOfFrames") or 1)
    if "PixelData" not in header:
        raise DataError(f"Expected a DICOM image, got no pixels in {path}.", "Name a file with an image or a cine.")
    _check_decoder(header, path)
    return header, frames


def _check_decoder(header: Any, path: Path) -> None:
    """Refuse a compression that nothing here decodes, by its name."""
    with silent_dicom(path) as pydicom:
        syntax = header.file_meta.TransferSyntaxUID
        decodable = pydicom.pixels.get_decoder(syntax).is_available
    if not decodable:
        raise DataError(
            f"Expected a DICOM compression that can be decoded here, got {syntax.name} in {path}.",
            "Export it uncompressed, with RLE or with JPEG 2000, or install pydicom's decoder for it.",
        )


def read_image(header: Any, path: Path, number: int = 0) -> NDArray[Any]:
    """Decode one frame as an 8 or 16 bit frame, grey or RGB."""
    with silent_dicom(path) as pydicom:
        values = np.asarray(pydicom.pixels.pixel_array(header, index=number))
        if header.PhotometricInterpretation == "PALETTE COLOR":
            values = pydicom.pixels.apply_color_lut(values, header)
        values = _to_white(values, header)
    return to_frame(values, str(path))


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


def find_frame_rate(header: Any) -> float | None:
    """Find frames per second in what the header says about its cine."""
    steps = [float(step) for step in header.get("FrameTimeVector") or ()][1:]
    milliseconds = float(header.get("FrameTime") or 0) or (sum(steps) / len(steps) if steps else 0.0)
    rate = header.get("CineRate") or header.get("RecommendedDisplayFrameRate")
    return 1e3 / milliseconds if milliseconds > 0 else float(rate) if rate else None


def find_tissue_region(header: Any) -> Region | None:
    """Find the largest two-dimensional picture of tissue among the ultrasound regions.

    Files that were made smaller often keep the regions of the first size: those that do not fit are left out.
    """
    found = [_read_region(region) for region in header.get("SequenceOfUltrasoundRegions") or () if _is_tissue(region)]
    fitting = [r for r in found if r and r.x + r.width <= header.Columns and r.y + r.height <= header.Rows]
    return max(fitting, key=lambda r: r.width * r.height, default=None)


def _is_tissue(region: Any) -> bool:
    return (region.get("RegionSpatialFormat"), region.get("RegionDataType")) == (PICTURE, TISSUE)


def _read_region(region: Any) -> Region | None:
    ends = [region.get(f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
    if None in ends or ends[2] <= ends[0] or ends[3] <= ends[1]:
        return None
    left, top, right, bottom = map(int, ends)
    return Region(left, top, right - left, bottom - top)


def _to_white(values: NDArray[Any], header: Any) -> NDArray[Any]:
    """Turn black and white over where 0 is white, and stretch 9 to 15 stored bits to 16."""
    bits = int(header.BitsStored)
    if header.PhotometricInterpretation == "MONOCHROME1":
        values = ((1 << bits) - 1 - values).astype(values.dtype)
    return values << (16 - bits) if values.dtype == np.uint16 and 8 < bits < 16 else values


@contextmanager
def silent_dicom(path: Path) -> Iterator[Any]:
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
