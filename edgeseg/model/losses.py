"""Losses. Each compares masks (n, height, width, classes) and returns one value per image and class.

`weigh_classes` averages the classes to the one value per image that a training step takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgeseg.core.errors import UnknownNameError
from edgeseg.model.keras import keras, tf

ClassLoss = Callable[[Any, Any], Any]
Loss = Callable[[Any, Any], Any]

# Pixels that are added to both areas, so that two empty masks agree.
_SMOOTH = 1.0
# Weights of missed and false pixels, and the focal exponent 1/gamma with gamma = 4/3 (Abraham and Khan 2019).
_TVERSKY_MISSED, _TVERSKY_FALSE, _TVERSKY_FOCUS = 0.7, 0.3, 0.75
_GRADIENT_WEIGHT = 1.0
# Weight of the finding's loss beside that of the masks. AdamW takes full steps in the finding's own layers whatever the
# weight, and the encoder is left to the masks (docs/decisions/0053).
FINDING_SHARE = 0.02
# Of weak labels: how much of a prediction is compared where nothing is known. At 0, a structure whose middle is marked
# alone would be drawn as large as its surroundings (docs/decisions/0071).
UNKNOWN_SHARE = 0.2


def bce_loss(truth: Any, predicted: Any) -> Any:
    """Binary cross-entropy, averaged over pixels."""
    return tf.reduce_mean(keras.backend.binary_crossentropy(truth, predicted), axis=(1, 2))


def dice_loss(truth: Any, predicted: Any) -> Any:
    """Soft Dice loss (Milletari, Navab and Ahmadi 2016, "V-Net", without the squares), also for empty masks."""
    hit = tf.reduce_sum(truth * predicted, axis=(1, 2))
    total = tf.reduce_sum(truth + predicted, axis=(1, 2))
    return 1.0 - (2.0 * hit + _SMOOTH) / (total + _SMOOTH)


def overlap_loss(truth: Any, predicted: Any) -> Any:
    """Dice loss of the classes that are present.

    On empty masks it would reward finding nothing, in images with a lesion, too (docs/decisions/0022).
    """
    present = tf.cast(tf.reduce_any(truth > 0.0, axis=(1, 2)), predicted.dtype)
    return present * dice_loss(truth, predicted)


def bce_dice_loss(truth: Any, predicted: Any) -> Any:
    """Cross-entropy plus the Dice loss of present classes: the default."""
    return bce_loss(truth, predicted) + overlap_loss(truth, predicted)


def bce_dice_all_loss(truth: Any, predicted: Any) -> Any:
    """Cross-entropy plus the Dice loss of all classes: fewer false alarms, more misses."""
    return bce_loss(truth, predicted) + dice_loss(truth, predicted)


def focal_tversky_loss(truth: Any, predicted: Any) -> Any:
    """Focal Tversky loss, for small structures: missed pixels weigh more than false ones, hard images more than easy.

    Abraham and Khan 2019, "A Novel Focal Tversky Loss Function with Improved Attention U-Net for Lesion Segmentation".
    """
    hit = tf.reduce_sum(truth * predicted, axis=(1, 2))
    missed = tf.reduce_sum(truth * (1.0 - predicted), axis=(1, 2))
    false = tf.reduce_sum((1.0 - truth) * predicted, axis=(1, 2))
    share = (hit + _SMOOTH) / (hit + _TVERSKY_MISSED * missed + _TVERSKY_FALSE * false + _SMOOTH)
    # epsilon: the derivative of x**0.75 is infinite at 0
    return tf.pow(1.0 - share + keras.backend.epsilon(), _TVERSKY_FOCUS)


def boundary_loss(truth: Any, predicted: Any) -> Any:
    """Cross-entropy and Dice loss plus the Dice loss of the outlines."""
    return bce_dice_loss(truth, predicted) + outline_loss(truth, predicted)


def outline_loss(truth: Any, predicted: Any) -> Any:
    """Dice loss of the outlines, which are one pixel of the output grid wide."""
    return dice_loss(_find_outline(truth), _find_outline(predicted))


def _find_outline(masks: Any) -> Any:
    # the mask minus its erosion, which is a max-pooling of the negative
    return masks + tf.nn.max_pool2d(-masks, 3, 1, "SAME")


def l1_gradient_loss(truth: Any, predicted: Any) -> Any:
    """Mean absolute difference of the masks, and of their gradients down and across."""
    down = _difference(truth[:, 1:] - truth[:, :-1], predicted[:, 1:] - predicted[:, :-1])
    across = _difference(truth[:, :, 1:] - truth[:, :, :-1], predicted[:, :, 1:] - predicted[:, :, :-1])
    return _difference(truth, predicted) + _GRADIENT_WEIGHT * (down + across)


def _difference(first: Any, second: Any) -> Any:
    return tf.reduce_mean(tf.abs(first - second), axis=(1, 2))


def cross_entropy_loss(truth: Any, predicted: Any) -> Any:
    """Categorical cross-entropy, for softmax; every class also gets the background's part."""
    # log(0)
    certain = tf.clip_by_value(predicted, keras.backend.epsilon(), 1.0)
    parts = -tf.reduce_mean(truth * tf.math.log(certain), axis=(1, 2))
    return parts[:, 1:] * tf.cast(tf.shape(parts)[1] - 1, parts.dtype) + parts[:, :1]


def _on_classes(loss: ClassLoss) -> ClassLoss:
    """Apply a loss without the background, whose area would outweigh every structure."""
    return lambda truth, predicted: loss(truth[..., 1:], predicted[..., 1:])


def _add(first: ClassLoss, second: ClassLoss) -> ClassLoss:
    return lambda truth, predicted: first(truth, predicted) + second(truth, predicted)


LOSSES: dict[str, ClassLoss] = {
    "bce": bce_loss,
    "dice": dice_loss,
    "bce-dice": bce_dice_loss,
    "bce-dice-all": bce_dice_all_loss,
    "focal-tversky": focal_tversky_loss,
    "boundary": boundary_loss,
    "l1-gradient": l1_gradient_loss,
}

_CROSS_ENTROPY_DICE = _add(cross_entropy_loss, _on_classes(overlap_loss))
# The losses of softmax masks, whose first channel is the background.
SOFTMAX_LOSSES: dict[str, ClassLoss] = {
    "bce": cross_entropy_loss,
    "dice": _on_classes(dice_loss),
    "bce-dice": _CROSS_ENTROPY_DICE,
    "bce-dice-all": _add(cross_entropy_loss, _on_classes(dice_loss)),
    "focal-tversky": _on_classes(focal_tversky_loss),
    "boundary": _add(_CROSS_ENTROPY_DICE, _on_classes(outline_loss)),
    "l1-gradient": _on_classes(l1_gradient_loss),
}


def find_finding_loss(weights: Sequence[tuple[float, float]] = ()) -> Loss:
    """Build the loss of findings (n, 1, 1, channels): cross-entropy, without the channels whose truth is unknown.

    Weights do not move the probabilities that a network learns: each is compared after it was moved as the weights
    would move it (Menon et al. 2021, "Long-tail learning via logit adjustment").

    Args:
        weights: Of every channel, of its presence and of its absence; empty for equal ones.
    """
    present = [pair[0] for pair in weights] or 1.0
    absent = [pair[1] for pair in weights] or 1.0

    def loss(truth: Any, predicted: Any) -> Any:
        # a truth below 0 is unknown
        known = tf.cast(truth >= 0.0, predicted.dtype)
        moved = present * predicted / (present * predicted + absent * (1.0 - predicted))
        weight = known * (truth * present + (1.0 - truth) * absent)
        return tf.reduce_mean(weight * keras.backend.binary_crossentropy(truth, moved), axis=(1, 2, 3))

    return loss


def find_loss(name: str, activation: str = "sigmoid", weights: Sequence[float] = ()) -> Loss:
    """Find a loss by name.

    Args:
        name: One of LOSSES.
        activation: The activation of the masks.
        weights: The weight of each class, 1 on average; empty for equal weights.
    """
    return weigh_classes(find_class_loss(name, activation), weights)


def find_class_loss(name: str, activation: str = "sigmoid") -> ClassLoss:
    """Find a loss by name, before the classes are averaged."""
    if name not in LOSSES:
        raise UnknownNameError("loss", name, LOSSES)
    return SOFTMAX_LOSSES[name] if activation == "softmax" else LOSSES[name]


def weigh_classes(loss: ClassLoss, weights: Sequence[float] = ()) -> Loss:
    """Average a loss over the classes."""

    def weighted(truth: Any, predicted: Any) -> Any:
        values = loss(truth, predicted)
        return tf.reduce_mean(values * tf.constant(weights, values.dtype) if weights else values, axis=-1)

    return weighted


def find_weak_loss(name: str, activation: str, classes: int, weights: Sequence[float] = ()) -> Loss:
    """Build the loss of batches that hold weak labels: where a pixel is unknown, most of what is predicted is excused.

    Behind the masks, the truth says for each class which pixels are unknown. In images with full masks none is, and
    their loss is the one that they have without the others.

    Args:
        name: One of LOSSES.
        activation: The activation of the masks.
        classes: How many classes there are.
        weights: The weight of each class; empty for equal weights.
    """
    full_loss, background = find_class_loss(name, activation), activation == "softmax"

    def loss(truth: Any, predicted: Any) -> Any:
        masks, unknown = truth[..., :-classes], truth[..., -classes:]
        found = predicted[..., background:]
        found += (1.0 - UNKNOWN_SHARE) * unknown * (masks[..., background:] - found)
        if background:
            # what is of no class
            rest = tf.maximum(1.0 - tf.reduce_sum(found, axis=-1, keepdims=True), 0.0)
            found = tf.concat([rest, found], axis=-1)
        return full_loss(masks, found)

    return weigh_classes(loss, weights)
