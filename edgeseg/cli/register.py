"""`edgeseg register`: bring one image onto another, the frames of a clip onto each other, or compare two exams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeseg.cli.common import (
    GATE_NOT_HELD,
    JsonOption,
    OverwriteOption,
    ThreadsOption,
    keep_inputs,
    save_json,
)
from edgeseg.core.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeseg.inference.segmenter import Segmenter
    from edgeseg.registration.clips import FrameRegistration
    from edgeseg.registration.learned import LearnedRegistration
    from edgeseg.registration.register import Registration

    Labels = NDArray[np.uint8]

KindOption = Annotated[
    str | None,
    typer.Option(
        metavar="rigid|similarity|affine|deformable",
        help="Kind of motion; by default affine, deformable with such a method, and rigid with --follow-up.",
        show_default=False,
    ),
]
MethodOption = Annotated[
    str,
    typer.Option(
        metavar="auto|ecc|features|dis|bspline|learned",
        help="How it is searched: ecc and features for linear kinds; dis (device) and bspline (SimpleITK, slow and "
        "more accurate) for deformable ones, and learned, with --model.",
    ),
]
FixedMaskOption = Annotated[
    Path | None, typer.Option("--fixed-mask", metavar="F", help="Mask of the fixed image.", show_default=False)
]
MovingMaskOption = Annotated[
    Path | None, typer.Option("--moving-mask", metavar="M", help="Mask of the moving image.", show_default=False)
]
MaskModelOption = Annotated[
    Path | None,
    typer.Option(
        metavar="MODEL|RUN",
        help="A model that makes both masks; with --method learned the file that registers.",
        show_default=False,
    ),
]
DriveOption = Annotated[
    str,
    typer.Option(metavar="auto|image|mask|both", help="What is matched; auto is the images, and needs no masks."),
]
ToOption = Annotated[
    str, typer.Option(metavar="previous|first", help="Of a clip: the frame that each other is moved onto.")
]
FieldsOption = Annotated[
    bool, typer.Option("--fields", help="Of a clip: write the field and the moved image of every frame.")
]
FollowUpOption = Annotated[
    bool, typer.Option("--follow-up", help="Compare a finding in two exams: area, diameters, shape; needs masks.")
]
PixelOption = Annotated[
    float | None, typer.Option(help="Size of a pixel in mm, where the files do not know it.", show_default=False)
]
NiftiOption = Annotated[bool, typer.Option("--nifti", help="Write the field as NIfTI as well (extra `medical`).")]


@dataclass(frozen=True)
class _Work:
    """What is to be registered, and how."""

    fixed: Path
    moving: Path | None
    kind: str | None
    method: str
    drive: str
    masks: tuple[Path, Path] | None
    mm_per_px: float | None
    network: LearnedRegistration | None
    segmenter: Segmenter | None


def register(
    fixed: Annotated[
        Path,
        typer.Argument(help="The image that stays, or a clip (video, DICOM) if it is alone.", metavar="FIXED|CLIP"),
    ],
    moving: Annotated[
        Path | None, typer.Argument(help="The image that is moved onto it.", metavar="MOVING", show_default=False)
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    kind: KindOption = None,
    method: MethodOption = "auto",
    fixed_mask: FixedMaskOption = None,
    moving_mask: MovingMaskOption = None,
    model: MaskModelOption = None,
    drive: DriveOption = "auto",
    to: ToOption = "previous",
    fields: FieldsOption = False,
    follow_up: FollowUpOption = False,
    mm_per_px: PixelOption = None,
    nifti: NiftiOption = False,
    threads: ThreadsOption = 1,
    overwrite: OverwriteOption = False,
    json_out: JsonOption = None,
) -> None:
    """Find the motion between two images, and move one onto the other.

    The folder holds the moved image and mask, the displacement field (`displacement.npy`: height, width, 2, as
    dx, dy in pixels of the fixed image, with moved(x) = moving(x + d)), a checkerboard, the difference before and
    after, and `registration.json`. With one clip instead of two images every frame is moved onto the one before.

    The exit code is 3 if the images are not alike after the search; what was found is written all the same.

    Example: `edgeseg register before.png after.png --kind deformable --out moved`
    """
    import cv2

    from edgeseg.core.files import staged_folder

    masks = _take_masks(fixed_mask, moving_mask, moving)
    _check_pixel_size(mm_per_px)
    _refuse_unused(moving, to, fields, nifti, follow_up)
    keep_inputs([fixed, moving, model, *(masks or ())], [out, json_out])
    cv2.setNumThreads(threads)
    network, segmenter = _open(model, method, threads, masks is not None, follow_up)
    work = _Work(fixed, moving, kind, method, drive, masks, mm_per_px, network, segmenter)
    with staged_folder(out, overwrite) as folder:
        if follow_up:
            figures, converged, lines = _follow_up(folder, work)
        elif moving is None:
            figures, converged, lines = _clip(folder, work, to, fields)
        else:
            figures, converged, lines = _pair(folder, work, moving, nifti)
    save_json(json_out, figures)
    for line in lines:
        print(line)
    print(f"Written to {out}.")
    if not converged:
        raise typer.Exit(GATE_NOT_HELD)


def _take_masks(fixed: Path | None, moving: Path | None, image: Path | None) -> tuple[Path, Path] | None:
    """Both masks or none: one alone is a slip, and a clip's frames have none here."""
    if fixed is None and moving is None:
        return None
    if fixed is None or moving is None:
        lacking = "--fixed-mask F" if fixed is None else "--moving-mask M"
        raise typer.BadParameter(f"expected --fixed-mask F and --moving-mask M, or neither; {lacking} is missing")
    if image is None:
        raise typer.BadParameter(
            "expected two images with --fixed-mask and --moving-mask, got one; for a clip give --model"
        )
    return fixed, moving


def _refuse_unused(moving: Path | None, to: str, fields: bool, nifti: bool, follow_up: bool) -> None:
    """Refuse options that this kind of work would leave unread."""
    if moving is not None and (fields or to != "previous"):
        raise typer.BadParameter("expected --to and --fields with one clip, got two images")
    if nifti and (moving is None or follow_up):
        raise typer.BadParameter("expected --nifti with two images and without --follow-up")


def _choose_kind(method: str) -> str:
    """The kind of motion that a method finds, where none is given."""
    return "deformable" if method in ("dis", "bspline", "learned") else "affine"


def _check_pixel_size(mm_per_px: float | None) -> None:
    from edgeseg.inference.masks import check_pixel_size

    if mm_per_px is not None:
        try:
            check_pixel_size(mm_per_px)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--mm-per-px") from error


def _open(
    model: Path | None, method: str, threads: int, masked: bool, follow_up: bool
) -> tuple[LearnedRegistration | None, Segmenter | None]:
    """Open the file that registers, or the model that makes masks."""
    if method == "learned":
        return _open_network(model, threads, follow_up), None
    if model is None:
        return None, None
    if masked:
        raise typer.BadParameter("expected --fixed-mask and --moving-mask, or --model, got all")
    from edgeseg.cli.arguments import take_model
    from edgeseg.inference.ensemble import open_segmenter

    taken = take_model(model, f"edgeseg register FIXED MOVING --model {model} --out DIR")
    return None, open_segmenter(taken, "auto", threads)


def _open_network(model: Path | None, threads: int, follow_up: bool) -> LearnedRegistration:
    if model is None:
        raise typer.BadParameter("expected --model FILE, made by edgeseg train --task register, with --method learned")
    if follow_up:
        raise typer.BadParameter("expected another method than learned with --follow-up")
    from edgeseg.registration.learned import open_registration

    return open_registration(model, "auto", threads)


def _read_pair(
    work: _Work, moving: Path
) -> tuple[list[NDArray[Any]], list[float | None], tuple[Labels, Labels] | None]:
    """Read both images with their pixel sizes, and their masks."""
    from edgeseg.registration.register import read_input, read_labels

    images, sizes = zip(*(read_input(path, str(path)) for path in (work.fixed, moving)), strict=True)
    labels = None
    if work.masks is not None:
        labels = read_labels(work.masks[0], images[0]), read_labels(work.masks[1], images[1])
    elif work.segmenter is not None:
        labels = _segment(work.segmenter, images[0]), _segment(work.segmenter, images[1])
    return list(images), list(sizes), labels


def _segment(segmenter: Segmenter, image: NDArray[Any]) -> Labels:
    return segmenter(image).labels


def _pair(folder: Path, work: _Work, moving: Path, nifti: bool) -> tuple[dict[str, Any], bool, list[str]]:
    from edgeseg.registration.register import describe, find_ratio, register_frames
    from edgeseg.registration.saving import round_all, write_registration

    images, sizes, labels = _read_pair(work, moving)
    kind: Any = work.kind or _choose_kind(work.method)
    size = work.mm_per_px or sizes[0]
    ratio = find_ratio(sizes[0], sizes[1])
    found = register_frames(images[0], images[1], kind, work.method, labels, work.drive, size, work.network, ratio)
    write_registration(folder, found, images[0], images[1], nifti)
    return round_all(describe(found)), found.converged, _describe(found)


def _describe(found: Registration) -> list[str]:
    figures = found.figures
    similarity, moved = figures.similarity, figures.displacement_px
    millimetres = "" if figures.displacement_mm is None else f" ({figures.displacement_mm.median:.2f} mm)"
    lines = [
        f"{found.kind} by {found.method}: similarity {similarity.before:.3f} before, {similarity.after:.3f} after; "
        f"moved by {moved.median:.1f} px{millimetres} in the median, {moved.max:.1f} px at most; "
        f"folding {figures.folding_share:.2%}; {figures.seconds:.2f} s."
    ]
    if figures.masks is not None and figures.masks.dice.after is not None:
        lines.append(f"Dice {figures.masks.dice.before:.3f} before, {figures.masks.dice.after:.3f} after.")
    if not found.converged:
        lines.append("It did not converge: the images are not alike after the search. What was found is written.")
    return lines


def _clip(folder: Path, work: _Work, to: str, fields: bool) -> tuple[dict[str, Any], bool, list[str]]:
    """Register the frames of a clip, and write a row for each."""
    from edgeseg.core.files import write_json, write_rows
    from edgeseg.registration.saving import FIGURES, round_all

    kind = work.kind or _choose_kind(work.method)
    rows = []
    for one in _register_frames(work, kind, to):
        rows.append(_row(one))
        if fields and one.registration is not None:
            _write_frame(folder, one.number, one.registration)
    if not rows:
        raise DataError(
            f"Expected a clip of two frames or more at {work.fixed}, got one frame.", "Name a second image to register."
        )
    write_rows(folder / "frames.csv", list(rows[0]), [list(row.values()) for row in rows])
    summary = _summarise(rows, kind, to)
    write_json(folder / FIGURES, round_all(summary))
    lost = summary["frames"] - summary["converged_frames"]
    lines = [
        f"{summary['frames']} frames moved onto the {to} one, {lost} without success; "
        f"median motion {summary['median_px'] or 0:.2f} px, similarity {summary['similarity'] or 0:.3f}."
    ]
    return round_all(summary), lost == 0, lines


def _register_frames(work: _Work, kind: Any, to: Any) -> Iterator[FrameRegistration]:
    """Register the frames of a clip, each decoded once."""
    from edgeseg.core.errors import UnknownNameError
    from edgeseg.prediction.inputs import list_inputs, open_frames
    from edgeseg.registration.clips import REFERENCES, register_clip
    from edgeseg.registration.register import check_choices

    check_choices(kind, work.method, work.drive, work.segmenter is not None)
    if to not in REFERENCES:
        raise UnknownNameError("frame to register to", to, REFERENCES)
    items = list_inputs([work.fixed])
    if len(items) != 1:
        raise DataError(f"Expected one clip at {work.fixed}, got {len(items)} files.", "Name a video or a DICOM file.")
    with open_frames(items[0], colour=False) as reader:
        images, masks = _tee(reader, work.segmenter)
        size = work.mm_per_px or reader.mm_per_px
        yield from register_clip(images, kind, work.method, to, masks, work.drive, size, work.network)


def _tee(reader: Any, segmenter: Segmenter | None) -> tuple[Any, Any]:
    """The frames, and their masks where a model makes them; each frame is decoded once."""
    if segmenter is None:
        return (frame.image for frame in reader), None
    waiting: list[Labels] = []

    def images() -> Any:
        for frame in reader:
            waiting.append(_segment(segmenter, frame.image))
            yield frame.image

    def masks() -> Any:
        while True:
            yield waiting.pop(0)

    return images(), masks()


def _row(one: FrameRegistration) -> dict[str, Any]:
    found = one.registration
    figures = None if found is None else found.figures
    masks = None if figures is None else figures.masks
    return {
        "frame": one.number,
        "onto": one.reference,
        "converged": found is not None and found.converged,
        "similarity_before": _show(figures and figures.similarity.before),
        "similarity_after": _show(figures and figures.similarity.after),
        "median_px": _show(figures and figures.displacement_px.median),
        "max_px": _show(figures and figures.displacement_px.max),
        "folding_share": _show(figures and figures.folding_share),
        "dice_before": _show(masks and masks.dice.before),
        "dice_after": _show(masks and masks.dice.after),
        "seconds": _show(figures and figures.seconds),
        "reason": one.reason,
    }


def _show(value: Any) -> Any:
    return "" if value is None else round(float(value), 4)


def _summarise(rows: list[dict[str, Any]], kind: str, to: str) -> dict[str, Any]:
    from statistics import median

    def middle(name: str) -> float | None:
        values = [row[name] for row in rows if row[name] != ""]
        return median(values) if values else None

    names = ("median_px", "max_px", "folding_share", "dice_before", "dice_after", "seconds")
    return {
        "kind": kind,
        "to": to,
        "frames": len(rows),
        "converged_frames": sum(row["converged"] for row in rows),
        "converged": all(row["converged"] for row in rows),
        "similarity": middle("similarity_after"),
        **{name: middle(name) for name in names},
    }


def _write_frame(folder: Path, number: int, found: Registration) -> None:
    from edgeseg.frame.images import write_image
    from edgeseg.registration.displacement import write_field

    write_field(folder / "displacement" / f"{number:06d}.npy", found.displacement)
    write_image(folder / "moved" / f"{number:06d}.png", found.moved)


def _follow_up(folder: Path, work: _Work) -> tuple[dict[str, Any], bool, list[str]]:
    import dataclasses

    from edgeseg.core.files import write_json
    from edgeseg.frame.images import write_image
    from edgeseg.registration.follow_up import compare_exams, draw_follow_up
    from edgeseg.registration.saving import round_all, write_registration

    if work.moving is None:
        raise typer.BadParameter("expected two exams with --follow-up, got one")
    if work.masks is None and work.segmenter is None:
        raise typer.BadParameter("expected --fixed-mask F and --moving-mask M, or --model, with --follow-up, got none")
    images, known, labels = _read_pair(work, work.moving)
    assert labels is not None
    kind: Any = work.kind or "rigid"
    sizes = work.mm_per_px or known[0], work.mm_per_px or known[1]
    compared = compare_exams(images[0], images[1], labels, kind, sizes, work.drive)
    write_registration(folder, compared.registration, images[0], images[1])
    write_image(folder / "follow_up.png", draw_follow_up(images[0], compared))
    parts = ("unit", "first", "second", "area_change", "long_change", "short_change", "tissue_change", "dice")
    figures = {name: _plain(getattr(compared, name), dataclasses) for name in (*parts, "hausdorff")}
    figures |= {"converged": compared.registration.converged, "cut_off": compared.cut_off}
    figures["sentence"] = compared.describe()
    write_json(folder / "follow_up.json", round_all(figures))
    return round_all(figures), compared.registration.converged, [compared.describe()]


def _plain(value: Any, dataclasses: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
