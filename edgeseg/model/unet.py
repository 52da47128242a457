"""Build a U-Net (Ronneberger, Fischer and Brox 2015) of layers that tfmot, LiteRT and the Edge TPU all take.

A decoder stage reduces the channels with a 1x1 convolution before the bilinear resize, so that resize and skip addition
run on few channels; a transposed convolution does both at once. A U-Net spends most of its time at full resolution, so
all stems but "full" start with stride 2; the mask then has output stride 2 or 4 and is resized to the frame on the
device (docs/decisions/0012, 0021).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from edgeseg.model.keras import keras, tf
from edgeseg.model.spec import LITE0, UNetSpec

layers = keras.layers
# Averages the statistics over about 10 steps; Keras' default of 0.99 over about 100.
BATCH_NORM_MOMENTUM = 0.9
# The stem's convolutions, all with stride 2; a 2x2 one is space-to-depth and a 1x1 convolution in one operator.
STEM_KERNELS = {"half": {"stem": 3}, "depth": {"stem": 2}, "quarter": {"stem": 3, "stem2": 3}}
# EfficientNet-Lite0 without its classifier (Tan and Le 2019; Liu 2020): stage, and its inverted residual blocks as
# repeats, kernel, stride of the first, expansion and channels.
LITE0_STEM = 32
LITE0_BLOCKS = (
    ("stem", ((1, 3, 1, 1, 16),)),
    ("down0", ((2, 3, 2, 6, 24),)),
    ("down1", ((2, 5, 2, 6, 40),)),
    ("down2", ((3, 3, 2, 6, 80), (3, 5, 1, 6, 112))),
    ("down3", ((4, 5, 2, 6, 192), (1, 3, 1, 6, 320))),
)
# The convolutions that compute the masks and the findings.
HEAD, FINDING_HEAD = "head", "finding_head"
# What rearranges the head's channels into mask pixels, where it does.
DRAWN = "head_space"
_KERNELS = ("kernel", "depthwise_kernel")
_STAGE = re.compile(r"stem|down\d+|up\d+|head|finding")


class SpaceToDepth(keras.layers.Layer):  # type: ignore[misc]
    """Rearrange blocks of pixels into channels, an operator of TFLite that moves bytes only."""

    def __init__(self, block: int, **options: Any) -> None:
        super().__init__(**options)
        self.block = block

    def call(self, x: Any) -> Any:
        """Rearrange a batch."""
        return tf.nn.space_to_depth(x, self.block)

    def get_config(self) -> dict[str, Any]:
        """Describe the layer, as Keras copies it by that."""
        return {**super().get_config(), "block": self.block}


class DepthToSpace(SpaceToDepth):
    """Rearrange channels into blocks of pixels."""

    def call(self, x: Any) -> Any:
        """Rearrange a batch."""
        return tf.nn.depth_to_space(x, self.block)


def build_unet(spec: UNetSpec, any_size: bool = False) -> Any:
    """Build the Keras model of a spec; `any_size` takes images of all sizes, which no converted file does."""
    height, width = (None, None) if any_size else (spec.height, spec.width)
    image = keras.Input((height, width, spec.channels), name="image")
    skips = (_encode_lite0 if spec.encoder == LITE0 else _encode)(image, spec)
    x = deepest = skips[-1]
    # drops whole channels, since neighbouring pixels are correlated (Tompson et al. 2015); deepest stage only
    x = layers.SpatialDropout2D(spec.dropout, name="dropout")(x)
    for stage in reversed(range(len(spec.widths) - 1)):
        x = _up(x, skips[stage], spec, stage)
    logits = layers.Conv2D(spec.outputs * spec.drawn**2, 1, kernel_regularizer=_penalty(spec), name=HEAD)(x)
    if spec.drawn > 1:
        logits = DepthToSpace(spec.drawn, name=DRAWN)(logits)
    # float32: mixed precision must not round the probabilities
    mask = layers.Activation(spec.activation, dtype="float32", name="mask")(logits)
    if not spec.findings:
        return keras.Model(image, mask, name="unet")
    return keras.Model(image, [mask, _find(deepest, spec)], name="unet")


def _encode(image: Any, spec: UNetSpec) -> list[Any]:
    """Add the U-Net's own encoder; returns the results of its stages."""
    x = _fuse_late(image, spec) if spec.fusion == "late" else _begin(image, spec)
    results = [x]
    for stage in range(1, len(spec.widths)):
        x = layers.MaxPool2D(name=f"down{stage}_pool")(x)
        x = _conv_pair(x, spec, f"down{stage}", stage)
        results.append(x)
    return results


def _begin(x: Any, spec: UNetSpec, own: str = "") -> Any:
    """Add stem and first stage; `own` is in the names of those of one modality."""
    if spec.block > 1:
        x = SpaceToDepth(spec.block, name=f"stem{own}")(x)
    for name, kernel in STEM_KERNELS.get(spec.stem, {}).items():
        x = _conv(x, spec, f"{name}{own}", 0, kernel, strides=2)
    return _conv_pair(x, spec, f"down0{own}", 0)


def _fuse_late(image: Any, spec: UNetSpec) -> Any:
    """Add stem and first stage for every channel by itself, and merge their features by a 1x1 convolution."""
    own = [_begin(_cut_channel(image, number, spec), spec, f"_m{number}") for number in range(spec.channels)]
    # named as what ends the first stage of other networks: its width is the stage's, and the decoder reads it
    return _conv(layers.Concatenate(name="down0_join")(own), spec, "down0_b", 0, 1)


def _cut_channel(image: Any, number: int, spec: UNetSpec) -> Any:
    """Cut out one channel: tfmot takes no slice, but a crop, whose last axis is the channels in this data format."""
    crop = ((0, 0), (number, spec.channels - 1 - number))
    return layers.Cropping2D(crop, data_format="channels_first", name=f"image_m{number}")(image)


def _encode_lite0(x: Any, spec: UNetSpec) -> list[Any]:
    """Add the encoder of EfficientNet-Lite0; returns its results at the strides 4, 8, 16 and 32."""
    x = _convolve(x, spec, LITE0_STEM, "stem", 3, strides=2)
    results, number, width = [], 0, LITE0_STEM
    for stage, blocks in LITE0_BLOCKS:
        for repeats, kernel, stride, expansion, channels in blocks:
            for repeat in range(repeats):
                shape = (kernel, 1 if repeat else stride, expansion, width, channels)
                x = _invert(x, spec, f"{stage}_block{number}", shape)
                number, width = number + 1, channels
        results.append(x)
    # the first ones are those of the stem
    return results[1:]


def _invert(x: Any, spec: UNetSpec, name: str, shape: tuple[int, int, int, int, int]) -> Any:
    """Add an inverted residual block (Sandler et al. 2018): kernel, stride, expansion, channels before and after."""
    kernel, stride, expansion, width, channels = shape
    before = x
    if expansion > 1:
        x = _convolve(x, spec, width * expansion, f"{name}_expand", 1)
    x = _depthwise(x, spec, name, kernel, stride)
    x = _convolve(x, spec, channels, f"{name}_project", 1, active=False)
    return layers.Add(name=f"{name}_skip")([before, x]) if stride == 1 and width == channels else x


def _find(x: Any, spec: UNetSpec) -> Any:
    """Add the finding output: probabilities of the whole frame, from mean and maximum over the deepest stage."""
    x = _conv(x, spec, "finding_hidden", 0, 1)
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="finding_mean")(x)
    if None in x.shape[1:3]:
        most = layers.GlobalMaxPooling2D(keepdims=True, name="finding_max")(x)
    else:
        # in files no GlobalMaxPooling2D: it becomes a REDUCE_MAX, whose limits on the Edge TPU are not documented
        most = layers.MaxPool2D(tuple(x.shape[1:3]), name="finding_max")(x)
    x = layers.Concatenate(name="finding_pool")([mean, most])
    logits = layers.Conv2D(spec.findings, 1, kernel_regularizer=_penalty(spec), name=FINDING_HEAD)(x)
    # not softmax: the Edge TPU's compiler takes none, and several classes may be present at once
    return layers.Activation("sigmoid", dtype="float32", name="finding")(logits)


def _up(x: Any, skip: Any, spec: UNetSpec, stage: int) -> Any:
    x = _enlarge(x, spec, f"up{stage}", stage)
    if spec.encoder == LITE0 and spec.skip == "add":
        skip = _convolve(skip, spec, spec.widths[stage], f"up{stage}_narrow", 1, active=False)
    join = layers.Add if spec.skip == "add" else layers.Concatenate
    x = join(name=f"up{stage}_skip")([x, skip])
    return _conv_pair(x, spec, f"up{stage}", stage)


def _enlarge(x: Any, spec: UNetSpec, name: str, stage: int) -> Any:
    if spec.upsampling == "transpose":
        width = spec.width_of(f"{name}_reduce", stage)
        return layers.Conv2DTranspose(
            width, 2, 2, kernel_initializer="he_normal", kernel_regularizer=_penalty(spec), name=f"{name}_reduce"
        )(x)
    x = _conv(x, spec, f"{name}_reduce", stage, 1)
    return layers.UpSampling2D(interpolation="bilinear", name=f"{name}_resize")(x)


def _conv_pair(x: Any, spec: UNetSpec, name: str, stage: int) -> Any:
    for step in ("a", "b"):
        x = _conv3(x, spec, f"{name}_{step}", stage)
    return x


def _conv3(x: Any, spec: UNetSpec, name: str, stage: int) -> Any:
    """Add a 3x3 convolution, plain or separable; on the image's single channel it is always plain."""
    if spec.convolution == "plain" or (name.startswith("down0_") and name.endswith("_a") and spec.stem == "full"):
        return _conv(x, spec, name, stage, 3)
    return _conv(_depthwise(x, spec, name), spec, name, stage, 1)


def _depthwise(x: Any, spec: UNetSpec, name: str, kernel: int = 3, strides: int = 1) -> Any:
    depthwise = layers.DepthwiseConv2D(
        kernel,
        strides,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        depthwise_regularizer=_penalty(spec),
        name=f"{name}_depthwise",
    )
    return _norm(depthwise(x), f"{name}_depthwise")


def _conv(x: Any, spec: UNetSpec, name: str, stage: int, kernel: int, strides: int = 1) -> Any:
    return _convolve(x, spec, spec.width_of(name, stage), name, kernel, strides)


def _convolve(x: Any, spec: UNetSpec, width: int, name: str, kernel: int, strides: int = 1, active: bool = True) -> Any:
    convolution = layers.Conv2D(
        width,
        kernel,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        kernel_regularizer=_penalty(spec),
        name=name,
    )
    return _norm(convolution(x), name, active)


def _norm(x: Any, name: str, active: bool = True) -> Any:
    # takes the place of the convolution's bias; the converter folds both into one operator
    x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_norm")(x)
    # ReLU6: a bounded output keeps int8 ranges narrow
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if active else x


def _penalty(spec: UNetSpec) -> Any:
    return keras.regularizers.L2(spec.l2) if spec.l2 else None


def find_mask_shape(model: Any) -> tuple[int, int, int]:
    """Find height, width and channels of the masks, with or without a finding output beside them."""
    shape = model.output_shape
    _, height, width, channels = shape[0] if isinstance(shape, list) else shape
    return height, width, channels


def find_logits(model: Any) -> Any:
    """Find the masks' logits, one channel for each of them."""
    names = {layer.name for layer in model.layers}
    return model.get_layer(DRAWN if DRAWN in names else HEAD).output


def split_outputs(results: Any) -> tuple[Any, Any | None]:
    """Split what a model returns into masks and findings; the latter are None for a model without them."""
    return tuple(results) if isinstance(results, (list, tuple)) else (results, None)


@dataclass(frozen=True)
class StageSummary:
    """One stage: the shape of its output, its parameters as Keras counts them, its MACs for one image."""

    name: str
    height: int
    width: int
    channels: int
    parameters: int
    macs: int


def summarise_stages(model: Any) -> tuple[StageSummary, ...]:
    """Summarise a U-Net's stages in execution order."""
    stages: dict[str, list[Any]] = {}
    for layer in model.layers:
        found = _STAGE.match(layer.name)
        if found:
            stages.setdefault(found.group(), []).append(layer)
    return tuple(_summarise_stage(name, layers) for name, layers in stages.items())


def _summarise_stage(name: str, layers: list[Any]) -> StageSummary:
    _, height, width, channels = layers[-1].output_shape
    parameters = sum(layer.count_params() for layer in layers)
    return StageSummary(name, height, width, channels, parameters, sum(_count_macs(layer) for layer in layers))


def _count_macs(layer: Any) -> int:
    kernel = next((getattr(layer, name) for name in _KERNELS if hasattr(layer, name)), None)
    if kernel is None:
        return 0
    return count_positions(layer) * int(math.prod(kernel.shape))


def count_positions(layer: Any) -> int:
    """Count how often a kernel is applied: once per output pixel, or per input pixel where it is transposed."""
    shape = layer.input_shape if type(layer).__name__ == "Conv2DTranspose" else layer.output_shape
    return int(shape[1] * shape[2])
