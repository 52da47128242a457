"""Input, output and quantisation of a network as the card describes them; preprocessing and postprocessing follow."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from edgeseg.core.limits import CLASSES, FRAME_CLASSES, IMAGE_SIDE, NAME_LETTERS, NETWORK_SIDE

# Values of the card's fields; cards of older versions use them, so none is ever renamed.
COLOURS = {"grey": 1, "rgb": 3}
RESIZES = ("letterbox", "stretch")
DENOISES = ("none", "median", "speckle")
ACTIVATIONS = ("sigmoid", "softmax")
SHAPES = ("free", "ellipse")
# What images are labelled with, and how a training is told to take each image's own labels.
MASKS, BOXES, POINTS, SCRIBBLES = "masks", "boxes", "points", "scribbles"
WEAK_KINDS = (BOXES, POINTS, SCRIBBLES)
LABEL_KINDS = (MASKS, *WEAK_KINDS)
AUTO = "auto"
# Integer types of tensors, and their lowest and highest numbers.
INTEGERS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
FLOATS = ("float32", "float16")
# OpenCV resizes up to four channels at once.
MODALITIES = 4


def check_choice(name: str, value: object, known: Collection[object]) -> None:
    """Refuse a value that is not among the known ones."""
    if value not in known:
        raise ValueError(f"expected {name} to be one of {', '.join(map(str, known))}, got {value!r}")


@dataclass(frozen=True)
class Region:
    """A rectangle of the frame (region of interest), in the frame's own pixels."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if min(self.x, self.y) < 0 or min(self.width, self.height) < 1:
            raise ValueError(f"expected a region x,y,width,height with x,y >= 0 and a size of at least 1, got {self}")
        if max(self.x + self.width, self.y + self.height) > IMAGE_SIDE:
            raise ValueError(f"expected a region within {IMAGE_SIDE} pixels, got {self}")


def read_region(text: str) -> Region:
    """Parse a region that is written x,y,width,height."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isdecimal() for part in parts):
        raise ValueError(f"expected a region as x,y,width,height in whole pixels, got {text!r}")
    return Region(*map(int, parts))


@dataclass(frozen=True)
class InputSpec:
    """How a frame is preprocessed for the network."""

    height: int
    width: int
    colour: str = "grey"
    resize: str = "letterbox"
    region: Region | None = None
    white: int = 65535
    """The value of a 16-bit frame that becomes 255."""
    denoise: str = "none"
    """The filter on the resized pixels: none, median, or speckle (Lee's filter)."""
    modalities: tuple[str, ...] = ()
    """The names of co-registered pictures that are one channel each, in this order; empty for an ordinary frame."""
    signed: tuple[str, ...] = ()
    """Those of them whose colour carries a sign, as of colour Doppler: the channel is 128 + (red - blue) / 2."""

    def __post_init__(self) -> None:
        self._check_modalities()
        if min(self.height, self.width) < 16:
            raise ValueError(f"expected an input of at least 16x16, got {self.height}x{self.width}")
        if max(self.height, self.width) > NETWORK_SIDE:
            raise ValueError(f"expected an input of at most {NETWORK_SIDE} pixels, got {self.height}x{self.width}")
        check_choice("colour", self.colour, COLOURS)
        check_choice("resize", self.resize, RESIZES)
        check_choice("denoise", self.denoise, DENOISES)
        if not 255 <= self.white <= 65535:
            raise ValueError(f"expected white from 255 to 65535, got {self.white}")

    def _check_modalities(self) -> None:
        names = self.modalities
        if len(names) > MODALITIES or len(set(names)) < len(names):
            raise ValueError(f"expected at most {MODALITIES} modalities of different names, got {names[:9]}")
        for name in names:
            if not 0 < len(name.strip()) <= NAME_LETTERS or set(name) & set(",="):
                raise ValueError(f"expected modalities' names without commas and =, got {name[:40]!r}")
        if not set(self.signed) <= set(names):
            raise ValueError(f"expected signed modalities among {', '.join(names) or 'none'}, got {self.signed[:9]}")
        if names and self.colour != "grey":
            raise ValueError(f"expected colour grey beside modalities, which have one channel each, got {self.colour}")

    @property
    def channels(self) -> int:
        """Count the channels of the input tensor."""
        return len(self.modalities) or COLOURS[self.colour]

    @property
    def is_stack(self) -> bool:
        """Say whether a frame is several pictures, one for each modality."""
        return len(self.modalities) > 1

    @property
    def in_colour(self) -> bool:
        """Say whether frames must be in colour."""
        return self.colour != "grey"


@dataclass(frozen=True)
class ClassSpec:
    """One class of the segmentation, and the RGB colour it is drawn in."""

    name: str
    colour: tuple[int, int, int] = (255, 176, 0)

    def __post_init__(self) -> None:
        if not 0 < len(self.name.strip()) <= NAME_LETTERS:
            raise ValueError(f"expected a class's name of 1 to {NAME_LETTERS} letters, got {self.name[:40]!r}")
        if not all(0 <= part <= 255 for part in self.colour):
            raise ValueError(f"expected a colour of three numbers from 0 to 255, got {self.colour}")


@dataclass(frozen=True)
class OutputSpec:
    """How the network's output is postprocessed into masks."""

    classes: tuple[ClassSpec, ...]
    activation: str = "sigmoid"
    threshold: float = 0.5
    smallest_region: int = 0
    """Connected regions with fewer pixels than this are dropped; counted at the input's size, whatever the stride."""
    shape: str = "free"
    """"free" keeps the outline that the network drew; "ellipse" replaces it by one fitted to the largest region."""

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("expected at least one class, got none")
        names = [spec.name for spec in self.classes]
        if len(names) > CLASSES or len(set(names)) < len(names):
            raise ValueError(f"expected at most {CLASSES} classes of different names, got {', '.join(names)[:200]}")
        if not 0 <= self.smallest_region <= NETWORK_SIDE**2:
            raise ValueError(f"expected a smallest region from 0 pixels, got {self.smallest_region}")
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("shape", self.shape, SHAPES)
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"expected a threshold between 0 and 1, got {self.threshold}")

    @property
    def channels(self) -> int:
        """Count the channels of the output tensor; softmax has one more, the background."""
        return len(self.classes) + self.draws_background

    @property
    def draws_background(self) -> bool:
        """Say whether the first channel is the background's."""
        return self.activation == "softmax"


@dataclass(frozen=True)
class FindingSpec:
    """What the network's second output (1, 1, 1, channels) says about the whole frame; every channel is a probability.

    The first channels say of each class of the masks whether it is present, in their order. The others say which of
    `frame_classes` the frame is: each by itself (sigmoid), and the highest is taken.
    """

    frame_classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.frame_classes) == 1 or len(set(self.frame_classes)) < len(self.frame_classes):
            raise ValueError(f"expected no frame classes or at least 2 different ones, got {self.frame_classes[:9]}")
        named = all(0 < len(name.strip()) <= NAME_LETTERS for name in self.frame_classes)
        if len(self.frame_classes) > FRAME_CLASSES or not named:
            raise ValueError(f"expected at most {FRAME_CLASSES} frame classes of 1 to {NAME_LETTERS} letters")

    def count_channels(self, classes: int) -> int:
        """Count the channels of the finding output of a network that draws masks of so many classes."""
        return classes + len(self.frame_classes)


@dataclass(frozen=True)
class Quantisation:
    """Affine quantisation of a whole tensor, as TFLite defines it: real = scale * (number - zero_point)."""

    dtype: str = "float32"
    scale: float = 0.0
    zero_point: int = 0


def check_quantisation(name: str, quantisation: Quantisation) -> None:
    """Refuse a quantisation that no tensor can have; floats have neither scale nor zero point."""
    dtype, scale, zero_point = quantisation.dtype, quantisation.scale, quantisation.zero_point
    check_choice(f"the type of the {name}", dtype, (*FLOATS, *INTEGERS))
    if dtype in FLOATS:
        if (scale, zero_point) != (0.0, 0):
            raise ValueError(f"expected no scale for {dtype} at the {name}, got {scale:g}")
        return
    low, high = INTEGERS[dtype]
    if not (math.isfinite(scale) and scale > 0.0):
        raise ValueError(f"expected a scale above 0 for the {name}, got {scale:g}")
    if not low <= zero_point <= high:
        raise ValueError(f"expected a zero point from {low} to {high} for the {name}, got {zero_point}")
