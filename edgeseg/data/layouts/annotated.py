"""Images with the files of a labelling tool: COCO, LabelMe, YOLO segmentation and CVAT for images."""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from edgeseg.core.errors import DataError
from edgeseg.core.spec import MASKS, POINTS, SCRIBBLES
from edgeseg.data.annotations.coco import read_coco
from edgeseg.data.annotations.cvat import read_cvat
from edgeseg.data.annotations.labelled import (
    ImageFinder,
    ImageLabels,
    LabelSet,
    find_part,
    leaves_folder,
    walk_files,
)
from edgeseg.data.annotations.labelme import read_embedded, read_labelme
from edgeseg.data.annotations.problems import Problems
from edgeseg.data.annotations.shapes import BACKGROUND, draw_shapes, find_kind, find_weak
from edgeseg.data.annotations.yolo import LIST, NAMES, find_highest_class, read_class_names, read_yolo
from edgeseg.data.defects import repeated_names
from edgeseg.data.layouts.base import Found
from edgeseg.data.reading import Case, Reading
from edgeseg.data.weak_labels import WeakLabels
from edgeseg.frame.images import SUFFIXES, read_image

# Files that are looked into to recognise a layout, and how much of each: keys stand at the start or at the end.
_PEEKED_FILES, _PEEKED_BYTES = 64, 65_536
_COCO_KEY = re.compile(rb'"(images|annotations|categories)"\s*:')
_LABELME_KEY = re.compile(rb'"(shapes|imagePath)"\s*:')
_CVAT_KEY = re.compile(rb"<annotations[\s>]")
# Other tables of the COCO data sets, which list the same images.
_COCO_OTHERS = ("captions", "person_keypoints", "panoptic", "stuff", "image_info")
_COCO_DEPTH = 2
_YOLO_LINE = re.compile(r"\s*\d+(\s+[-+]?([.\deE+-]+|nan|inf)){4,}\s*")
# Folders in which tools keep images; they are no patients.
_IMAGE_FOLDERS = frozenset(("images", "image", "imgs", "img", "jpegimages", "data", "obj_train_data", "default"))
_LABELS, _IMAGES = "labels", "images"


class CocoLayout:
    """annotations/instances_PART.json and images in a folder beside it, or _annotations.coco.json beside the images."""

    name = "coco"
    expects = "COCO: a JSON file with images, annotations and categories, such as annotations/instances_train.json"

    def fits(self, root: Path) -> bool:
        """Look for a JSON file with the keys of COCO."""
        return bool(_list_coco(root))

    def find(self, root: Path) -> Found:
        """Read all files; each may hold one part."""
        problems = Problems()
        files = _require(_list_coco(root), "a COCO file", root)
        return build_found(root, read_coco(_inside(files, root, problems), problems), problems)


class LabelMeLayout:
    """x.json beside x.png, or in a folder of its own."""

    name = "labelme"
    expects = "LabelMe: a JSON file for each image, x.json beside x.png, with shapes and imagePath"

    def fits(self, root: Path) -> bool:
        """Look for a JSON file with the keys of LabelMe."""
        return any(_has_keys(path, _LABELME_KEY, 2) for path in islice(walk_files(root, (".json",)), _PEEKED_FILES))

    def find(self, root: Path) -> Found:
        """Read the labels of all images; images without a file are not labelled yet."""
        problems, finder = Problems(), ImageFinder(root)
        images = {(path.parent, path.stem) for path in finder.images}
        files = [
            path
            for path in walk_files(root, (".json",))
            # a damaged file has no keys, but its image stands beside it
            if (path.parent, path.stem) in images or _has_keys(path, _LABELME_KEY, 2)
        ]
        listed = root / "labels.txt"
        names = read_class_names(listed) if listed.is_file() else ()
        labels = read_labelme(_inside(_require(files, "LabelMe files", root), root, problems), names, problems)
        return build_found(root, labels, problems, finder)


class YoloLayout:
    """data.yaml, images/PART/x.png and labels/PART/x.txt; also PART/images/ and PART/labels/, or all in one folder."""

    name = "yolo"
    expects = "YOLO segmentation: images/train/x.png and labels/train/x.txt with outlines, and data.yaml with names"

    def fits(self, root: Path) -> bool:
        """Look for a text file with outlines or boxes beside an image, or in labels/."""
        texts = islice((path for path in walk_files(root, (".txt",)) if path.name not in NAMES), _PEEKED_FILES)
        folders = {path.parent for path in walk_files(root, SUFFIXES)}
        return any(
            (_LABELS in path.relative_to(root).parts or path.parent in folders) and _is_yolo(path) for path in texts
        )

    def find(self, root: Path) -> Found:
        """Pair images with text files; an image without one shows nothing, as YOLO has it."""
        problems, finder = Problems(), ImageFinder(root)
        pairs = list(_pair_yolo(root, finder, problems))
        names = _find_yolo_names(root)
        if names is None:
            problems.note("no-class-names", root.name)
            highest = max((find_highest_class(labels) for _, labels, _ in pairs if labels is not None), default=-1)
            names = tuple(f"class_{number}" for number in range(highest + 1))
        labels = read_yolo(pairs, names, problems)
        return build_found(root, labels, problems, finder)


class CvatLayout:
    """annotations.xml of CVAT for images 1.1, and the images beside it or in images/."""

    name = "cvat"
    expects = "CVAT for images 1.1: annotations.xml, and images/ (Export with images)"

    def fits(self, root: Path) -> bool:
        """Look for XML with CVAT's element."""
        return bool(_list_cvat(root))

    def find(self, root: Path) -> Found:
        """Read all files, one for each task."""
        problems = Problems()
        files = _require(_list_cvat(root), "annotations.xml", root)
        return build_found(root, read_cvat(_inside(files, root, problems), problems), problems)


@dataclass(frozen=True)
class _WeakLabelReader:
    """Finds what the boxes, points and lines of an image leave open."""

    labels: ImageLabels
    classes: tuple[str, ...]

    def __call__(self, case: Case, size: tuple[int, int]) -> WeakLabels | None:  # noqa: ARG002 - of every reader
        return find_weak(self.labels.load(size).shapes, self.classes, size)


@dataclass(frozen=True)
class _LabelReader:
    """Reads an image and draws its labels, one mask for each class."""

    labels: ImageLabels
    classes: tuple[str, ...]

    def __call__(self, case: Case, colour: bool) -> Reading:
        frame = read_embedded(case.image, colour) if self.labels.embedded else read_image(case.image, colour)
        drawn = self.labels.load((frame.shape[0], frame.shape[1]))
        return frame, draw_shapes(drawn.shapes, self.classes, (frame.shape[0], frame.shape[1]))


def build_found(root: Path, labels: LabelSet, problems: Problems, finder: ImageFinder | None = None) -> Found:
    """Make cases of labels: find their images, name them, and note what is wrong.

    Args:
        root: The data folder.
        labels: What the tool's files say.
        problems: What was wrong with them.
        finder: The images of the folder, if they were listed.
    """
    finder = finder or ImageFinder(root)
    found: dict[Path, ImageLabels] = {}
    names = Counter(one.file_name for one in labels.images)
    for one in labels.images:
        path = _find_image(one, finder, names[one.file_name] == 1, problems)
        if path is not None and path in found:
            problems.note("repeated-image", path.name)
        elif path is not None:
            found[path] = one
    for path in finder.images:
        if path not in found:
            problems.note("unlabelled", path.name)
    _refuse_no_background(root, labels)
    classes = _drop_unused(labels, problems)
    stems, repeated = name_images(root, found)
    groups = name_groups(root, found)
    parts = {path: one.part or _find_part(root, path) for path, one in found.items()}
    # a lone part is divided like any other data
    given = parts if len(set(parts.values())) > 1 else dict.fromkeys(parts, "")
    cases = tuple(
        Case(
            stems[path],
            path,
            () if one.file == path else (one.file,),
            groups.get(path, stems[path]),
            part=given[path],
            read=_LabelReader(dataclasses.replace(one, embedded=one.embedded and path == one.file), classes),
            labels=find_kind(one.kinds),
            read_weak=None if find_kind(one.kinds) == MASKS else _WeakLabelReader(one, classes),
        )
        for path, one in found.items()
        if stems[path] not in repeated
    )
    twice = (repeated_names(root, sorted(repeated)),) if repeated else ()
    return Found(cases, classes, (*problems.defects(root), *twice), problems.warnings())


def _refuse_no_background(root: Path, labels: LabelSet) -> None:
    """Refuse points and lines on one thing alone: all else could be that thing, too."""
    marked = [one for one in labels.images if find_kind(one.kinds) in (POINTS, SCRIBBLES)]
    drawn = [one for one in labels.images if one.kinds]
    if marked and len(marked) == len(drawn) and all(len(one.classes) < 2 for one in marked):
        raise DataError(
            f"Expected points or lines on the background in {root}, too, got those of one class in each image.",
            f"Mark what is nothing with the label {BACKGROUND[0]}, or draw outlines or boxes in some images.",
        )


def _find_image(labels: ImageLabels, finder: ImageFinder, alone: bool, problems: Problems) -> Path | None:
    """Find the image of labels; None where there is none, several or only one outside the folder."""
    found = [labels.image] if labels.image is not None else finder.find(labels, alone)
    if not found and labels.embedded:
        return labels.file
    if len(found) == 1 and not leaves_folder(found[0], finder.root):
        return found[0]
    if len(found) > 1:
        problems.note("ambiguous-image", labels.name)
    else:
        leaves = bool(found) or finder.leaves(labels)
        problems.note("outside-folder" if leaves else "labels-without-image", labels.name)
    return None


def _drop_unused(labels: LabelSet, problems: Problems) -> tuple[str, ...]:
    """Leave out classes that are drawn nowhere; where nothing is drawn at all they stay."""
    for name in labels.classes if labels.used else ():
        if name not in labels.used:
            problems.note("unused-class", name)
    return tuple(name for name in labels.classes if name in labels.used) or labels.classes


def name_images(root: Path, images: Iterable[Path]) -> tuple[dict[Path, str], set[str]]:
    """Name images by their files; with their folders where several files have one name.

    Returns:
        The names, and those that are not unique nevertheless.
    """
    files = list(images)
    stems = {path: path.stem for path in files}
    for sign, skipped in (("_", _IMAGE_FOLDERS), ("_", frozenset()), ("__", frozenset())):
        if len(set(stems.values())) == len(stems):
            break
        for path in files:
            names = path.relative_to(root).with_suffix("").parts
            stems[path] = sign.join([*(name for name in names[:-1] if name.lower() not in skipped), names[-1]])
    return stems, {stem for stem, count in Counter(stems.values()).items() if count > 1}


def name_groups(root: Path, images: Iterable[Path]) -> dict[Path, str]:
    """Name groups by the folders of images (patients), without those that tools make; empty for a single folder."""
    folders = {path: "/".join(_list_patient_folders(path.relative_to(root).parts[:-1])) for path in images}
    several = len({folder for folder in folders.values() if folder}) > 1
    return {path: folder for path, folder in folders.items() if folder} if several else {}


def _list_patient_folders(folders: Sequence[str]) -> Iterator[str]:
    return (name for name in folders if name.lower() not in _IMAGE_FOLDERS and not find_part(name))


def _find_part(root: Path, path: Path) -> str:
    """Find the part in the names of an image's folders, the innermost first."""
    return next((part for name in path.relative_to(root).parts[-2::-1] if (part := find_part(name))), "")


def _require(files: Sequence[Path], what: str, root: Path) -> Sequence[Path]:
    if not files:
        raise DataError(f"Expected {what} in {root}, got none.", "Name another folder or another layout.")
    return files


def _inside(files: Sequence[Path], root: Path, problems: Problems) -> list[Path]:
    """Leave out links to files outside the folder, and note them."""
    for path in files:
        if leaves_folder(path, root):
            problems.note("outside-folder", path.name)
    return [path for path in files if not leaves_folder(path, root)]


def _list_coco(root: Path) -> list[Path]:
    """List the files that look like COCO's, of which instances_... are preferred."""
    files = [path for path in walk_files(root, (".json",)) if len(path.relative_to(root).parts) <= _COCO_DEPTH]
    found = [
        path
        for path in files[:_PEEKED_FILES]
        if not path.name.startswith(_COCO_OTHERS) and _has_keys(path, _COCO_KEY, 2)
    ]
    return [path for path in found if path.name.startswith("instances")] or found


def _list_cvat(root: Path) -> list[Path]:
    files = [path for path in walk_files(root, (".xml",)) if len(path.relative_to(root).parts) <= _COCO_DEPTH]
    return [path for path in files[:_PEEKED_FILES] if _CVAT_KEY.search(_peek(path))]


def _pair_yolo(root: Path, finder: ImageFinder, problems: Problems) -> Iterator[tuple[Path, Path | None, str]]:
    """Pair images with their labels: images/ against labels/ at the same place, or both in one folder."""
    texts = {path for path in walk_files(root, (".txt",)) if path.name not in NAMES}
    folders = {path.parent for path in texts}
    left = {path for path in texts if _LABELS in path.relative_to(root).parts[:-1]}
    for image in sorted(finder.images):
        if leaves_folder(image, root):
            problems.note("outside-folder", image.name)
            continue
        labels = _swap_folder(root, image)
        if labels.parent not in folders:
            continue
        if leaves_folder(labels, root):
            problems.note("outside-folder", labels.name)
        left.discard(labels)
        if not leaves_folder(labels, root):
            yield image, labels if labels in texts else None, _find_part(root, image)
    for path in sorted(left):
        problems.note("labels-without-image", path.name)


def _swap_folder(root: Path, image: Path) -> Path:
    """Return where YOLO looks for an image's labels: the last folder images/ is labels/."""
    folders = list(image.relative_to(root).parts[:-1])
    for place in range(len(folders) - 1, -1, -1):
        if folders[place] == _IMAGES:
            folders[place] = _LABELS
            break
    return root.joinpath(*folders, f"{image.stem}.txt")


def _find_yolo_names(root: Path) -> tuple[str, ...] | None:
    """Read the names of the classes from data.yaml, else from a list beside the labels; None without either."""
    listed = [path for path in walk_files(root, (".yaml", ".yml")) if b"names" in _peek(path)]
    listed += [path for path in walk_files(root, (".txt", ".names")) if path.name in NAMES]
    return read_class_names(min(listed, key=lambda path: (len(path.parts), path.name != LIST))) if listed else None


def _is_yolo(path: Path) -> bool:
    """Say whether the first line of a text file is a class and at least four numbers."""
    lines = _peek(path).decode("utf-8", "replace").lstrip("\ufeff").split("\n", 1)
    return _YOLO_LINE.fullmatch(lines[0]) is not None


def _has_keys(path: Path, keys: re.Pattern[bytes], number: int) -> bool:
    """Say whether a JSON table has a number of keys, from its start and its end."""
    data = _peek(path)
    return data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and len(set(keys.findall(data))) >= number


def _peek(path: Path) -> bytes:
    """Read start and end of a regular file; nothing of others."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(handle, "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            return b""
        start = file.read(_PEEKED_BYTES)
        file.seek(max(state.st_size - _PEEKED_BYTES, len(start)))
        return start + file.read(_PEEKED_BYTES)
