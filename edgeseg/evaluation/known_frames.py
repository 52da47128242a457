"""Describe the frames that a model was trained on, so that a device can tell frames that are not like them.

A normal distribution of the features (`frame.features`) of training and validation images, and the distance that
hardly any of them exceeds when its own group was left out (docs/decisions/0055).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.decision import KnownFrames
from edgeseg.core.spec import InputSpec
from edgeseg.data.dataset import LabelledImage
from edgeseg.frame.features import VERSION, FrameJudge, cut_padding, describe_pixels
from edgeseg.frame.preprocess import Pixels, frame_to_pixels, place_frame

# Share of known frames, with ordinary settings of gain and contrast, that may exceed the threshold.
FALSE_RATE = 0.02
# With fewer images not even one is the allowed share, and with fewer groups nothing is known of the next patient.
FEWEST_IMAGES, FEWEST_GROUPS = 50, 5
# More are taken evenly out of all.
MOST_IMAGES = 2000
# Gain, gamma and contrast of ordinary settings, in which every image is looked at.
SETTINGS = (
    (0.8, 1.0, 1.0),
    (1.25, 1.0, 1.0),
    (1.0, 0.85, 1.0),
    (1.0, 1.2, 1.0),
    (1.0, 1.0, 0.8),
    (1.0, 1.0, 1.25),
)
# Share of each side that a smaller depth cuts off and a wider screen adds, and the noise of a converter in grey levels.
_ZOOM, _BORDER, _NOISE = 0.1, 0.1, 3.0
# Grey level, of 1, that a change of contrast leaves as it is.
_PIVOT = 0.35
# Weights in the covariance of what the settings change: gain, gamma, contrast, mirror, zoom; noise; the border, which
# moves a cropped image far and must pass on a screen that is not cropped.
_WEIGHTS = (*(0.02,) * (len(SETTINGS) + 2), 0.1, 0.2)
# How far correlations are drawn towards none.
_SHRINKAGE = 0.2
# Least deviation of a feature: one that is constant here, as a black border, need not be so on the next machine.
_LEAST_DEVIATION = 0.06
_HELD_OUT_PARTS = 5
# Of mean and whitening: distances change by a thousandth at most.
_DIGITS = 4
_LOG = logging.getLogger(__name__)
_Values = NDArray[np.float64]


def describe_known_frames(
    images: Sequence[LabelledImage], spec: InputSpec, false_rate: float = FALSE_RATE
) -> KnownFrames | None:
    """Describe the frames of a training.

    Args:
        images: The training and validation images.
        spec: The network's input.
        false_rate: Share of such images that may count as unlike them.

    Returns:
        None, with a warning, where the images or their groups are too few.
    """
    groups = [image.case.group for image in images]
    if len(images) < FEWEST_IMAGES or len(set(groups)) < FEWEST_GROUPS:
        _LOG.warning(
            "Frames unlike those of the training are not told: %d images in %d groups are too few.\n  "
            "At least %d images in %d groups are needed.",
            len(images),
            len(set(groups)),
            FEWEST_IMAGES,
            FEWEST_GROUPS,
        )
        return None
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), MOST_IMAGES)).astype(int))
    features = np.stack([_describe_image(images[number].frame, spec) for number in chosen])
    return fit_known_frames(features, [groups[number] for number in chosen], false_rate)


def fit_known_frames(features: _Values, groups: Sequence[str], false_rate: float = FALSE_RATE) -> KnownFrames:
    """Fit the distribution and its threshold to features.

    Args:
        features: (images, settings, features); the first setting is the image itself.
        groups: Of the images.
        false_rate: Share that may exceed the threshold.
    """
    known = _fit_distribution(features)
    distances = np.concatenate(list(_measure_held_out(features, groups)))
    return dataclasses.replace(known, threshold=_round(float(np.quantile(distances, 1.0 - false_rate))))


def list_settings(pixels: Pixels) -> list[Pixels]:
    """Show an image as it is, and then as other settings and another screen would show it."""
    height, width = pixels.shape[:2]
    y, x = int(height * _ZOOM), int(width * _ZOOM)
    border = ((int(height * _BORDER),) * 2, (int(width * _BORDER),) * 2, (0, 0))
    noise = np.random.default_rng(0).normal(0.0, _NOISE, pixels.shape)
    return [
        pixels,
        *(change_setting(pixels, *setting) for setting in SETTINGS),
        pixels[:, ::-1],
        pixels[y : height - y, x : width - x],
        np.clip(pixels + noise, 0, 255).astype(np.uint8),
        # the last: most images are cropped, and a threshold for those that are not would let other organs through
        np.pad(pixels, border),
    ]


def change_setting(pixels: Pixels, gain: float = 1.0, gamma: float = 1.0, contrast: float = 1.0) -> Pixels:
    """Change gain, gamma and contrast of 8-bit pixels; what leaves the range saturates."""
    levels = (np.power(np.arange(256) / 255.0, gamma) - _PIVOT) * contrast + _PIVOT
    return np.clip(np.rint(np.clip(levels, 0.0, 1.0) * gain * 255.0), 0, 255).astype(np.uint8)[pixels]


def _describe_image(frame: NDArray[Any], spec: InputSpec) -> _Values:
    """Describe a frame in every setting, as (settings, features)."""
    pixels = cut_padding(frame_to_pixels(frame, spec), place_frame(spec, *frame.shape[:2]))
    return np.stack([describe_pixels(shown) for shown in list_settings(pixels)])


def _fit_distribution(features: _Values) -> KnownFrames:
    """Fit mean and whitening: covariance of the images, and of what the settings change in them."""
    images = features[:, 0]
    mean = images.mean(axis=0)
    deviation = np.maximum(images.std(axis=0), _LEAST_DEVIATION)
    scaled = (images - mean) / deviation
    changes = (features[:, 1:] - features[:, :1]) / deviation
    covariance = scaled.T @ scaled / len(scaled)
    variance = np.diag(covariance)
    covariance = (1.0 - _SHRINKAGE) * covariance + np.diag(_SHRINKAGE * variance + np.maximum(0.0, 1.0 - variance))
    covariance += np.einsum("isf,isg,s->fg", changes, changes, _WEIGHTS, optimize=True) / len(changes)
    # every root of the inverse gives the same distance; a triangular one has half of the numbers
    whitening = np.linalg.cholesky(np.linalg.inv(covariance)).T / deviation
    rows = tuple(tuple(map(_round, row[number:])) for number, row in enumerate(whitening.tolist()))
    return KnownFrames(tuple(map(_round, mean.tolist())), rows, 1.0, VERSION)


def _measure_held_out(features: _Values, groups: Sequence[str]) -> Iterator[_Values]:
    """Measure how far every image, in all settings but the last, is from a fit that has not seen its group."""
    names, numbers = np.unique(list(groups), return_inverse=True)
    part_of = np.random.default_rng(0).permutation(names.size)[numbers] % min(_HELD_OUT_PARTS, names.size)
    for part in range(part_of.max() + 1):
        judge = FrameJudge(_fit_distribution(features[part_of != part]))
        held_out = features[part_of == part, :-1].reshape(-1, features.shape[-1])
        yield np.array([judge.measure_length(row) for row in held_out])


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
