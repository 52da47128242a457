"""Write labels in the format of a labelling tool, image by image: memory stays flat, and an interruption loses none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from edgeseg.core.errors import UnknownNameError
from edgeseg.data.annotations.coco import CocoWriter
from edgeseg.data.annotations.cvat import CvatWriter
from edgeseg.data.annotations.labelme import LabelMeWriter
from edgeseg.data.annotations.shapes import AnnotatedImage
from edgeseg.data.annotations.yolo import YoloWriter


class AnnotationWriter(Protocol):
    """Writes the labels of images into a folder; the images themselves are written by the caller, if at all."""

    @property
    def added(self) -> frozenset[str]:
        """Names of the images added so far, those before an interruption included."""

    def place(self, name: str, part: str = "") -> Path:
        """Return where the tool looks for an image: write it there, and it opens at once."""

    def add(self, image: AnnotatedImage, part: str = "") -> None:
        """Write the labels of an image; those of the same name are replaced.

        Args:
            image: The labels; its name may have folders, with slashes.
            part: train, val or test, where the format has a place for it; empty if nobody divided the images.
        """

    def close(self) -> None:
        """Write what belongs to all images; without it, a later writer with `resume` goes on."""


WRITERS: dict[str, Callable[[Path, Sequence[str], bool], AnnotationWriter]] = {
    "coco": CocoWriter,
    "labelme": LabelMeWriter,
    "yolo": YoloWriter,
    "cvat": CvatWriter,
}


def open_writer(name: str, folder: Path, classes: Sequence[str], resume: bool = False) -> AnnotationWriter:
    """Begin to write labels; files of somebody else are never replaced.

    Args:
        name: The format: coco, labelme, yolo or cvat.
        folder: Where to write; it may hold other files.
        classes: Names of all classes, in their order.
        resume: Whether to go on after an interruption: what was added before stays.
    """
    if name not in WRITERS:
        raise UnknownNameError("format of labels", name, WRITERS)
    return WRITERS[name](folder, classes, resume)
