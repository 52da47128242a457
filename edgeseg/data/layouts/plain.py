"""Images and masks of the same names in two folders: the layout that `data import` and `data synth` write."""

from __future__ import annotations

from pathlib import Path

from edgeseg.core.images import list_images
from edgeseg.data.layouts.base import Found, list_folder, mask_folders, name_files, pair_files


class PlainLayout:
    """images/NAME.png and masks/NAME.png; several classes in masks_CLASS/."""

    name = "plain"
    expects = "images/NAME.png and masks/NAME.png (several classes: masks_CLASS/NAME.png)"

    def fits(self, root: Path) -> bool:
        """Look for images/ and masks/."""
        return (root / "images").is_dir() and bool(list_images(root / "images")) and bool(mask_folders(root))

    def find(self, root: Path) -> Found:
        """Pair images with masks by name; every image is a group of its own."""
        return pair_files(root, name_files(root / "images", list_folder(root, "images")))
