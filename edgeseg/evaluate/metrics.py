"""How well one mask covers another."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class CaseScore:
    """One class of one case: overlap measures from 0 to 1, surface distance in pixels."""

    dice: float
    iou: float
    precision: float
    recall: float
    hd95_px: float


def score_mask(predicted: Mask, truth: Mask) -> CaseScore:
    """Compare a predicted mask with a true one that is not empty.

    A prediction with nothing in it scores 0 everywhere, and the image's diagonal as distance.
    """
    hit = float(np.count_nonzero(predicted & truth))
    found = float(np.count_nonzero(predicted))
    real = float(np.count_nonzero(truth))
    return CaseScore(
        dice=2 * hit / (found + real),
        iou=hit / (found + real - hit),
        precision=hit / found if found else 0.0,
        recall=hit / real,
        hd95_px=surface_distance(predicted, truth) if found else float(np.hypot(*truth.shape)),
    )


def surface_distance(predicted: Mask, truth: Mask, percentile: float = 95.0) -> float:
    """Measure the distance that 95% of both outlines stay within, in pixels."""
    first, second = _outline(predicted), _outline(truth)
    distances = np.concatenate([_distance_to(second)[first > 0], _distance_to(first)[second > 0]])
    return float(np.percentile(distances, percentile))


def _outline(mask: Mask) -> Mask:
    padded = np.pad(mask, 1)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8))
    return np.asarray((padded - inner)[1:-1, 1:-1], dtype=np.uint8)


def _distance_to(outline: Mask) -> NDArray[np.float32]:
    background = (outline == 0).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(background, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), dtype=np.float32)
