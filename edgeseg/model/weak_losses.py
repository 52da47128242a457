"""Losses of weak labels: what boxes, points and scribbles leave open is decided by the image.

A truth holds the masks and behind them, for each class, which pixels are unknown and to which row and column of a box
they belong, then how alike neighbours are (`edgeseg.data.weak_truth`). Images with full masks have nothing unknown, and
keep the loss that they would have without the others in their batch. Like every class loss, these return one value for
each image and class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeseg.data.weak_truth import NEIGHBOURS, find_most_lines, shift_slices
from edgeseg.model.keras import keras, tf
from edgeseg.model.losses import ClassLoss, Loss, find_class_loss, weigh_classes

# Weight of each term beside the cross-entropy of what is known.
OUTSIDE_WEIGHT, LINES_WEIGHT, PAIRWISE_WEIGHT, SIZE_WEIGHT = 1.0, 1.0, 1.0, 1.0
# Share of its boxes that a structure fills: an ellipse fills 0.79 of its own, and no structure all or next to nothing.
LEAST_FILLED, MOST_FILLED = 0.5, 0.9
_SMOOTH = 1.0


def find_weak_loss(name: str, activation: str, classes: int, weights: Sequence[float] = ()) -> Loss:
    """Build the loss of batches that hold weak labels.

    Args:
        name: The loss of images with full masks.
        activation: The activation of the masks.
        classes: How many classes there are.
        weights: The weight of each class; empty for equal weights.
    """
    return weigh_classes(mix_losses(find_class_loss(name, activation), activation == "softmax", classes), weights)


def mix_losses(full_loss: ClassLoss, background: bool, classes: int) -> ClassLoss:
    """Apply a loss to images with full masks, and that of weak labels to the others."""
    masks_end = classes + background

    def loss(truth: Any, predicted: Any) -> Any:
        truth = tf.cast(truth, predicted.dtype)
        masks, unknown = truth[..., :masks_end], truth[..., masks_end : masks_end + classes]
        is_weak = tf.cast(tf.reduce_any(unknown > 0.0, axis=(1, 2, 3)), predicted.dtype)[:, tf.newaxis]
        of_classes = weak_loss(truth[..., background:], predicted[..., background:], classes)
        full = full_loss(masks, predicted)
        return (1.0 - is_weak) * full + is_weak * of_classes

    return loss


def weak_loss(truth: Any, predicted: Any, classes: int) -> Any:
    """Add the terms of weak labels.

    Args:
        truth: Masks, unknown, rows, columns (`classes` channels each), and the likeness of neighbours.
        predicted: The masks of the classes.
        classes: How many there are.
    """
    masks, unknown, rows, columns = (truth[..., k * classes : (k + 1) * classes] for k in range(4))
    likeness = truth[..., 4 * classes :]
    # a mark that is thinner than a pixel of the output grid marks it nevertheless
    masks = tf.where(unknown > 0.0, masks, tf.math.ceil(masks))
    return (
        partial_loss(masks, unknown, predicted)
        + OUTSIDE_WEIGHT * outside_loss(masks, unknown, predicted)
        + LINES_WEIGHT * (lines_loss(rows, predicted) + lines_loss(columns, predicted)) / 2
        + SIZE_WEIGHT * size_loss(rows, unknown, predicted)
        + PAIRWISE_WEIGHT * pairwise_loss(likeness, masks, unknown, predicted)
    )


def partial_loss(masks: Any, unknown: Any, predicted: Any) -> Any:
    """Cross-entropy of the known pixels; those that are marked and those that are not count alike.

    Tang et al. 2018, "Normalized Cut Loss for Weakly-supervised CNN Segmentation", call it partial cross-entropy.
    """
    known = 1.0 - unknown
    entropy = _entropy(masks, predicted)
    parts = [_mean_where(known * side, entropy) for side in (masks, 1.0 - masks)]
    found = tf.add_n([part_found for _, part_found in parts])
    return tf.math.divide_no_nan(tf.add_n([value for value, _ in parts]), found)


def outside_loss(masks: Any, unknown: Any, predicted: Any) -> Any:
    """Share of what is predicted where it is known to be wrong, beside the area of the boxes or marks.

    It is what a Dice loss says of false pixels: averaged over a whole image, small boxes would be outgrown.
    """
    wrong = tf.reduce_sum((1.0 - unknown) * (1.0 - masks) * predicted, axis=(1, 2))
    area = tf.reduce_sum(masks, axis=(1, 2))
    present = tf.cast(area > 0.0, predicted.dtype)
    return present * wrong / (wrong + area + _SMOOTH)


def _entropy(masks: Any, predicted: Any) -> Any:
    certain = tf.clip_by_value(predicted, keras.backend.epsilon(), 1.0 - keras.backend.epsilon())
    return -(masks * tf.math.log(certain) + (1.0 - masks) * tf.math.log(1.0 - certain))


def _mean_where(weight: Any, values: Any) -> tuple[Any, Any]:
    """Average values by weight; also returns 1 where there is any weight, else 0."""
    total = tf.reduce_sum(weight, axis=(1, 2))
    mean = tf.math.divide_no_nan(tf.reduce_sum(weight * values, axis=(1, 2)), total)
    return mean, tf.cast(total > 0.0, values.dtype)


def lines_loss(lines: Any, predicted: Any) -> Any:
    """Dice loss of the highest value on each row or column of a box, which must hold a pixel of the structure.

    Tian et al. 2021, "BoxInst: High-Performance Instance Segmentation with Box Annotations", project onto the image's
    axes; here the lines are those of the box before augmentation. What is outside is in the cross-entropy.
    """
    highest, there = find_highest(lines, predicted)
    # a Dice loss against ones, as theirs with squares
    hit = 2.0 * tf.reduce_sum(highest, axis=-1)
    total = tf.reduce_sum(highest * highest, axis=-1) + tf.reduce_sum(there, axis=-1)
    return tf.where(total > 0.0, 1.0 - tf.math.divide_no_nan(hit, total), tf.zeros_like(total))


def find_highest(lines: Any, predicted: Any) -> tuple[Any, Any]:
    """Find the highest value on each line, and which lines there are: (images, classes, lines), 0 for others."""
    shape = tf.shape(predicted)
    count, classes = shape[0], shape[3]
    most = find_most_lines(predicted.shape[1]) + 1
    # every class of every image numbers its lines from 1; 0 is no line
    start = tf.reshape(tf.range(count * classes) * most, (count, 1, 1, classes))
    numbers = tf.reshape(tf.cast(lines, tf.int32) + start, (-1,))
    highest = tf.math.unsorted_segment_max(tf.reshape(predicted, (-1,)), numbers, count * classes * most)
    # a line without a pixel has the lowest number there is
    there = tf.cast(highest >= 0.0, predicted.dtype)
    highest = tf.where(highest >= 0.0, highest, tf.zeros_like(highest))
    shape = (count, classes, most)
    return tf.reshape(highest, shape)[..., 1:], tf.reshape(there, shape)[..., 1:]


def size_loss(rows: Any, unknown: Any, predicted: Any) -> Any:
    """Penalise areas that no structure has in its boxes, too small or too large.

    Kervadec et al. 2020, "Bounding boxes for weakly supervised segmentation: Global constraints get close to full
    supervision", bound the area in the same way.
    """
    area = tf.reduce_sum(unknown, axis=(1, 2))
    share = tf.math.divide_no_nan(tf.reduce_sum(unknown * predicted, axis=(1, 2)), area)
    beyond = tf.maximum(LEAST_FILLED - share, 0.0) + tf.maximum(share - MOST_FILLED, 0.0)
    boxed = tf.cast(tf.reduce_any(rows > 0.0, axis=(1, 2)), predicted.dtype)
    return boxed * beyond


def pairwise_loss(likeness: Any, masks: Any, unknown: Any, predicted: Any) -> Any:
    """Let neighbours that look alike have the same label where at least one of them is unknown.

    -log of the probability that both are inside or both outside, as in BoxInst (Tian et al. 2021); weighted by how
    alike they are, where BoxInst takes those above a threshold.
    """
    # what is known is given, and not pulled along: masks would grow out of their boxes
    predicted = tf.where(unknown > 0.0, predicted, masks)
    values, weights = [], []
    for number, step in enumerate(NEIGHBOURS):
        here, there = ((slice(None), *part) for part in shift_slices(step))
        first, second = predicted[here], predicted[there]
        same = tf.clip_by_value(first * second + (1.0 - first) * (1.0 - second), keras.backend.epsilon(), 1.0)
        weight = tf.maximum(unknown[here], unknown[there]) * likeness[here][..., number : number + 1]
        values.append(tf.reduce_sum(-weight * tf.math.log(same), axis=(1, 2)))
        weights.append(tf.reduce_sum(weight, axis=(1, 2)))
    return tf.add_n(values) / (tf.add_n(weights) + _SMOOTH)
