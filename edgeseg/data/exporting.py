"""Write a data set in the format of a labelling tool, or of nnU-Net, with its images beside the labels."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from edgeseg.core.errors import UnknownNameError
from edgeseg.core.files import write_json, write_rows
from edgeseg.core.progress import Advance, ignore
from edgeseg.core.spec import InputSpec
from edgeseg.data.annotations.shapes import AnnotatedImage, trace_mask
from edgeseg.data.annotations.writers import WRITERS, open_writer
from edgeseg.data.dataset import Dataset, LabelledImage, drop_equal_channels, read_cases, refuse_weak
from edgeseg.data.frame_labels import COLUMNS, LABELS, list_labels
from edgeseg.data.groups import GROUPS, write_groups
from edgeseg.data.layouts.nnunet import TABLE, describe_nnunet
from edgeseg.frame.images import read_image, write_image

_LOG = logging.getLogger(__name__)
Exporter = Callable[[Dataset, Path, Advance], None]


def export_dataset(dataset: Dataset, out: Path, name: str, on_case: Advance = ignore) -> None:
    """Write a data set in another format into an existing folder.

    Images are written as PNG, pixel by pixel as they are read. Groups, parts, pixel sizes and labels of frames go into
    groups.csv and labels.csv, which every layout reads; parts also where the format has a place for them.

    Args:
        dataset: What to write.
        out: The folder.
        name: The format.
        on_case: Called with each case's name when it was written.
    """
    if name not in EXPORTERS:
        raise UnknownNameError("format", name, EXPORTERS)
    refuse_weak(dataset)
    EXPORTERS[name](dataset, out, on_case)
    write_groups(out / GROUPS, dataset.cases)
    if list_labels(dataset.cases):
        write_rows(out / LABELS, COLUMNS, ((case.stem, case.label) for case in dataset.cases if case.label))


def _write_annotations(dataset: Dataset, out: Path, on_case: Advance, name: str) -> None:
    """Write labels as shapes, with the images where the tool looks for them."""
    classes = [spec.name for spec in dataset.classes]
    writer = open_writer(name, out, classes)
    for image in read_cases(dataset.cases, True):
        case = image.case
        file_name = f"{case.stem}.png"
        write_image(writer.place(file_name, case.part), drop_equal_channels(image.frame))
        writer.add(_annotate(image, file_name, classes), case.part)
        on_case(case.stem)
    writer.close()


def _annotate(image: LabelledImage, name: str, classes: list[str]) -> AnnotatedImage:
    height, width = image.frame.shape[:2]
    shapes = tuple(
        shape for class_name, mask in zip(classes, image.masks, strict=True) for shape in trace_mask(mask, class_name)
    )
    return AnnotatedImage(name, width, height, shapes)


def _write_nnunet(dataset: Dataset, out: Path, on_case: Advance) -> None:
    """Write imagesTr/, labelsTr/ and dataset.json; test cases into imagesTs/ and labelsTs/."""
    grey: list[Path] = []
    colour, overlapping, counts = False, 0, Counter[str]()
    modalities = next((case.modalities for case in dataset.cases if case.modalities), ())
    for image in read_cases(dataset.cases, InputSpec(16, 16, modalities=modalities) if modalities else True):
        end = "Ts" if image.case.part == "test" else "Tr"
        channels = (
            [image.frame[:, :, number] for number in range(len(modalities))]
            if modalities
            else [drop_equal_channels(image.frame)]
        )
        for number, channel in enumerate(channels):
            path = out / f"images{end}" / f"{image.case.stem}_{number:04d}.png"
            write_image(path, channel)
            grey += [path] if channel.ndim == 2 and not modalities else []
        write_image(out / f"labels{end}" / f"{image.case.stem}.png", image.labels)
        colour, overlapping = colour or channels[0].ndim == 3, overlapping + image.overlapping
        counts[end] += 1
        on_case(image.case.stem)
    for path in grey if colour else ():  # nnU-Net wants as many channels in each image
        write_image(path, read_image(path, colour=True))
    if overlapping:
        _LOG.warning("%d images have pixels of several classes: nnU-Net's labels keep the last of them.", overlapping)
    names = modalities or (("red", "green", "blue") if colour else ("ultrasound",))
    write_json(out / TABLE, describe_nnunet([spec.name for spec in dataset.classes], names, counts["Tr"]))


EXPORTERS: dict[str, Exporter] = {name: partial(_write_annotations, name=name) for name in WRITERS} | {
    "nnunet": _write_nnunet
}
