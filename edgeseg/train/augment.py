"""Vary ultrasound images the way probes, hands and gain knobs do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from edgeseg.model.keras import tf


@dataclass(frozen=True)
class AugmentSpec:
    """How far images are varied."""

    flip: bool = True
    rotation_degrees: float = 15.0
    zoom: float = 0.2
    shift: float = 0.1
    gain: float = 0.25
    gamma: float = 0.3
    speckle: float = 0.08


def augment_batch(images: Any, masks: Any, spec: AugmentSpec) -> tuple[Any, Any]:
    """Vary a batch of images (0 to 1) and move its masks along."""
    transforms = _draw_transforms(tf.shape(images), spec)
    images = _warp(images, transforms, "BILINEAR")
    masks = _warp(masks, transforms, "NEAREST")
    return _vary_brightness(images, spec), masks


def _draw_transforms(shape: Any, spec: AugmentSpec) -> Any:
    count = shape[0]
    height, width = tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
    angle = _uniform(count, math.radians(spec.rotation_degrees))
    scale = tf.exp(_uniform(count, spec.zoom))
    mirror = tf.sign(_uniform(count, 1.0)) if spec.flip else tf.ones([count])
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    a, b, d, e = cos * mirror, -sin, sin * mirror, cos
    c = middle_x - a * middle_x - b * middle_y + _uniform(count, spec.shift) * width
    f = middle_y - d * middle_x - e * middle_y + _uniform(count, spec.shift) * height
    zero = tf.zeros([count])
    return tf.stack([a, b, c, d, e, f, zero, zero], axis=1)


def _warp(images: Any, transforms: Any, interpolation: str) -> Any:
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation=interpolation,
        fill_mode="CONSTANT",
    )


def _vary_brightness(images: Any, spec: AugmentSpec) -> Any:
    count = tf.shape(images)[0]
    gamma = tf.reshape(tf.exp(_uniform(count, spec.gamma)), [-1, 1, 1, 1])
    gain = tf.reshape(1.0 + _uniform(count, spec.gain), [-1, 1, 1, 1])
    noise = 1.0 + tf.random.normal(tf.shape(images), stddev=spec.speckle)
    return tf.clip_by_value(tf.pow(images, gamma) * gain * noise, 0.0, 1.0)


def _uniform(count: Any, limit: float) -> Any:
    return tf.random.uniform([count], -limit, limit)
