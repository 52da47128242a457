"""DICOM through pydicom: pixels, pixel spacing, frame rate and ultrasound regions; patient data are never loaded."""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, EdgesegError
from edgeseg.core.install import MissingExtraError
from edgeseg.core.limits import (
    DICOM_BYTES,
    DICOM_FRAMES,
    DICOM_READS,
    DICOM_SEQUENCE_BYTES,
    check_pixels,
    check_regular,
)
from edgeseg.core.spec import Region
from edgeseg.data.reading import square_pixel
from edgeseg.frame.images import as_data_error, measure_jpeg, to_frame

SAMPLES = (1, 3)
# The transfer syntax Deflated Explicit VR Little Endian.
DEFLATED = "1.2.840.10008.1.2.1.99"
# The markers SOC and SIZ, with which a JPEG 2000 codestream begins (ISO 15444-1, annex A).
_JPEG_2000 = b"\xff\x4f\xff\x51"
# PS3.3, C.8.5.5: physical units in cm; spatial format 2D; data type tissue.
MM_PER_CM, CENTIMETRES = 10.0, 3
PICTURE, TISSUE = 1, 1
SIZE_TAGS = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")
_REGIONS = "SequenceOfUltrasoundRegions"
SPACING_TAGS = ("PixelSpacing", _REGIONS)
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
    """Read these tags of a header and no others."""
    as_data_error(check_regular, path, DICOM_BYTES)
    with silent_dicom(path) as pydicom:
        _refuse_deflated(pydicom.filereader.read_file_meta_info(path), path)
        with _CountedReader(io.FileIO(path)) as file:
            header = pydicom.dcmread(file, specific_tags=list(tags), stop_before_pixels="PixelData" not in tags)
        if _REGIONS in header and len(getattr(header.get_item(_REGIONS), "value", None) or b"") > DICOM_SEQUENCE_BYTES:
            raise _too_long(path)
        return header


class _CountedReader(io.BufferedReader):
    """A file that stops the parser at a limit: millions of empty items would take minutes and gigabytes."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(raw)
        self._left = DICOM_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and count the calls."""
        self._left -= 1
        if self._left < 0:
            raise _too_long(Path(os.fsdecode(self.name)))
        return super().read(size)


def _too_long(path: Path) -> DataError:
    return DataError(
        f"Expected a DICOM header of at most some {DICOM_READS // 3} elements in {path}, got a longer one.",
        "Export the image again.",
    )


def read_pixels_header(path: Path, tags: Sequence[str] = ()) -> tuple[Any, int]:
    """Read the tags that `read_dicom_image` needs, and further ones.

    Returns:
        The header, and its number of frames.
    """
    header = read_header(path, (*PIXEL_TAGS, *tags))
    if "PixelData" not in header:
        raise DataError(f"Expected a DICOM image, got no pixels in {path}.", "Name a file with an image or a cine.")
    frames = check_announced(header, path)
    _check_decoder(header, path)
    return header, frames


def check_announced(header: Any, path: Path) -> int:
    """Check the announced size and number of frames against the limits, before anything is decoded.

    Returns:
        The number of frames.
    """
    with silent_dicom(path):
        size = int(header.Columns), int(header.Rows)
        samples, frames = int(header.get("SamplesPerPixel") or 1), int(header.get("NumberOfFrames") or 1)
    as_data_error(check_pixels, path, *size)
    if not (1 <= frames <= DICOM_FRAMES and samples in SAMPLES):
        raise DataError(
            f"Expected 1 to {DICOM_FRAMES} frames of 1 or 3 samples in {path}, got {frames} of {samples}.",
            "Export a shorter cine, grey or RGB.",
        )
    return frames


def _refuse_deflated(meta: Any, path: Path) -> None:
    """Refuse a deflated file: pydicom would unpack all of it before it reads the header."""
    if meta.TransferSyntaxUID == DEFLATED:
        raise DataError(
            f"Expected a DICOM file that is not packed as a whole, got {meta.TransferSyntaxUID.name} in {path}.",
            "Export it uncompressed, with RLE or with JPEG.",
        )


def _check_decoder(header: Any, path: Path) -> None:
    """Refuse a transfer syntax without an installed decoder, and name it."""
    with silent_dicom(path) as pydicom:
        syntax = header.file_meta.TransferSyntaxUID
        decodable = pydicom.pixels.get_decoder(syntax).is_available
    if not decodable:
        raise DataError(
            f"Expected a DICOM compression that can be decoded here, got {syntax.name} in {path}.",
            "Export it uncompressed, with RLE or with JPEG 2000, or install pydicom's decoder for it.",
        )


def read_dicom_image(header: Any, path: Path, number: int = 0) -> NDArray[Any]:
    """Decode one frame as an 8 or 16 bit frame, grey or RGB."""
    with silent_dicom(path) as pydicom:
        _check_fragment(pydicom, header, path, number)
        values = np.asarray(pydicom.pixels.pixel_array(header, index=number))
        if header.PhotometricInterpretation == "PALETTE COLOR":
            values = pydicom.pixels.apply_color_lut(values, header)
        values = _scale_stored_bits(values, header)
    return to_frame(values, str(path))


def _check_fragment(pydicom: Any, header: Any, path: Path, number: int) -> None:
    """Refuse a compressed frame whose own size differs from the header's: decoders allocate the frame's own size."""
    syntax = header.file_meta.TransferSyntaxUID
    # run lengths have no size of their own, and the marker of JPEG 2000 occurs in them by chance
    if not syntax.is_encapsulated or syntax in pydicom.uid.RLETransferSyntaxes:
        return
    frames = int(header.get("NumberOfFrames") or 1)
    data = pydicom.encaps.get_frame(header.PixelData, number, number_of_frames=frames)
    size = measure_jpeg(data) or _measure_jpeg_2000(data)
    if size is not None and size != (header.Columns, header.Rows):
        raise DataError(
            f"Expected frames of {header.Columns}x{header.Rows} in {path}, got one of {size[0]}x{size[1]}.",
            "Copy the file again, or export it uncompressed.",
        )


def _measure_jpeg_2000(data: bytes) -> tuple[int, int] | None:
    place = data.find(_JPEG_2000)
    if place < 0 or place + 24 > len(data):
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, place + 8)
    return right - left, bottom - top


def find_pixel_size(header: Any) -> float | None:
    """Find millimetres per pixel in PixelSpacing, or in ultrasound regions that agree."""
    if header.get("PixelSpacing"):
        # PS3.3, 10.7.1.3: the distance between rows comes first
        height, width = header.PixelSpacing
        return square_pixel(float(width), float(height))
    sizes = {_region_size(region) for region in header.get("SequenceOfUltrasoundRegions") or ()} - {None}
    return sizes.pop() if len(sizes) == 1 else None


def _region_size(region: Any) -> float | None:
    if {region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")} != {CENTIMETRES}:
        return None
    return square_pixel(*(MM_PER_CM * abs(float(region[f"PhysicalDelta{axis}"].value)) for axis in "XY"))


def find_frame_rate(header: Any) -> float | None:
    """Find frames per second in the cine tags of a header."""
    # the first value of the vector is always 0 (PS3.3, C.7.6.5)
    steps = [float(step) for step in header.get("FrameTimeVector") or ()][1:]
    milliseconds = float(header.get("FrameTime") or 0) or (sum(steps) / len(steps) if steps else 0.0)
    rate = header.get("CineRate") or header.get("RecommendedDisplayFrameRate")
    return 1e3 / milliseconds if milliseconds > 0 else float(rate) if rate else None


def find_tissue_region(header: Any) -> Region | None:
    """Find the largest 2D tissue region among the ultrasound regions.

    Files that were scaled down often keep the regions of the original size: regions that do not fit are ignored.
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


def _scale_stored_bits(values: NDArray[Any], header: Any) -> NDArray[Any]:
    """Invert MONOCHROME1, where 0 is white, and scale 9 to 15 stored bits to 16."""
    bits = int(header.BitsStored)
    if header.PhotometricInterpretation == "MONOCHROME1":
        values = ((1 << bits) - 1 - values).astype(values.dtype)
    return values << (16 - bits) if values.dtype == np.uint16 and 8 < bits < 16 else values


@contextmanager
def silent_dicom(path: Path) -> Iterator[Any]:
    """Import pydicom and hide its messages, which may quote patient data: errors name their type only."""
    pydicom = _import_pydicom()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield pydicom
    except EdgesegError:
        raise
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
        import pydicom.encaps
        import pydicom.filereader
        import pydicom.pixels
    except ImportError as error:
        raise MissingExtraError("pydicom", "dicom") from error
    pydicom.config.logger.disabled = True
    return pydicom
