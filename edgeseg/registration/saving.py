"""The files of a registration: moved image and mask, field, pictures and figures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import OutputError
from edgeseg.core.files import write_json
from edgeseg.core.install import need_extra
from edgeseg.frame.images import to_grey, write_image
from edgeseg.registration.displacement import Field, no_motion, warp_image, write_field
from edgeseg.registration.quality import draw_checkerboard, draw_difference
from edgeseg.registration.register import Registration, describe

FIGURES = "registration.json"
FIELD, NIFTI_FIELD = "displacement.npy", "displacement.nii.gz"
_DIGITS = 6


def write_registration(
    folder: Path, registration: Registration, fixed: NDArray[Any], moving: NDArray[Any], nifti: bool = False
) -> None:
    """Write everything about a registration into a folder."""
    write_image(folder / "moved.png", registration.moved)
    if registration.moved_mask is not None:
        write_image(folder / "moved_mask.png", registration.moved_mask * np.uint8(255))
    write_field(folder / FIELD, registration.displacement)
    if nifti:
        write_nifti_field(folder / NIFTI_FIELD, registration.displacement, registration.mm_per_px)
    unmoved = to_grey(warp_image(moving, no_motion((fixed.shape[0], fixed.shape[1]))))
    one, moved = to_grey(fixed), to_grey(registration.moved)
    write_image(folder / "checkerboard.png", draw_checkerboard(one, moved))
    write_image(folder / "difference.png", draw_difference(one, unmoved, moved))
    write_json(folder / FIGURES, round_all(describe(registration)))


def write_nifti_field(path: Path, field: Field, mm_per_px: float | None) -> None:
    """Write a field as a NIfTI vector image, in mm where the pixel size is known, else in pixels."""
    need_extra("medical")
    import SimpleITK

    unit = 1.0 if mm_per_px is None else mm_per_px
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(field * np.float32(unit)), isVector=True)
    image.SetSpacing((unit, unit))
    part = path.with_name(f".{path.name}.part.nii.gz")
    try:
        SimpleITK.WriteImage(image, os.fspath(part), True)
        part.replace(path)
    except RuntimeError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"Writing {path} failed.", "Check that the disk has room and that you may write there."
        ) from error


def round_all(value: Any) -> Any:
    """Round every number of a table to what a reader can use."""
    if isinstance(value, dict):
        return {key: round_all(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [round_all(one) for one in value]
    return round(value, _DIGITS) if isinstance(value, float) else value
