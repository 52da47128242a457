"""What a folder that fits no layout holds, said in one sentence, and the nearest way to read it."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from edgeseg.core.errors import DataError
from edgeseg.core.redact import show_name
from edgeseg.data.coding import ValueSurvey, find_coding
from edgeseg.data.layouts.base import Layout
from edgeseg.data.layouts.tree import Folder, find_wrapper, is_mask_name, read_place, reduce_name, scan_images

# Pictures of a folder, and folders, that are read to guess what they are.
_PEEKED, _MOST_FOLDERS = 3, 40
# Entries of a folder without images that are counted for the message.
_COUNTED = 2000
# What edgeseg train writes, among pictures of its own.
RUN = "run.json"
_DOCS = "docs/reference/data.md shows each."


def explain_folder(root: Path, layouts: Sequence[Layout]) -> DataError:
    """Say why a folder fits no layout.

    Args:
        root: The folder.
        layouts: The layouts that were tried.
    """
    if (root / RUN).is_file():
        return DataError(
            f"Expected labelled images in {root}, got a run of edgeseg.",
            "Name the folder of images and masks that the run was trained on, or another.",
        )
    inner = find_inner(root, layouts)
    if inner is not None:
        return DataError(
            f"Expected labelled images in {root}, got one folder around them: the images are in {inner}.",
            f"Name that folder: {shlex.quote(str(inner))}",
        )
    tree = scan_images(root)
    listed = f"  Layouts: {', '.join(layout.name for layout in layouts)}. {_DOCS}"
    if not tree:
        return DataError(f"Expected labelled images in {root}, got {_count_others(root)}.", listed.strip())
    masks = [folder for folder in islice(tree, _MOST_FOLDERS) if _look_like_masks(root, folder, tree[folder])]
    images = [folder for folder in tree if folder not in masks]
    if masks and images:
        return _tell_masks(root, tree, images[0], masks[0], listed)
    return _tell_no_pairs(root, tree, masks, listed)


def find_inner(root: Path, layouts: Sequence[Layout]) -> Path | None:
    """Find the folder inside that holds the labelled images, where one that says nothing lies around them."""
    wrapper = find_wrapper(scan_images(root))
    if wrapper and read_place(wrapper).rest == wrapper:
        return root.joinpath(*wrapper)
    folders = sorted(path for path in islice(root.iterdir(), _COUNTED) if path.is_dir())
    inner = [folder for folder in folders[:_MOST_FOLDERS] if not folder.name.startswith((".", "__"))]
    fitting = [folder for folder in inner if any(layout.fits(folder) for layout in layouts)]
    return fitting[0] if len(fitting) == 1 else None


def _count_others(root: Path) -> str:
    """Count the files of a folder without images by their endings."""
    names = (name for _, _, files in os.walk(root) for name in files if not name.startswith("."))
    counts = Counter(Path(name).suffix.lower() or "no ending" for name in islice(names, _COUNTED))
    if not counts:
        return "an empty folder"
    shown = ", ".join(f"{count} of {show_name(ending)}" for ending, count in counts.most_common(3))
    return f"no images (files: {shown})"


def _look_like_masks(root: Path, folder: Folder, names: Sequence[str]) -> bool:
    """Say whether the first pictures of a folder hold a few solid values only, as masks do and scans never."""
    survey = ValueSurvey()
    try:
        for name in names[:: len(names) // _PEEKED + 1]:
            survey.add(root.joinpath(*folder, name))
        return bool(survey.values - {0}) and find_coding(survey, root).classes > 0
    except DataError:  # a photograph, a JPEG, or a damaged file
        return False


def _tell_masks(root: Path, tree: Mapping[Folder, list[str]], images: Folder, masks: Folder, listed: str) -> DataError:
    shown = [shlex.quote("/".join(folder) or ".") for folder in (images, masks)]
    shared = {reduce_name(Path(name).stem) for name in tree[images]} & {
        reduce_name(Path(name).stem) for name in tree[masks]
    }
    if shared:
        return DataError(
            f"Expected labelled images in {root}, got none of the known layouts, but {'/'.join(masks) or root.name}/ "
            "looks like masks.",
            f"Try: --images {shown[0]} --masks {shown[1]}\n{listed}",
        )
    return DataError(
        f"Expected masks in {root} with the names of their images, got {show_name(tree[images][0])} in "
        f"{'/'.join(images) or '.'}/ and {show_name(tree[masks][0])} in {'/'.join(masks) or '.'}/.",
        f"Name each mask as its image, or with an ending such as _mask.\n{listed}",
    )


def _tell_no_pairs(root: Path, tree: Mapping[Folder, list[str]], masks: Sequence[Folder], listed: str) -> DataError:
    count = sum(len(names) for names in tree.values())
    if masks:
        return DataError(
            f"Expected images and masks in {root}, got {count} pictures that all look like masks.",
            f"Put the images beside them, or name their folder: --images DIR\n{listed}",
        )
    named = [name for names in tree.values() for name in names if is_mask_name(Path(name).stem)]
    got = f"{count} images, of which none is named as the mask of another" if named else f"{count} images and no masks"
    return DataError(
        f"Expected labelled images in {root}, got {got}.",
        f"Masks that lie elsewhere: --masks DIR. Images without masks: edgeseg predict MODEL {shlex.quote(str(root))}"
        f"\n{listed}",
    )
