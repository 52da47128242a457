"""Frames for a person to label: looked for in folders, clips and DICOM files, and written with masks to correct."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, EdgesegError, OutputError, SourceError, UnknownNameError
from edgeseg.core.files import write_rows
from edgeseg.core.progress import Advance, ignore
from edgeseg.core.redact import show_name
from edgeseg.core.spec import Region
from edgeseg.data.annotations.shapes import AnnotatedImage, Shape, trace_labels
from edgeseg.data.annotations.writers import WRITERS, open_writer
from edgeseg.data.dataset import Dataset, drop_equal_channels, read_cases
from edgeseg.data.groups import GROUPS, find_group, read_groups
from edgeseg.data.reading import crop
from edgeseg.frame.images import write_image
from edgeseg.inference.segmenter import Segmenter
from edgeseg.prediction.inputs import FrameReader, InputFrame, Item, open_frames
from edgeseg.prediction.selection import Candidate, FrameLook, FramePool, is_blank, look_at, measure_doubt

_LOG = logging.getLogger(__name__)
SELECTED = "selected.csv"
COLUMNS = ("rank", "name", "source", "frame", "group", "doubt", "unlike")
# Pixels by which a drawn outline may differ from the mask: the steps of its edge need as much.
TOLERANCE = 1.5
# Files that a message names.
_NAMED = 8
# Letters that file systems, label files and tables take anywhere; a slash would be a folder.
_UNSAFE = re.compile(r'^[=+@-]|[/\\:*?"<>|]|[^\S ]')


@dataclass(frozen=True)
class Survey:
    """What was found among the unlabelled frames."""

    candidates: tuple[Candidate, ...]
    seen: int
    """Frames that were looked at."""
    blank: int
    """Frames of one brightness, which show nothing."""
    unreadable: Mapping[str, str]
    """For each file that cannot be read, why."""


@dataclass(frozen=True)
class Selected:
    """A frame that was written."""

    name: str
    candidate: Candidate
    mm_per_px: float | None
    marked: bool
    """Whether a mask was drawn beforehand."""


@dataclass
class _Tally:
    seen: int = 0
    blank: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


def check_classes(segmenter: Segmenter, labelled: Dataset) -> None:
    """Refuse labelled data with other classes than the model's: corrected labels could not go back into them."""
    ours = {spec.name for spec in segmenter.card.output.classes}
    theirs = {spec.name for spec in labelled.classes}
    if ours != theirs:
        raise DataError(
            f"Expected {labelled.root} to have the model's classes, {', '.join(sorted(ours))}, got "
            f"{', '.join(sorted(theirs))}.",
            "Name the data that the model was trained on, or a model of these data.",
        )


def look_at_cases(segmenter: Segmenter, labelled: Dataset, on_case: Advance = ignore) -> list[FrameLook]:
    """Describe how labelled images look, so that none is selected again."""
    return [look_at(image.frame, segmenter.card) for image in read_cases(labelled.cases, True, on_case=on_case)]


def group_items(items: Sequence[Item], pattern: str | None = None, root: Path | None = None) -> dict[str, str]:
    """Tell the group of each item: what the pattern finds in its name, groups.csv, its folder, or the file itself.

    The first folder below what all items share is a patient, with everything in it.

    Args:
        items: The files.
        pattern: A regular expression whose first group it is.
        root: The folder with groups.csv, if there is one.
    """
    folders = [PurePosixPath(item.name).parts[:-1] for item in items]
    shared = 0
    while folders and all(len(one) > shared and one[shared] == folders[0][shared] for one in folders):
        shared += 1
    rows = {} if root is None or pattern is not None else read_groups(root / GROUPS)[0]
    groups = {}
    for item, folder in zip(items, folders, strict=True):
        stem = PurePosixPath(item.stem).name
        if pattern is not None:
            groups[item.name] = find_group(pattern, stem)
        elif stem in rows:
            groups[item.name] = rows[stem].group
        else:
            groups[item.name] = show_name(folder[shared] if len(folder) > shared else stem)
    return groups


def survey_frames(
    items: Sequence[Item], segmenter: Segmenter, groups: Mapping[str, str], on_file: Advance = ignore
) -> Survey:
    """Let a model look at every frame; what cannot be read is left out and named.

    Args:
        items: Where the frames are.
        segmenter: The model.
        groups: The group of each item, by its name.
        on_file: Called with each file's name when it was read.
    """
    pool, tally = FramePool(), _Tally()
    for item in items:
        try:
            with open_frames(item, colour=True) as reader:
                for frame in reader:
                    _look(pool, tally, segmenter, item, reader, frame, groups[item.name])
        except EdgesegError as error:
            tally.unreadable[item.name] = str(error)
        segmenter.forget()
        on_file(item.name)
    if not tally.seen:
        first = next((f" {name}: {reason}" for name, reason in tally.unreadable.items()), "")
        raise SourceError(f"Expected frames in {len(items)} files, got none.{first}", "Copy the files again.")
    return Survey(tuple(pool.list_candidates()), tally.seen, tally.blank, tally.unreadable)


def _look(
    pool: FramePool,
    tally: _Tally,
    segmenter: Segmenter,
    item: Item,
    reader: FrameReader,
    frame: InputFrame,
    group: str,
) -> None:
    image, region = _take_region(frame.image, reader.region)
    tally.seen += 1
    look = look_at(image, segmenter.card, region)
    if is_blank(look):
        tally.blank += 1
        return
    result = segmenter.segment(image, region)
    doubt = measure_doubt(segmenter, result)
    pool.add(Candidate(item.name, frame.number, group, doubt, look, result.distance))


def _take_region(image: NDArray[Any], region: Region | None) -> tuple[NDArray[Any], Region | None]:
    """Crop a frame to the ultrasound region of its header: what is beside it may name the patient."""
    if region is None:
        return image, None
    image = crop(image, region)
    return image, Region(0, 0, image.shape[1], image.shape[0])


def write_selection(
    folder: Path,
    ranked: Sequence[Candidate],
    items: Sequence[Item],
    segmenter: Segmenter,
    form: str,
    taken: Iterable[str] = (),
    on_frame: Advance = ignore,
) -> list[Selected]:
    """Write frames with their masks as a labelling tool's files, and which frames of which groups they are.

    Args:
        folder: An existing folder.
        ranked: The frames, the most important first.
        items: Where they are.
        segmenter: Draws the masks; none on frames that are unlike those of the training.
        form: The format, as `open_writer` takes it.
        taken: Names of labelled images, which no frame may have.
        on_frame: Called with each frame's name when it was written.
    """
    names = name_frames(ranked, items, taken)
    classes = [spec.name for spec in segmenter.card.output.classes]
    writer = open_writer(form, folder, classes)
    written: dict[tuple[str, int], Selected] = {}
    by_name = {item.name: item for item in items}
    for source in dict.fromkeys(one.name for one in ranked):
        wanted = {one.frame: one for one in ranked if one.name == source}
        with open_frames(by_name[source], colour=True) as reader:
            for frame in reader:
                candidate = wanted.pop(frame.number, None)
                if candidate is not None:
                    name = names[source, frame.number]
                    image, region = _take_region(frame.image, reader.region)
                    write_image(writer.place(name), drop_equal_channels(_with_channels(image)))
                    labels = _draw(segmenter, image, region, candidate)
                    writer.add(AnnotatedImage(name, image.shape[1], image.shape[0], labels))
                    done = Selected(name, candidate, reader.mm_per_px, bool(labels))
                    written[source, frame.number] = done
                    on_frame(name)
                if not wanted:
                    break
        if wanted:
            raise SourceError(
                f"Expected frame {min(wanted)} in {source}, got fewer than when it was read first.",
                "Leave the files as they are until the command has ended, and start it again.",
            )
    writer.close()
    selected = [written[one.name, one.frame] for one in ranked]
    _write_tables(folder, selected)
    return selected


def _with_channels(image: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2) if image.ndim == 2 else image[:, :, :3]


def _draw(segmenter: Segmenter, image: NDArray[Any], region: Region | None, candidate: Candidate) -> tuple[Shape, ...]:
    if candidate.unlike:
        return ()
    result = segmenter.segment(image, region)
    segmenter.forget()
    names = [spec.name for spec in segmenter.card.output.classes]
    traced = trace_labels(result.labels, names, [finding.confidence for finding in result.findings])
    return tuple(shape for one in traced if (shape := simplify_shape(one)) is not None)


def simplify_shape(shape: Shape) -> Shape | None:
    """Leave out points that a person would have to move one by one, and holes; None where hardly anything is left.

    No point of the outline lies further than `TOLERANCE` from the simple one (Douglas and Peucker, 1973).
    """
    outline = cv2.approxPolyDP(shape.polygons[0].astype(np.float32), TOLERANCE, closed=True).reshape(-1, 2)
    if len(outline) < 3:
        return None
    return dataclasses.replace(shape, polygons=(outline.astype(np.float64),))


def _write_tables(folder: Path, selected: Sequence[Selected]) -> None:
    rows = [
        (
            rank,
            one.name,
            show_name(one.candidate.name),
            one.candidate.frame,
            one.candidate.group,
            f"{one.candidate.doubt:.4f}",
            "yes" if one.candidate.unlike else "no",
        )
        for rank, one in enumerate(selected, start=1)
    ]
    write_rows(folder / SELECTED, COLUMNS, rows)
    sized = any(one.mm_per_px is not None for one in selected)
    write_rows(
        folder / GROUPS,
        ("stem", "group", "pixel_size_mm") if sized else ("stem", "group"),
        (
            (Path(one.name).stem, one.candidate.group, *(([one.mm_per_px or ""]) if sized else ()))
            for one in sorted(selected, key=lambda one: one.name)
        ),
    )


def name_frames(
    ranked: Sequence[Candidate], items: Sequence[Item], taken: Iterable[str] = ()
) -> dict[tuple[str, int], str]:
    """Name the image of each frame: the file with its folders, and the frame's number in a clip; no two alike.

    Args:
        ranked: The frames.
        items: Their files.
        taken: Names without ending that others have.
    """
    stems = {item.name: item.stem for item in items}
    clips = {item.name for item in items if item.kind != "image"}
    used = {stem.casefold() for stem in taken}
    names: dict[tuple[str, int], str] = {}
    for one in sorted(ranked, key=lambda one: (one.name, one.frame)):
        stem = show_name(_UNSAFE.sub("_", stems[one.name])).replace("\\", "_").strip(". ") or "frame"
        stem += f"-{one.frame:06d}" if one.name in clips else ""
        # a/b_c and a_b/c would have one name
        different = (f"{stem}-{number}" for number in itertools.count(2))
        free = next(name for name in itertools.chain([stem], different) if name.casefold() not in used)
        used.add(free.casefold())
        names[one.name, one.frame] = f"{free}.png"
    return names


def is_no_selection(folder: Path) -> bool:
    """Say whether a folder is none that an earlier selection has written: its frames are being labelled."""
    return not (folder / SELECTED).is_file()


def refuse_taken(out: Path) -> None:
    """Refuse to write where something is: it may be what somebody has corrected by hand."""
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(
            f"Expected no folder at {out}, got one that is not empty.",
            "Name another --out: a selection is never overwritten, since somebody may have worked on it.",
        )


def check_format(form: str) -> None:
    """Refuse a format that no labelling tool here has, before hours of looking at frames."""
    if form not in WRITERS:
        raise UnknownNameError("format of labels", form, WRITERS)


def check_ranked(ranked: Sequence[Candidate], survey: Survey) -> None:
    """Refuse an empty selection."""
    if not ranked:
        raise DataError(
            f"Expected frames that are worth labelling, got {survey.seen} of which {survey.blank} are of one "
            "brightness and the others look nearly the same as labelled images.",
            "Name other frames.",
        )


def describe_selection(survey: Survey, selected: Sequence[Selected], count: int) -> list[str]:
    """Say in sentences what was selected."""
    groups = len({one.candidate.group for one in selected})
    lines = [f"{len(selected)} of {survey.seen} frames selected, in {groups} groups"]
    if len(selected) < count:
        lines.append(f"fewer than {count}: all others look nearly the same as one of these or a labelled image")
    empty = sum(not one.marked for one in selected)
    if empty:
        lines.append(
            f"{empty} without a mask, {sum(one.candidate.unlike for one in selected)} of these since they are "
            "unlike the training frames"
        )
    if survey.blank:
        lines.append(f"{survey.blank} frames of one brightness were left out")
    return lines


def tell_unreadable(unreadable: Mapping[str, str]) -> None:
    """Log which files were left out."""
    if unreadable:
        some = "\n  ".join(f"{name}: {reason}" for name, reason in list(unreadable.items())[:_NAMED])
        more = "\n  ..." if len(unreadable) > _NAMED else ""
        _LOG.warning("%d files cannot be read and are left out:\n  %s%s", len(unreadable), some, more)
