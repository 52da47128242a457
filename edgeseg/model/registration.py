"""A registering network: the U-Net's layers on two frames, and the losses that train it without labels.

The network draws two channels from 0 to 1 at a quarter of the input, dx and dy. The spatial transformer (Jaderberg et
al. 2015) is part of the loss, not of the network, so that no board needs an operator that gathers pixels.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from edgeseg.core.errors import TrainingError
from edgeseg.model.keras import tf
from edgeseg.model.spec import UNetSpec

# Displacement that the end of an output's range stands for, as a share of the network's input size: 24 of 256 pixels.
REACH_SHARE = 24 / 256
# The window of the local correlation, in pixels.
CORRELATION_WINDOW = 9
# Weights in the loss of pairs without a known motion, and of the field's unevenness in it.
UNKNOWN_WEIGHT, SMOOTHNESS_WEIGHT = 1.0, 0.5
# Motions of this size in pixels count half in the loss.
LARGE_PX = 4.0
# Rounds the loss off at the smallest errors, in pixels (Charbonnier).
_ROUNDING_PX = 0.1
_TINY = 1e-5


def describe_registering(spec: UNetSpec) -> UNetSpec:
    """Make of a segmenting network's spec that of a registering one: two frames in, dx and dy out.

    Raises:
        TrainingError: Its stem has another output stride than 4.
    """
    if spec.stem != "quarter":
        raise TrainingError(
            f"Expected the stem quarter for a registering network, got {spec.stem}.",
            "Leave --stem out, or take another --model than classic.",
        )
    # a wider beginning than for one image: what is lost before the two frames are compared cannot be matched
    own = {"stem": max(16, spec.width_of("stem", 0)), "stem2": 2 * spec.widths[0], "down0_a": 2 * spec.widths[0]}
    return dataclasses.replace(spec, channels=2, outputs=2, activation="sigmoid", dropout=0.0, findings=0, own=own)


def to_displacements(outputs: Any, reach: float) -> Any:
    """Turn a network's outputs from 0 to 1 into displacements in pixels of its input."""
    return (outputs - 0.5) * (2.0 * reach)


def warp_batch(images: Any, fields: Any) -> Any:
    """Move images (n, height, width, 1) by fields (n, height, width, 2), with linear interpolation; margins repeat."""
    height, width = images.shape[1], images.shape[2]
    columns = tf.range(width, dtype=tf.float32)[tf.newaxis, tf.newaxis, :] + fields[..., 0]
    rows = tf.range(height, dtype=tf.float32)[tf.newaxis, :, tf.newaxis] + fields[..., 1]
    columns = tf.clip_by_value(columns, 0.0, width - 1.001)
    rows = tf.clip_by_value(rows, 0.0, height - 1.001)
    left, top = tf.floor(columns), tf.floor(rows)
    across, along = (columns - left)[..., tf.newaxis], (rows - top)[..., tf.newaxis]
    place = tf.cast(top, tf.int32) * width + tf.cast(left, tf.int32)
    flat = tf.reshape(images, (-1, height * width, 1))
    corners = [tf.gather(flat, place + step, batch_dims=1) for step in (0, 1, width, width + 1)]
    upper = corners[0] * (1 - across) + corners[1] * across
    lower = corners[2] * (1 - across) + corners[3] * across
    return upper * (1 - along) + lower * along


def local_correlation(one: Any, other: Any) -> Any:
    """The squared local correlation of two batches of images, averaged over each: 1 where they are alike."""

    def mean(values: Any) -> Any:
        return tf.nn.avg_pool2d(values, CORRELATION_WINDOW, 2, "VALID")

    first, second = mean(one), mean(other)
    both = mean(one * other) - first * second
    spread = (mean(one * one) - first * first) * (mean(other * other) - second * second)
    return tf.reduce_mean(both * both / (tf.maximum(spread, 0.0) + _TINY), axis=(1, 2, 3))


def unevenness(fields: Any) -> Any:
    """The mean squared second difference of fields: no penalty for what a rotation or a stretch does."""
    across = fields[:, :, 2:] - 2 * fields[:, :, 1:-1] + fields[:, :, :-2]
    along = fields[:, 2:] - 2 * fields[:, 1:-1] + fields[:, :-2]
    return tf.reduce_mean(across * across, axis=(1, 2, 3)) + tf.reduce_mean(along * along, axis=(1, 2, 3))


def registration_loss(images: Any, truth: Any, outputs: Any, reach: float) -> Any:
    """The loss of a batch.

    Args:
        images: The network's inputs.
        truth: dx, dy and a weight on the output's grid; pairs whose motion is unknown have a weight of zero throughout.
        outputs: What the network gives.
        reach: The displacement that an output of 1 stands for.
    """
    fields = to_displacements(outputs, reach)
    weight = truth[..., 2]
    square = tf.reduce_sum(tf.square(fields - truth[..., :2]), axis=-1)
    error = tf.sqrt(square + _ROUNDING_PX**2) - _ROUNDING_PX
    # small motions are what a frame and the next show, and large ones would outweigh them
    error /= 1.0 + tf.norm(truth[..., :2], axis=-1) / LARGE_PX
    known = tf.reduce_sum(weight * error, axis=(1, 2)) / (tf.reduce_sum(weight, axis=(1, 2)) + _TINY)
    is_known = tf.cast(tf.reduce_max(weight, axis=(1, 2)) > 0, tf.float32)
    full = tf.image.resize(fields, images.shape[1:3])
    moved = warp_batch(images[..., 1:], full)
    unknown = 1.0 - local_correlation(images[..., :1], moved) + SMOOTHNESS_WEIGHT * unevenness(fields)
    return tf.reduce_mean(is_known * known + (1.0 - is_known) * UNKNOWN_WEIGHT * unknown)
