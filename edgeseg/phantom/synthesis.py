"""Write a data folder of phantoms in the plain layout, so that every command can be tried at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, OutputError, UnknownNameError
from edgeseg.core.files import write_json, write_rows
from edgeseg.phantom.geometry import check_size
from edgeseg.phantom.scene import LABELS, PhantomClip, PhantomFrame, render_case
from edgeseg.phantom.second import SECOND, render_both

CLIP_FPS = 30.0
GROUP_COLUMNS = ("stem", "group", "geometry", "lesion")
LESION = LABELS.index("lesion")
VESSEL = LABELS.index("vessel")


@dataclass(frozen=True)
class SynthOptions:
    """What `data synth` writes.

    Args:
        cases: Number of still images.
        seed: Same seed, same files.
        size: Height and width in pixels.
        clips: Number of cines.
        clip_frames: Frames in each cine.
        vessels: Also write masks_vessel/.
        second: A second modality beside B-mode: doppler or elastography; empty for none.
    """

    cases: int = 200
    seed: int = 0
    size: tuple[int, int] = (256, 256)
    clips: int = 2
    clip_frames: int = 60
    vessels: bool = False
    second: str = ""

    def __post_init__(self) -> None:
        if self.second not in ("", *SECOND):
            raise UnknownNameError("second modality", self.second, SECOND)
        check_size(self.size)
        lowest = {"cases": 1, "seed": 0, "clips": 0, "clip_frames": 1}
        for name, bound in lowest.items():
            if getattr(self, name) < bound:
                raise DataError(
                    f"Expected {name} of at least {bound}, got {getattr(self, name)}.",
                    f"The default is {getattr(SynthOptions, name)}.",
                )
        # MPEG-4 subsamples colour by two in both directions
        if self.clips and any(side % 2 for side in self.size):
            raise DataError(
                f"Expected an even height and width for clips, got {self.size}.",
                "Video needs even sides: change the size or ask for no clips.",
            )


def write_phantom_set(out: Path, options: SynthOptions, on_case: Callable[[int], None] | None = None) -> None:
    """Write cases, clips and their description into an existing empty folder.

    Args:
        out: The folder.
        options: What to write.
        on_case: Called with the number of cases and clips done so far.
    """
    if options.second:
        (out / f"images_{options.second}").mkdir()
        write_json(out / "modalities.json", {"modalities": ["bmode", options.second]})
    for name in ("images", "masks", *(("masks_vessel",) if options.vessels else ())):
        (out / name).mkdir()
    rows = []
    for case in range(options.cases):
        if options.second:
            frame, picture = render_both(options.seed, case, options.size, options.second)
            write_image(out / f"images_{options.second}" / f"case_{case:04d}.png", picture)
        else:
            frame = render_case(options.seed, case, options.size)
        rows.append(_write_case(out, case, frame, options.vessels))
        _report(on_case, case + 1)
    write_rows(out / "groups.csv", GROUP_COLUMNS, rows)
    for clip in range(options.clips):
        _write_clip(out / "clips", clip, options)
        _report(on_case, options.cases + clip + 1)
    (out / "SOURCE.md").write_text(describe_source(options), encoding="utf-8")


def describe_source(options: SynthOptions) -> str:
    """Return the text of SOURCE.md."""
    return (
        f"Synthetic ultrasound phantoms made by edgeseg: {options}.\n"
        "No patient is behind any of these images; the masks are exact by construction.\n"
    )


def _report(on_case: Callable[[int], None] | None, done: int) -> None:
    if on_case is not None:
        on_case(done)


def _write_case(out: Path, case: int, frame: PhantomFrame, vessels: bool) -> tuple[str, str, str, int]:
    stem = f"case_{case:04d}"
    write_image(out / "images" / f"{stem}.png", frame.image)
    write_image(out / "masks" / f"{stem}.png", _to_mask(frame, LESION))
    if vessels:
        write_image(out / "masks_vessel" / f"{stem}.png", _to_mask(frame, VESSEL))
    return stem, f"g{case:04d}", frame.geometry, int((frame.labels == LESION).any())


def _write_clip(folder: Path, number: int, options: SynthOptions) -> None:
    name = f"clip_{number:02d}"
    for kind in ("images", "masks", "instances"):
        (folder / name / kind).mkdir(parents=True)
    clip = PhantomClip(options.seed, number, options.size, CLIP_FPS)
    path = folder / f"{name}.mp4"
    fourcc = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), fourcc, CLIP_FPS, options.size[::-1])
    if not writer.isOpened():
        raise OutputError(f"Expected to write the video {path}, but it could not be opened.", "Check the folder.")
    try:
        for index in range(options.clip_frames):
            frame = clip.frame(index)
            writer.write(cv2.cvtColor(frame.image, cv2.COLOR_GRAY2BGR))
            write_image(folder / name / "images" / f"frame_{index:04d}.png", frame.image)
            write_image(folder / name / "masks" / f"frame_{index:04d}.png", _to_mask(frame, LESION))
            write_image(folder / name / "instances" / f"frame_{index:04d}.png", frame.numbers)
    finally:
        writer.release()
    if not path.is_file() or path.stat().st_size == 0:
        raise OutputError(f"Expected a video in {path}, but nothing was written.", "Check the space left.")


def _to_mask(frame: PhantomFrame, label: int) -> NDArray[np.uint8]:
    return np.where(frame.labels == label, 255, 0).astype(np.uint8)


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write one image; the folder is new and moved into place as a whole, so a single file needs no atomic write."""
    if not cv2.imwrite(str(path), image):
        raise OutputError(f"Expected to write {path}, but it failed.", "Check the folder and the space left.")
