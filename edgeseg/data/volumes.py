"""Read single pictures from NIfTI and MetaImage files; headers are checked against the limits before SimpleITK does.

A header of 400 bytes can announce terabytes, pack gigabytes of zeros into a few kilobytes, or name any file of the
machine as its pixels.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, LimitError
from edgeseg.core.install import MissingExtraError
from edgeseg.core.limits import ARRAY_BYTES, VOLUME_HEADER_BYTES, check_pixels, check_regular, read_regular
from edgeseg.data.reading import CHANNELS, square_pixel
from edgeseg.frame.images import as_data_error

# For each version: length of the header, magic of a file with header and voxels, and its position (nifti1.h, nifti2.h).
_NIFTI_BYTES = {1: (348, b"n+1\0", 344), 2: (540, b"n+2\0", 4)}
_NIFTI_LENGTH = 540
# Bytes of each NIfTI datatype; complex numbers and those of 16 bytes are no brightness.
_NUMBER_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 128: 3, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8}
_META_LINE = re.compile(r"([A-Za-z]\w*) *= *(.*)")
_META_DATA, _META_SIZE = "ElementDataFile", "DimSize"
# Bytes of MetaImage's element types.
_META_NUMBERS = {
    f"MET_{sign}{name}": length
    for name, length in (("CHAR", 1), ("SHORT", 2), ("INT", 4), ("FLOAT", 4), ("DOUBLE", 8))
    for sign in ("", "U")
}
_PLAIN_NAME = re.compile(r"[^\s/\\%]+\.z?raw")


def read_volume(path: Path) -> NDArray[Any]:
    """Read the single picture of a NIfTI or MetaImage file."""
    reader = _open(path)
    try:
        values = np.asarray(_import_itk().GetArrayFromImage(reader.Execute()))
    except RuntimeError as error:
        raise refuse_damaged(path) from error
    # leading dimensions of length 1 are dropped: some exports wrap a view into a volume of one slice
    colours = values.shape[-1:] if reader.GetNumberOfComponents() > 1 else ()
    return values.reshape(*values.shape[values.ndim - len(colours) - 2 : values.ndim - len(colours)], *colours)


def read_pixel_size(path: Path) -> float | None:
    """Read the millimetres per pixel from a header; None where pixels are not square."""
    spacing = _open(path).GetSpacing()
    return square_pixel(spacing[0], spacing[1])


def _open(path: Path) -> Any:
    reader = _import_itk().ImageFileReader()
    check_volume(path)
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise refuse_damaged(path) from error
    check_view(path, reader.GetSize())
    return reader


def _import_itk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise MissingExtraError("SimpleITK", "medical") from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def check_volume(path: Path) -> None:
    """Refuse a NIfTI or MetaImage file that is not safe to open with SimpleITK.

    Raises:
        DataError: It is no single image, too large, damaged, or refers to a file in another folder.
    """
    as_data_error(check_regular, path, ARRAY_BYTES)
    if path.suffix == ".mhd":
        _check_meta(path)
    else:
        _check_nifti(path, _read_start(path))


def check_view(path: Path, size: tuple[int, ...]) -> None:
    """Refuse a volume that is not one 2D image within the limits; further dimensions of length 1 are ignored."""
    as_data_error(check_pixels, path, *size[:2])
    if math.prod(size[2:]) != 1:
        raise DataError(
            f"Expected a single picture in {path}, got the size {'x'.join(map(str, size))}.",
            "Export the frames that have labels, one in a file.",
        )


def find_raw(path: Path) -> Path | None:
    """Find the voxel file beside a MetaImage header; None for NIfTI."""
    if path.suffix != ".mhd":
        return None
    return path.with_name(_read_meta(path)[_META_DATA])


def refuse_damaged(path: Path) -> DataError:
    """Build the error for a volume that cannot be read."""
    return DataError(f"Expected an image, got the unreadable file {path}.", "Copy the file again or remove it.")


def _read_start(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(_NIFTI_LENGTH)
    except (OSError, EOFError, zlib.error) as error:
        raise refuse_damaged(path) from error


def _check_nifti(path: Path, start: bytes) -> None:
    for order in "<>":
        for version, (length, mark, place) in _NIFTI_BYTES.items():
            known = len(start) >= length and struct.unpack_from(f"{order}i", start)[0] == length
            if known and start[place : place + 4] == mark:
                return _check_announced(path, start, order, version)
    raise refuse_damaged(path)


def _check_announced(path: Path, start: bytes, order: str, version: int) -> None:
    if version == 1:
        dims, kind = struct.unpack_from(f"{order}8h", start, 40), struct.unpack_from(f"{order}h", start, 70)[0]
        offset = struct.unpack_from(f"{order}f", start, 108)[0]
    else:
        kind, dims = struct.unpack_from(f"{order}h", start, 12)[0], struct.unpack_from(f"{order}8q", start, 16)
        offset = struct.unpack_from(f"{order}q", start, 168)[0]
    sides = dims[1 : 1 + dims[0]]
    if not (2 <= dims[0] <= 7 and kind in _NUMBER_BYTES and 0 <= offset <= VOLUME_HEADER_BYTES):
        raise refuse_damaged(path)
    check_view(path, sides)
    _check_length(path, int(offset) + math.prod(sides) * _NUMBER_BYTES[kind])


def _check_length(path: Path, announced: int) -> None:
    """Count the unpacked bytes of a file up to the announced number, which SimpleITK would allocate first."""
    if path.suffix != ".gz":
        held = _find_size(path)
    else:
        held = 0
        try:
            with gzip.open(path) as file:
                while held < announced and (chunk := file.read(min(announced - held, VOLUME_HEADER_BYTES))):
                    held += len(chunk)
        except (OSError, EOFError, zlib.error) as error:
            raise refuse_damaged(path) from error
    if held < announced:
        raise refuse_damaged(path)


def _check_meta(path: Path) -> None:
    fields = _read_meta(path)
    try:
        size = tuple(int(word) for word in fields[_META_SIZE].split())
        channels = int(fields.get("ElementNumberOfChannels", "1"))
        number, sides = _META_NUMBERS[fields["ElementType"]], int(fields["NDims"])
    except (KeyError, ValueError) as error:
        raise refuse_damaged(path) from error
    if sides != len(size):  # SimpleITK believes NDims, and with a negative one it never returns
        raise refuse_damaged(path)
    check_view(path, size if len(size) > 1 else (0, 0))
    data = path.with_name(fields[_META_DATA])
    as_data_error(check_regular, data, ARRAY_BYTES)
    packed = fields.get("CompressedData", "False").lower() == "true"
    announced = math.prod(size) * channels * number
    if channels not in CHANNELS or (_count_unpacked(data, announced) if packed else _find_size(data)) < announced:
        raise refuse_damaged(path)


def _count_unpacked(path: Path, announced: int) -> int:
    """Count the unpacked bytes of a compressed file, up to the announced number."""
    unpacker, held = zlib.decompressobj(), 0
    try:
        with path.open("rb") as file:
            while held < announced and (chunk := file.read(VOLUME_HEADER_BYTES)):
                while chunk and held < announced:
                    held += len(unpacker.decompress(chunk, VOLUME_HEADER_BYTES))
                    chunk = unpacker.unconsumed_tail
    except (OSError, zlib.error) as error:
        raise refuse_damaged(path) from error
    return held


def _find_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise refuse_damaged(path) from error


def _read_meta(path: Path) -> dict[str, str]:
    """Parse a MetaImage header, each field once; the voxels must be in a file beside it."""
    try:
        text = read_regular(path, VOLUME_HEADER_BYTES).decode("ascii")
    except (OSError, UnicodeDecodeError, LimitError) as error:
        raise refuse_damaged(path) from error
    found = [_META_LINE.fullmatch(line.strip()) for line in text.splitlines() if line.strip()]
    fields = {match[1]: match[2].strip() for match in found if match is not None}
    if len(fields) != len(found):
        raise refuse_damaged(path)
    data = fields.get(_META_DATA, "")
    if not _PLAIN_NAME.fullmatch(data):
        raise DataError(
            f"Expected {_META_DATA} in {path} to name a .raw or .zraw file beside it, got {data!r}.",
            "Save the image again as .mhd with its .raw, or as .nii.gz.",
        )
    return fields
