"""nnU-Net's raw data sets: imagesTr/NAME_0000.png, labelsTr/NAME.png and dataset.json, of version 1 or 2."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.limits import CLASSES, NAME_LETTERS
from edgeseg.core.redact import is_printable
from edgeseg.core.spec import MODALITIES
from edgeseg.data.annotations.labelled import read_labels_table
from edgeseg.data.defects import (
    DataWarning,
    ignored_label,
    missing_modalities,
    repeated_names,
    stray_labels,
    unlabelled_part,
)
from edgeseg.data.layouts.base import Found, collect_cases, compare_names
from edgeseg.data.reading import Case, Mask, Reading, check_size, find_values, join_channels, to_channels
from edgeseg.data.volumes import read_pixel_size, read_volume
from edgeseg.frame.images import SUFFIXES, read_image, to_frame

TABLE = "dataset.json"
_VOLUMES = (".nii.gz", ".nii")
# Channels of one picture.
_CHANNELS = (1, 3)
CHANNEL = re.compile(r"(?P<name>.+)_(?P<channel>\d{4})", re.DOTALL)
_BACKGROUND, _IGNORE = "background", "ignore"
# The parts by the endings of the folders' names.
_PARTS = {"train": "Tr", "test": "Ts"}


class NnunetLayout:
    """imagesTr/NAME_0000.png, labelsTr/NAME.png and dataset.json; also .nii.gz, and imagesTs with labelsTs."""

    name = "nnunet"
    expects = "nnU-Net: imagesTr/NAME_0000.png (or .nii.gz), labelsTr/NAME.png and dataset.json"

    def fits(self, root: Path) -> bool:
        """Look for imagesTr/ beside labelsTr/ or dataset.json."""
        return (root / "imagesTr").is_dir() and ((root / "labelsTr").is_dir() or os.path.lexists(root / TABLE))

    def find(self, root: Path) -> Found:
        """Pair images with label maps; the classes and channels are those of dataset.json."""
        labels, channels, ending = _read_table(root / TABLE)
        parts = {part: _list_part(root, end, ending, len(channels)) for part, end in _PARTS.items()}
        given = parts["test"] if parts["test"].cases else None
        found = [one for one in (parts["train"], given) if one is not None]
        cases = [
            dataclasses.replace(case, part=part if given else "", modalities=_name_modalities(case, channels))
            for part, one in zip(_PARTS, found, strict=False)
            for case in one.cases
        ]
        reader = _LabelReader(labels)
        done, unreadable = collect_cases(cases, lambda case: _complete(case, reader))
        counts = {case.stem for case in parts["train"].cases} & {case.stem for case in (given.cases if given else ())}
        twice = [repeated_names(root, sorted(counts))] if counts else []
        return Found(
            tuple(done),
            tuple(name for name, _ in labels.classes),
            (*(defect for one in found for defect in one.defects), *twice, *unreadable),
            (*labels.warnings(root / TABLE), *(warning for one in parts.values() for warning in one.warnings)),
        )


@dataclass(frozen=True)
class NnunetLabels:
    """The values of each class in label maps, and further values that are no class."""

    classes: tuple[tuple[str, frozenset[int]], ...]
    ignored: frozenset[int] = frozenset()

    @property
    def known(self) -> frozenset[int]:
        """List all values that may occur."""
        return frozenset({0}).union(self.ignored, *(values for _, values in self.classes))

    def warnings(self, table: Path) -> tuple[DataWarning, ...]:
        """Say what is not read."""
        return (ignored_label(table, _IGNORE),) if self.ignored else ()


@dataclass(frozen=True)
class _LabelReader:
    """Reads a case: one picture or three, and a label map."""

    labels: NnunetLabels

    def __call__(self, case: Case, colour: bool) -> Reading:
        if case.modalities:
            frame = join_channels(case, colour, _read_grey)
        elif _is_volume(case.image):
            frame = to_channels(_read_grey(case.image), colour, str(case.image))
        else:
            frame = read_image(case.image, colour)
        values = _read_labels(case.masks[0])
        check_size(values, frame, str(case.masks[0]))
        found = find_values(values)
        if values.dtype.kind == "f" or not self.labels.known.issuperset(found):
            raise stray_labels(str(case.masks[0]), sorted(found), str(max(self.labels.known)))
        return frame, tuple(_select(values, chosen) for _, chosen in self.labels.classes)


def _select(values: NDArray[Any], chosen: frozenset[int]) -> Mask:
    return np.isin(values, sorted(chosen)).astype(np.uint8)


def _is_volume(path: Path) -> bool:
    return path.name.lower().endswith(_VOLUMES)


def _read_grey(path: Path) -> NDArray[Any]:
    return to_frame(read_volume(path), str(path)) if _is_volume(path) else read_image(path)


def _read_labels(path: Path) -> NDArray[Any]:
    values = read_volume(path) if _is_volume(path) else read_image(path)
    # NIfTI writers like floating-point numbers; whole ones are labels
    whole = values.dtype.kind == "f" and bool(np.all(np.isfinite(values))) and not np.any(values % 1)
    return values.astype(np.int64) if whole else values


def _complete(case: Case, reader: _LabelReader) -> Case:
    size = read_pixel_size(case.image) if _is_volume(case.image) else None
    return dataclasses.replace(case, pixel_size_mm=size, read=reader)


def _name_modalities(case: Case, channels: Sequence[str]) -> tuple[str, ...]:
    count = 1 + len(case.others)
    # names that are not there, or not enough of them, are numbers
    named = channels if len({*channels}) == count else [f"{number:04d}" for number in range(count)]
    return tuple(named) if case.others else ()


def _list_part(root: Path, end: str, ending: str, channels: int) -> Found:
    """Pair the images of one part with its label maps; images without the folder of labels are left out."""
    files = _list_files(root / f"images{end}", ending)
    if not files:
        return Found((), ())
    images: dict[str, dict[int, Path]] = {}
    labels = _list_files(root / f"labels{end}", ending)
    for stem, path in files.items():
        found = CHANNEL.fullmatch(stem)
        # without a number it is the first channel, where there is a label map of the whole name
        name, channel = (found["name"], int(found["channel"])) if found and stem not in labels else (stem, 0)
        images.setdefault(name, {}).setdefault(channel, path)
    if not labels and end != _PARTS["train"]:
        return Found((), (), (), (unlabelled_part(root, f"images{end}", len(images)),))
    # colour PNG holds three channels in one file
    most = max(map(len, images.values()))
    wanted = 1 if most == 1 and channels in _CHANNELS else channels or most
    if wanted > MODALITIES:
        raise DataError(
            f"Expected at most {MODALITIES} channels in {root / f'images{end}'}, got {wanted}.",
            "Take a channel away: each is a modality, and the network's input has a channel for each.",
        )
    whole = {name: several for name, several in images.items() if set(several) == set(range(wanted))}
    gaps = sorted(set(images) - set(whole))
    cases = tuple(
        Case(name, several[0], (labels[name],), name, others=tuple(several[n] for n in range(1, wanted)))
        for name, several in sorted(whole.items())
        if name in labels
    )
    defects = [missing_modalities(root / f"images{end}", gaps)] if gaps else []
    return Found(cases, (), (*defects, *compare_names(images, labels, root / f"labels{end}")))


def _list_files(folder: Path, ending: str) -> dict[str, Path]:
    """List the pictures of a folder by name without ending."""
    if not folder.is_dir():
        return {}
    endings = (ending,) if ending else (*_VOLUMES, *SUFFIXES)
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        fitting = [one for one in endings if path.name.lower().endswith(one.lower())]
        if fitting and not path.name.startswith("."):
            found.setdefault(path.name[: -len(fitting[0])], path)
    return found


def _read_table(path: Path) -> tuple[NnunetLabels, tuple[str, ...], str]:
    """Read classes, names of channels and the files' ending from dataset.json."""
    if not os.path.lexists(path):
        raise DataError(
            f"Expected nnU-Net's {TABLE} in {path.parent}, got none.",
            'Write it with the labels: {"channel_names": {"0": "us"}, "labels": {"background": 0, "lesion": 1}, '
            '"file_ending": ".png"}',
        )
    table = read_labels_table(path)
    try:
        return _parse_labels(table.get("labels")), *_parse_files(table)
    except ValueError as error:
        raise DataError(
            f"Expected the labels of a data set in {path}, got others: {error}.",
            'For example "labels": {"background": 0, "lesion": 1}',
        ) from error


def read_channel_names(path: Path) -> tuple[str, ...]:
    """Read the names of the channels from dataset.json; empty where it has none."""
    return _read_table(path)[1]


def _parse_files(table: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """Parse the names of channels and the files' ending, which is empty in version 1."""
    names, ending = table.get("channel_names", table.get("modality", {})), table.get("file_ending", "")
    if not isinstance(names, dict) or not all(isinstance(one, str) and is_printable(one) for one in names.values()):
        raise ValueError("expected a table of texts as channel_names")
    if ending not in ("", *_VOLUMES, *SUFFIXES):
        raise ValueError(f"expected {', '.join((*SUFFIXES, *_VOLUMES))} as file_ending, got {str(ending)[:40]!r}")
    return tuple(dict(sorted(names.items())).values()), ending


def _parse_labels(table: Any) -> NnunetLabels:
    """Parse the values of classes: by name in version 2, where regions have several; by value in version 1."""
    if not isinstance(table, dict) or not table:
        raise ValueError("expected a table as labels")
    if all(isinstance(name, str) for name in table.values()):
        table = {name: value for value, name in table.items()}
    values = {str(name): _parse_values(value) for name, value in table.items()}
    ignored = values.pop(_IGNORE, frozenset())
    classes = {name: found for name, found in values.items() if found != {0} and name != _BACKGROUND}
    if not all(0 < len(name.strip()) <= NAME_LETTERS for name in classes):
        raise ValueError(f"expected names of 1 to {NAME_LETTERS} letters for the labels")
    if (
        not 0 < len(classes) <= CLASSES
        or len(classes) + 1 < len(values)
        or any(0 in found for found in classes.values())
    ):
        raise ValueError(f"expected background 0, and 1 to {CLASSES} classes with values of their own")
    return NnunetLabels(tuple(sorted(classes.items(), key=lambda item: (min(item[1]), sorted(item[1])))), ignored)


def _parse_values(value: Any) -> frozenset[int]:
    several = value if isinstance(value, list) else [value]
    numbers = [int(one) if isinstance(one, str) and one.isdecimal() and len(one) < 6 else one for one in several]
    if not numbers or not all(type(one) is int and 0 <= one <= 65535 for one in numbers):
        raise ValueError(f"expected whole numbers from 0 as values of labels, got {str(value)[:40]}")
    return frozenset(numbers)


def describe_nnunet(classes: Sequence[str], channels: Sequence[str], cases: int) -> Mapping[str, Any]:
    """Build the table dataset.json of PNG files."""
    return {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {_BACKGROUND: 0, **{name: number for number, name in enumerate(classes, start=1)}},
        "numTraining": cases,
        "file_ending": ".png",
    }
