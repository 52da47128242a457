"""A DICOM cine loop: its frames, with frame rate, pixel size and ultrasound region from the header."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeseg.core.errors import DataError, SourceError
from edgeseg.core.limits import DICOM_BYTES, check_regular
from edgeseg.core.redact import show_name
from edgeseg.data.dicom import (
    CINE_TAGS,
    find_frame_rate,
    find_pixel_size,
    find_tissue_region,
    read_image,
    read_pixels_header,
    silent_dicom,
)
from edgeseg.data.reading import to_channels
from edgeseg.streaming.sources.base import Source

SUFFIXES = (".dcm", ".dicom")
_PREAMBLE, _MAGIC = 128, b"DICM"
"""DICOM PS3.10, 7.1: 128 bytes, then the prefix."""


def is_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM, by its suffix or, since scanners often write none, by its prefix."""
    if path.suffix.lower() in SUFFIXES:
        return True
    # reading files of /proc and /sys may block
    if not path.is_file() or path.stat().st_size <= _PREAMBLE:
        return False
    with path.open("rb") as file:
        return file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC


class DicomSource(Source):
    """Plays the frames of a DICOM file; corrupt ones are skipped and counted."""

    def __init__(self, path: Path, colour: bool = False) -> None:
        """Read the header.

        Args:
            path: A file with one frame or many.
            colour: Whether the model's input is colour; grey frames stay grey, and such a model refuses them.
        """
        if not path.exists():
            raise SourceError(f"Expected a DICOM file at {path}, got no such file.", "Check the path.")
        check_regular(path, DICOM_BYTES)
        self.name = show_name(path.name)
        self._path, self._colour, self._next, self._decoded = path, colour, 0, 0
        self._header, self._count = read_pixels_header(path, CINE_TAGS)
        with silent_dicom(path):
            self.fps = find_frame_rate(self._header) or Source.fps
            self.mm_per_px = find_pixel_size(self._header)
            self.region = find_tissue_region(self._header)

    def read(self) -> NDArray[Any] | None:
        """Decode the next frame.

        Raises:
            DataError: Not one frame could be decoded.
        """
        while self._next < self._count:
            self._next += 1
            try:
                image = read_image(self._header, self._path, self._next - 1)
            except DataError:
                # one corrupt frame is skipped; a file of which none can be decoded is an error
                if self._next == self._count and self._decoded == 0:
                    raise
                self.health = dataclasses.replace(self.health, corrupt=self.health.corrupt + 1)
            else:
                self._decoded += 1
                return to_channels(image, self._colour and image.ndim == 3)
        return None
