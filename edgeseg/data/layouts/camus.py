"""CAMUS: echocardiography in .nii.gz or .mhd with label maps, read through SimpleITK."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import MissingExtraError
from edgeseg.core.images import to_frame
from edgeseg.data.case import Case, square_pixel
from edgeseg.data.defects import repeated_names
from edgeseg.data.layouts.base import Found, collect_cases, compare_names
from edgeseg.data.reading import Reading, split_labels, to_channels
from edgeseg.data.volumes import check_view, check_volume, find_raw, refuse_damaged

CLASSES = ("ventricle", "myocardium", "atrium")
_FILE = re.compile(r"^(patient\d+)_(2CH|4CH)_(ED|ES)(_gt)?\.(nii\.gz|nii|mhd)$")


class CamusLayout:
    """patient0001/patient0001_2CH_ED.nii.gz and patient0001_2CH_ED_gt.nii.gz; likewise .mhd."""

    name = "camus"
    expects = "CAMUS: patient0001/patient0001_2CH_ED.nii.gz and patient0001_2CH_ED_gt.nii.gz (or .mhd)"

    def fits(self, root: Path) -> bool:
        """Look for a view named as CAMUS names them."""
        return any(_FILE.match(path.name) for path in root.glob("patient*/patient*"))

    def find(self, root: Path) -> Found:
        """Pair views with label maps; the patient is the group, and sequences are passed over."""
        images: dict[str, Path] = {}
        labels: dict[str, Path] = {}
        repeated = []
        for path in sorted(root.glob("patient*/patient*")):
            found = _FILE.match(path.name)
            if found:
                stem = "_".join(found.group(1, 2, 3))
                kind = labels if found.group(4) else images
                if stem in kind:
                    repeated.append(stem)
                kind.setdefault(stem, path)
        paired = [Case(s, p, (labels[s],), s.split("_")[0], read=read_view) for s, p in images.items() if s in labels]
        cases, unreadable = collect_cases(paired, _add_spacing)
        twice = (repeated_names(root, repeated),) if repeated else ()
        return Found(tuple(cases), CLASSES, (*twice, *compare_names(images, labels, root), *unreadable))


def read_view(case: Case, colour: bool) -> Reading:
    """Read a view and its label map."""
    frame = to_channels(to_frame(_read_array(case.image), str(case.image)), colour)
    return frame, split_labels(_read_array(case.masks[0]), frame, len(CLASSES), str(case.masks[0]))


def _read_array(path: Path) -> NDArray[Any]:
    reader = _open(path)
    try:
        values = np.asarray(_itk().GetArrayFromImage(reader.Execute()))
    except RuntimeError as error:
        raise refuse_damaged(path) from error
    colours = values.shape[-1:] if reader.GetNumberOfComponents() > 1 else ()
    return values.reshape(*values.shape[values.ndim - len(colours) - 2 : values.ndim - len(colours)], *colours)


def _add_spacing(case: Case) -> Case:
    spacing = _open(case.image).GetSpacing()
    raw = [find_raw(path) for path in case.files]
    return dataclasses.replace(
        case,
        pixel_size_mm=square_pixel(spacing[0], spacing[1]),
        others=tuple(path for path in raw if path is not None and path.is_file()),
    )


def _open(path: Path) -> Any:
    reader = _itk().ImageFileReader()
    check_volume(path)
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise refuse_damaged(path) from error
    check_view(path, reader.GetSize())
    return reader


def _itk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise MissingExtraError("SimpleITK", "medical") from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK
