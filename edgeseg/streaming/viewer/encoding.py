"""A picture as JPEG with its mask drawn in, and its figures in a header, as each viewer wishes to see it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.limits import CLASSES
from edgeseg.core.schema import to_plain
from edgeseg.core.spec import MODALITIES, ClassSpec
from edgeseg.frame.outlines import OPACITY
from edgeseg.inference.masks import draw_overlay
from edgeseg.streaming.tracking import Picture, move_points
from edgeseg.streaming.viewer.figures import PictureFigures, list_shown

JPEG_QUALITY = 88
# Longest side of a picture among many, and its quality.
TILE_PX, TILE_QUALITY = 480, 80
MIN_FPS, MAX_FPS = 0.1, 60.0
# Letters grow with the picture's shorter side.
_PX_PER_SCALE, _LEAST_SCALE = 480.0, 0.4
FIGURES_HEADER = "X-Edgeseg-Figures"


@dataclass(frozen=True)
class JpegOptions:
    """The query of a request for the picture."""

    opacity: float = OPACITY
    fps: float = 30.0
    band: bool = False
    """Whether to draw where the scores cross 1/4 and 3/4."""
    hidden: frozenset[int] = frozenset()
    """Numbers of the classes that are not drawn, from 1; their figures stay."""
    modality: int | None = None
    """Which channel of a frame of several modalities is shown, from 0; None for the whole frame."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.opacity <= 1.0:
            raise ValueError(f"expected opacity from 0 to 1, got {self.opacity}")
        if not MIN_FPS <= self.fps <= MAX_FPS:
            raise ValueError(f"expected fps from {MIN_FPS:g} to {MAX_FPS:g}, got {self.fps}")
        if not all(1 <= number <= CLASSES for number in self.hidden):
            raise ValueError(f"expected numbers of classes from 1 to {CLASSES} to hide, got others")
        if self.modality is not None and not 0 <= self.modality < MODALITIES:
            raise ValueError(f"expected a modality from 0 to {MODALITIES - 1}, got {self.modality}")


def read_jpeg_options(query: str) -> JpegOptions:
    """Parse the query of a request for the picture.

    Raises:
        ValueError: A value is no number or out of range.
    """
    given = dict(parse_qsl(query))
    numbers = {name: float(given[name]) for name in ("opacity", "fps") if name in given}
    hidden = frozenset(int(number) for number in given.get("hide", "").split(",") if number)
    modality = int(given["modality"]) if given.get("modality") else None
    return JpegOptions(**numbers, band=given.get("band") == "1", hidden=hidden, modality=modality)


def write_part(picture: Picture, figures: PictureFigures, classes: Sequence[ClassSpec], options: JpegOptions) -> bytes:
    """Write a picture and its figures as one part of a multipart response."""
    return write_multipart(encode_picture(picture, classes, options), write_figures(figures))


def write_multipart(jpeg: bytes, figures: str) -> bytes:
    """Write a JPEG and its figures, JSON on one line, as one part of a multipart response."""
    head = (
        "--frame",
        "Content-Type: image/jpeg",
        f"Content-Length: {len(jpeg)}",
        f"{FIGURES_HEADER}: {figures}",
        "\r\n",
    )
    return "\r\n".join(head).encode("ascii") + jpeg + b"\r\n"


def write_figures(figures: PictureFigures) -> str:
    """Write figures as the value of a header: JSON in ASCII, on one line."""
    return json.dumps(to_plain(figures))


def encode_picture(picture: Picture, classes: Sequence[ClassSpec], options: JpegOptions) -> bytes:
    """Draw the mask onto a picture and encode it as JPEG."""
    findings = () if picture.segmentation is None else picture.segmentation.findings
    labels = _hide(picture.labels, options.hidden) if options.hidden else picture.labels
    # draws on a copy: other threads use the same frame
    image = draw_overlay(_choose_channel(picture.image, options), labels, classes, options.opacity, findings)
    if options.band:
        _draw_bands(image, picture, labels, classes)
    _draw_numbers(image, picture, classes, options.hidden)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


def _choose_channel(image: NDArray[Any], options: JpegOptions) -> NDArray[Any]:
    if options.modality is None or image.ndim == 2 or options.modality >= image.shape[2]:
        return image
    return np.ascontiguousarray(image[:, :, options.modality])


def encode_tile(picture: Picture, classes: Sequence[ClassSpec]) -> bytes:
    """Draw the mask onto a reduced picture and encode it as JPEG, for a page with many."""
    height, width = picture.image.shape[:2]
    scale = min(1.0, TILE_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = cv2.resize(picture.image, size, interpolation=cv2.INTER_AREA)
    labels = cv2.resize(picture.labels, size, interpolation=cv2.INTER_NEAREST)
    findings = () if picture.segmentation is None else picture.segmentation.findings
    drawn = draw_overlay(np.asarray(image), np.asarray(labels, dtype=np.uint8), classes, OPACITY, findings)
    _, encoded = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, TILE_QUALITY])
    return encoded.tobytes()


def _hide(labels: NDArray[np.uint8], hidden: frozenset[int]) -> NDArray[np.uint8]:
    table = np.arange(256, dtype=np.uint8)
    table[list(hidden)] = 0
    return np.asarray(cv2.LUT(labels, table), dtype=np.uint8)


def _draw_numbers(
    image: NDArray[np.uint8], picture: Picture, classes: Sequence[ClassSpec], hidden: frozenset[int]
) -> None:
    """Write the number of every single finding beside its outline, moved along with the mask."""
    size = image.shape[0], image.shape[1]
    scale = max(_LEAST_SCALE, min(size) / _PX_PER_SCALE)
    thin = max(1, round(1.5 * scale))
    shown = list_shown(picture, classes)
    for place, spec in enumerate(classes, start=1):
        for one in shown[spec.name] if place not in hidden else ():
            if not one.number:
                continue
            x, y, width, _ = one.box
            corner = np.array([[x + width, y]], np.int32)
            right, top = move_points(corner, picture.flow, size)[0].tolist()
            text = str(one.number)
            (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thin)
            at = min(max(0, right), size[1] - wide - 1), min(max(high + 1, top), size[0] - 1)
            cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 3 * thin, cv2.LINE_AA)
            cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, spec.colour[::-1], thin, cv2.LINE_AA)


def _draw_bands(
    image: NDArray[np.uint8], picture: Picture, labels: NDArray[np.uint8], classes: Sequence[ClassSpec]
) -> None:
    """Draw thin lines where the scores of the classes that are shown cross 1/4 and 3/4."""
    if picture.segmentation is None:
        return
    size = labels.shape[0], labels.shape[1]
    for number, (spec, band) in enumerate(zip(classes, picture.segmentation.bands, strict=False), start=1):
        if (labels == number).any():
            lines = [move_points(line, picture.flow, size) for line in (*band.outer, *band.inner)]
            # halfway to white, so that the lines stand out beside an outline that is near
            light = [(part + 255) // 2 for part in spec.colour[::-1]]
            cv2.polylines(image, lines, True, light, 1, cv2.LINE_AA)
