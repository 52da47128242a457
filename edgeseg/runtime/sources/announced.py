"""What OpenCV says of a frame's size, held against the table of limits before the frame is unpacked."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.limits import check_pixels


def check_announced(capture: cv2.VideoCapture, name: str) -> None:
    """Refuse frames beyond the table; a source that announces no size is left to its first frame."""
    width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if width > 0 or height > 0:
        check_pixels(name, int(width), int(height))


def retrieve_frame(capture: cv2.VideoCapture, name: str) -> NDArray[Any] | None:
    """Unpack the frame that was grabbed; None where it is damaged. Its size may have changed in the middle."""
    check_announced(capture, name)
    found, image = capture.retrieve()
    return np.asarray(image) if found else None
