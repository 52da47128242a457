"""Several co-registered pictures, one for each modality, become the channels of one frame (docs/decisions/0073).

Training, evaluation and the device stack pictures with this file; `frame/preprocess.py` takes the stack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.core.spec import InputSpec

Frame = NDArray[Any]
# What a model with modalities takes: a stack, one picture for each modality in order, or by name.
Pictures = Frame | Sequence[Frame] | Mapping[str, Frame]


def stack_pictures(pictures: Pictures, spec: InputSpec) -> Frame:
    """Stack the pictures of the modalities into one frame (height, width, modalities); an array stays as it is.

    Raises:
        SourceError: Pictures are missing, or differ in size or depth.
    """
    if isinstance(pictures, np.ndarray):
        return pictures
    if isinstance(pictures, str) or not isinstance(pictures, Sequence | Mapping):
        raise SourceError(
            f"Expected a frame as an array, got {type(pictures).__name__}.", "Read a file with edgeseg.read_image."
        )
    named = name_pictures(pictures, spec)
    channels = [to_channel(picture, name in spec.signed, name) for name, picture in named.items()]
    check_alike(dict(zip(named, channels, strict=True)))
    return channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)


def name_pictures(pictures: Sequence[Frame] | Mapping[str, Frame], spec: InputSpec) -> dict[str, Frame]:
    """Name pictures by the modalities of a model, in its order."""
    wanted = spec.modalities
    if not wanted:
        raise SourceError(
            f"Expected one frame for a model without modalities, got {len(pictures)} pictures.",
            "Give the frame itself, or train a model on several modalities.",
        )
    if isinstance(pictures, Mapping):
        found = tuple(map(str, pictures))
        if set(found) != set(wanted):
            raise _refuse(wanted, ", ".join(found))
        return {name: pictures[name] for name in wanted}
    if len(pictures) != len(wanted):
        raise _refuse(wanted, f"{len(pictures)} pictures")
    return dict(zip(wanted, pictures, strict=True))


def _refuse(wanted: Sequence[str], got: str) -> SourceError:
    return SourceError(
        f"Expected one picture for each of the modalities {', '.join(wanted)}, got {got[:200] or 'none'}.",
        "Give one picture for each modality, in this order or by name.",
    )


def list_pictures(frame: Frame, spec: InputSpec) -> list[Frame]:
    """List the pictures of a frame, each to be shown by itself: one for each modality of a stack."""
    if not spec.is_stack:
        return [frame]
    return [np.ascontiguousarray(frame[:, :, number]) for number in range(frame.shape[2])]


def check_alike(channels: Mapping[str, Frame]) -> None:
    """Refuse pictures of other sizes or depths than the first."""
    (first, picture), *others = channels.items()
    for name, other in others:
        if describe_grid(other) != describe_grid(picture):
            raise SourceError(
                f"Expected {name} to have the size and depth of {first}, {describe_grid(picture)}, got "
                f"{describe_grid(other)}.",
                "Capture all modalities on one grid: pictures that do not lie over each other mislead the model.",
            )


def describe_grid(image: Frame) -> str:
    """Write the size and depth of a picture."""
    return f"{image.shape[1]}x{image.shape[0]} of {8 * image.dtype.itemsize} bit"


def to_channel(picture: Frame, signed: bool, name: str) -> Frame:
    """Convert the picture of one modality to its channel: grey, or the sign and strength of its colour.

    Args:
        picture: Grey or BGR, 8 or 16 bit.
        signed: Whether red and blue are the two directions of a flow, as in colour Doppler.
        name: Of the modality, for messages.
    """
    if not isinstance(picture, np.ndarray):
        raise SourceError(
            f"Expected a picture as an array for {name}, got {type(picture).__name__}.",
            "Read a file with edgeseg.read_image.",
        )
    if picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (1,), (3,), (4,)) or picture.size == 0:
        raise SourceError(
            f"Expected a grey or BGR picture for {name}, got shape {picture.shape}.", "Convert it before it is given."
        )
    if picture.dtype not in (np.uint8, np.uint16):
        raise SourceError(f"Expected a picture of 8 or 16 bit for {name}, got {picture.dtype}.", "Convert it first.")
    grey = picture.ndim == 2 or picture.shape[2] == 1
    if signed:
        if grey:
            raise SourceError(
                f"Expected a colour picture for {name}, whose red and blue are two directions, got a grey one.",
                "Capture the picture in colour.",
            )
        return decode_sign(picture)
    if grey:
        return picture.reshape(picture.shape[:2])
    code = cv2.COLOR_BGR2GRAY if picture.shape[2] == 3 else cv2.COLOR_BGRA2GRAY
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture), code))


def decode_sign(picture: Frame) -> Frame:
    """Decode colour into its sign: the middle without colour, brighter for red, darker for blue."""
    # grey tissue under the colours falls out, since its red and blue are equal
    middle = (int(np.iinfo(picture.dtype).max) + 1) // 2
    difference = picture[:, :, 2].astype(np.int32) - picture[:, :, 0].astype(np.int32)
    return (middle + (difference >> 1)).astype(picture.dtype)
