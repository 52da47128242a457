"""What training lowers."""

from __future__ import annotations

from typing import Any

from edgeseg.model.keras import keras, tf

_SMOOTH = 1.0


def dice_loss(truth: Any, predicted: Any) -> Any:
    """Measure the overlap that is missing, per image and class; the smoothing makes empty truth count too."""
    hit = tf.reduce_sum(truth * predicted, axis=(1, 2))
    total = tf.reduce_sum(truth + predicted, axis=(1, 2))
    return 1.0 - tf.reduce_mean((2.0 * hit + _SMOOTH) / (total + _SMOOTH), axis=-1)


def bce_dice_loss(truth: Any, predicted: Any) -> Any:
    """Add binary cross-entropy, which sharpens pixels, to the Dice loss, which balances areas."""
    cross = tf.reduce_mean(keras.losses.binary_crossentropy(truth, predicted), axis=(1, 2))
    return cross + dice_loss(truth, predicted)
