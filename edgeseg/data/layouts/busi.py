"""BUSI as published: breast ultrasound in folders by finding, with one or several masks for each image."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from edgeseg.core.images import list_images, read_image
from edgeseg.data.case import Case
from edgeseg.data.layouts.base import Found, compare_names, name_files
from edgeseg.data.reading import Reading, read_mask

FINDINGS = ("benign", "malignant", "normal")
_IMAGE = re.compile(r"^(?:benign|malignant|normal) \(\d+\)$")
_MASK = re.compile(r"^((?:benign|malignant|normal) \(\d+\))_mask(?:_\d+)?$")


class BusiLayout:
    """Folders benign, malignant and normal; `benign (1).png`, `benign (1)_mask.png`, `benign (1)_mask_1.png`."""

    name = "busi"
    expects = "BUSI as published: benign/benign (1).png, benign/benign (1)_mask.png, ..._mask_1.png; malignant; normal"

    def fits(self, root: Path) -> bool:
        """Look for an image named as BUSI names them."""
        return any(_IMAGE.match(path.stem) for path in _list_all(root))

    def find(self, root: Path) -> Found:
        """Collect the masks of each image; patients are not published, so every image is a group of its own."""
        named = name_files(root, _list_all(root))
        files = named.files.values()
        images = {path.stem: path for path in files if _IMAGE.match(path.stem)}
        masks: dict[str, list[Path]] = {}
        for path in files:
            found = _MASK.match(path.stem)
            if found:
                masks.setdefault(found.group(1), []).append(path)
        cases = tuple(Case(s, p, tuple(masks[s]), s, read=read_merged) for s, p in images.items() if s in masks)
        return Found(cases, ("lesion",), (*named.defects, *compare_names(images, masks, root)))


def read_merged(case: Case, colour: bool) -> Reading:
    """Read an image and unite its masks."""
    frame = read_image(case.image, colour)
    return frame, (np.maximum.reduce([read_mask(path, frame) for path in case.masks]),)


def _list_all(root: Path) -> list[Path]:
    return [path for name in FINDINGS if (root / name).is_dir() for path in list_images(root / name)]
