"""The nerves of Kaggle's ultrasound-nerve-segmentation: subject and number in the file's name."""

from __future__ import annotations

import re
from pathlib import Path

from edgeseg.core.images import list_images
from edgeseg.data.case import Case
from edgeseg.data.layouts.base import Found, compare_names, name_files

_IMAGE = re.compile(r"^(\d+)_\d+$")
_ENDING = "_mask"


class NerveLayout:
    """S_N.tif and S_N_mask.tif, where S is the subject; in the folder itself or in its train/."""

    name = "nerve"
    expects = "Kaggle's ultrasound-nerve-segmentation: S_N.tif and S_N_mask.tif, in the folder or in its train/"

    def fits(self, root: Path) -> bool:
        """Look for a mask named as Kaggle names them."""
        return any(
            path.stem.endswith(_ENDING) and _IMAGE.match(path.stem.removesuffix(_ENDING))
            for path in list_images(_folder(root))
        )

    def find(self, root: Path) -> Found:
        """Pair images with masks; the subject is the group."""
        folder = _folder(root)
        named = name_files(folder, list_images(folder))
        files = named.files
        images = {stem: path for stem, path in files.items() if _IMAGE.match(stem)}
        masks = {stem.removesuffix(_ENDING): path for stem, path in files.items() if stem.endswith(_ENDING)}
        cases = tuple(Case(s, p, (masks[s],), s.split("_")[0]) for s, p in images.items() if s in masks)
        return Found(cases, ("nerve",), (*named.defects, *compare_names(images, masks, folder)))


def _folder(root: Path) -> Path:
    return root / "train" if (root / "train").is_dir() else root
