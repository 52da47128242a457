"""What training lowers: each loss compares masks (n, height, width, classes) and gives a value per image and class.

One place, weigh_classes, brings the classes down to the one value per image that a training step takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgeseg.core.errors import UnknownNameError
from edgeseg.model.keras import keras, tf

ClassLoss = Callable[[Any, Any], Any]
Loss = Callable[[Any, Any], Any]

_SMOOTH = 1.0
_TVERSKY_MISSED, _TVERSKY_FALSE, _TVERSKY_FOCUS = 0.7, 0.3, 0.75
_GRADIENT_WEIGHT = 1.0


def bce_loss(truth: Any, predicted: Any) -> Any:
    """Measure binary cross-entropy, which judges every pixel alike."""
    return tf.reduce_mean(keras.backend.binary_crossentropy(truth, predicted), axis=(1, 2))


def dice_loss(truth: Any, predicted: Any) -> Any:
    """Measure the overlap that is missing; the smoothing makes empty truth count too."""
    hit = tf.reduce_sum(truth * predicted, axis=(1, 2))
    total = tf.reduce_sum(truth + predicted, axis=(1, 2))
    return 1.0 - (2.0 * hit + _SMOOTH) / (total + _SMOOTH)


def bce_dice_loss(truth: Any, predicted: Any) -> Any:
    """Add cross-entropy, which sharpens pixels, to the Dice loss, which balances areas."""
    return bce_loss(truth, predicted) + dice_loss(truth, predicted)


def focal_tversky_loss(truth: Any, predicted: Any) -> Any:
    """Weigh missed pixels above false ones, and hard images above easy ones: for small structures."""
    hit = tf.reduce_sum(truth * predicted, axis=(1, 2))
    missed = tf.reduce_sum(truth * (1.0 - predicted), axis=(1, 2))
    false = tf.reduce_sum((1.0 - truth) * predicted, axis=(1, 2))
    share = (hit + _SMOOTH) / (hit + _TVERSKY_MISSED * missed + _TVERSKY_FALSE * false + _SMOOTH)
    return tf.pow(1.0 - share + keras.backend.epsilon(), _TVERSKY_FOCUS)


def boundary_loss(truth: Any, predicted: Any) -> Any:
    """Add the overlap that the outlines, one pixel of the network's grid wide, are missing."""
    return bce_dice_loss(truth, predicted) + dice_loss(_find_outline(truth), _find_outline(predicted))


def _find_outline(masks: Any) -> Any:
    return masks + tf.nn.max_pool2d(-masks, 3, 1, "SAME")


def l1_gradient_loss(truth: Any, predicted: Any) -> Any:
    """Add the difference of the gradients, down and across, to the difference of the masks."""
    down = _difference(truth[:, 1:] - truth[:, :-1], predicted[:, 1:] - predicted[:, :-1])
    across = _difference(truth[:, :, 1:] - truth[:, :, :-1], predicted[:, :, 1:] - predicted[:, :, :-1])
    return _difference(truth, predicted) + _GRADIENT_WEIGHT * (down + across)


def _difference(first: Any, second: Any) -> Any:
    return tf.reduce_mean(tf.abs(first - second), axis=(1, 2))


LOSSES: dict[str, ClassLoss] = {
    "bce": bce_loss,
    "dice": dice_loss,
    "bce-dice": bce_dice_loss,
    "focal-tversky": focal_tversky_loss,
    "boundary": boundary_loss,
    "l1-gradient": l1_gradient_loss,
}


def find_loss(name: str, weights: Sequence[float] = ()) -> Loss:
    """Find a loss by its name.

    Args:
        name: One of LOSSES.
        weights: How much each class counts, 1 on average; none where all count alike.
    """
    if name not in LOSSES:
        raise UnknownNameError("loss", name, LOSSES)
    return weigh_classes(LOSSES[name], weights)


def weigh_classes(loss: ClassLoss, weights: Sequence[float] = ()) -> Loss:
    """Bring a loss down to one value per image."""

    def weighted(truth: Any, predicted: Any) -> Any:
        values = loss(truth, predicted)
        return tf.reduce_mean(values * tf.constant(weights, values.dtype) if weights else values, axis=-1)

    return weighted
