"""Images and masks of the same names in folders: the layout that `data import` and `data synth` write."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgeseg.core.errors import DataError
from edgeseg.core.images import list_images
from edgeseg.data.defects import DefectError, missing_modalities
from edgeseg.data.layouts.base import Found, Named, list_folder, mask_folders, name_files, pair_files
from edgeseg.data.reading import read_modalities

FIRST = "images"
COLOURS = 3


class PlainLayout:
    """images/NAME.png and masks/NAME.png; several classes in masks_CLASS/, further modalities in images_MODALITY/."""

    name = "plain"
    expects = "images/NAME.png and masks/NAME.png (several classes: masks_CLASS/NAME.png)"

    def fits(self, root: Path) -> bool:
        """Look for images/ and masks/."""
        return (root / FIRST).is_dir() and bool(list_images(root / FIRST)) and bool(mask_folders(root))

    def find(self, root: Path) -> Found:
        """Pair images with masks by name; every image is a group of its own."""
        images = name_files(root / FIRST, list_folder(root, FIRST))
        further = [path for path in sorted(root.glob(f"{FIRST}_*")) if path.is_dir()]
        return join_modalities(root, images, further) if further else pair_files(root, images)


def join_modalities(root: Path, images: Named, further: list[Path]) -> Found:
    """Make one colour image of the images of the same name in three folders."""
    if len(further) + 1 != COLOURS:
        raise DataError(
            f"Expected one folder of images or three in {root}, got {len(further) + 1}: {FIRST}, "
            f"{', '.join(path.name for path in further)}.",
            "A frame has one channel or three. Take a folder away, or give one modality twice.",
        )
    named = [name_files(folder, list_images(folder)) for folder in further]
    complete = set(images.files).intersection(*(one.files for one in named))
    found = pair_files(root, images)
    names = tuple(path.name.removeprefix(f"{FIRST}_") for path in (root / FIRST, *further))
    cases = tuple(
        dataclasses.replace(
            case, others=tuple(one.files[case.stem] for one in named), modalities=names, read=read_modalities
        )
        for case in found.cases
        if case.stem in complete
    )
    return Found(cases, found.classes, (*found.defects, *_list_gaps([images, *named], [root / FIRST, *further])))


def _list_gaps(named: list[Named], folders: list[Path]) -> list[DefectError]:
    stems = set().union(*(one.files for one in named))
    gaps = [(folder, sorted(stems - set(one.files))) for folder, one in zip(folders, named, strict=True)]
    own = [defect for one in named[1:] for defect in one.defects]
    return own + [missing_modalities(folder, missing) for folder, missing in gaps if missing]
