"""Build a U-Net from its spec, of layers that tfmot, LiteRT and the Edge TPU all take.

Each stage up brings the channels down with a 1x1 convolution before the bilinear resize, so that the resize and the
addition of the skip run on few channels. The half stem leaves full resolution with its first convolution, where a
U-Net spends most of its time; the mask is then drawn at half resolution and resized with the frame's own arithmetic.
"""

from __future__ import annotations

from typing import Any

from edgeseg.model.keras import keras
from edgeseg.model.spec import UNetSpec

layers = keras.layers
BATCH_NORM_MOMENTUM = 0.9


def build_unet(spec: UNetSpec) -> Any:
    """Build the Keras model of a spec."""
    image = keras.Input((spec.height, spec.width, spec.channels), name="image")
    x: Any = image
    if spec.stem == "half":
        x = _conv(x, spec.widths[0], 3, "stem", strides=2)
    skips = []
    for stage, width in enumerate(spec.widths):
        if stage:
            x = layers.MaxPool2D(name=f"down{stage}_pool")(x)
        x = _conv_pair(x, width, f"down{stage}")
        skips.append(x)
    x = layers.SpatialDropout2D(spec.dropout, name="dropout")(x)
    for stage in reversed(range(len(spec.widths) - 1)):
        x = _up(x, skips[stage], spec, stage)
    logits = layers.Conv2D(spec.outputs, 1, name="head")(x)
    mask = layers.Activation(spec.activation, dtype="float32", name="mask")(logits)
    return keras.Model(image, mask, name="unet")


def _up(x: Any, skip: Any, spec: UNetSpec, stage: int) -> Any:
    width = spec.widths[stage]
    x = _conv(x, width, 1, f"up{stage}_reduce")
    x = layers.UpSampling2D(interpolation="bilinear", name=f"up{stage}_resize")(x)
    join = layers.Add if spec.skip == "add" else layers.Concatenate
    x = join(name=f"up{stage}_skip")([x, skip])
    return _conv_pair(x, width, f"up{stage}")


def _conv_pair(x: Any, width: int, name: str) -> Any:
    return _conv(_conv(x, width, 3, f"{name}_a"), width, 3, f"{name}_b")


def _conv(x: Any, width: int, kernel: int, name: str, strides: int = 1) -> Any:
    convolution = layers.Conv2D(
        width, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )
    x = convolution(x)
    x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_norm")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)
