"""A clip, frame to frame: every frame registered to the one before, or to the first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.registration.learned import LearnedRegistration
from edgeseg.registration.register import Kind, Registration, register_frames

Reference = Literal["previous", "first"]
REFERENCES: tuple[Reference, ...] = ("previous", "first")


@dataclass(frozen=True, eq=False)
class FrameRegistration:
    """One frame of a clip, brought onto another.

    Args:
        number: Of the frame that was moved, from 0.
        reference: Of the frame that stayed.
        registration: What was found; None where a frame shows no structure.
        reason: Why nothing was found.
    """

    number: int
    reference: int
    registration: Registration | None
    reason: str = ""


def register_clip(
    frames: Iterable[NDArray[Any]],
    kind: Kind = "affine",
    method: str = "auto",
    to: Reference = "previous",
    masks: Iterable[NDArray[np.uint8]] | None = None,
    drive: str = "auto",
    mm_per_px: float | None = None,
    network: LearnedRegistration | None = None,
) -> Iterator[FrameRegistration]:
    """Register the frames of a clip, one after the other.

    Args:
        frames: Of equal or unlike size.
        kind: Of motion.
        method: As in `register`.
        to: The frame that stays: the one before, or the first.
        masks: The masks of all frames.
        drive: What is matched.
        mm_per_px: The size of a pixel.
        network: Of the method "learned".
    """
    kept: tuple[int, NDArray[Any], NDArray[np.uint8] | None] | None = None
    labels = iter(masks) if masks is not None else None
    for number, frame in enumerate(frames):
        mask = next(labels) if labels is not None else None
        if kept is not None:
            yield _register_one(kept, (number, frame, mask), kind, method, drive, mm_per_px, network)
        if kept is None or to == "previous":
            kept = number, frame, mask


def _register_one(
    fixed: tuple[int, NDArray[Any], NDArray[np.uint8] | None],
    moving: tuple[int, NDArray[Any], NDArray[np.uint8] | None],
    kind: Kind,
    method: str,
    drive: str,
    mm_per_px: float | None,
    network: LearnedRegistration | None,
) -> FrameRegistration:
    masks = None if fixed[2] is None or moving[2] is None else (fixed[2], moving[2])
    try:
        found = register_frames(fixed[1], moving[1], kind, method, masks, drive, mm_per_px, network)
    except DataError as error:  # a dark frame in a clip must not end it
        return FrameRegistration(moving[0], fixed[0], None, error.message)
    return FrameRegistration(moving[0], fixed[0], found)
