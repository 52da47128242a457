"""What the card says about both ends of a network: the specs that the frame's code follows."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from edgeseg.core.limits import CLASSES, IMAGE_SIDE, NAME_LETTERS, NETWORK_SIDE

COLOURS = {"grey": 1, "rgb": 3}
RESIZES = ("letterbox", "stretch")
DENOISES = ("none", "median", "speckle")
ACTIVATIONS = ("sigmoid", "softmax")
SHAPES = ("free", "ellipse")
INTEGERS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
"""Integer types of tensors, and their lowest and highest numbers."""
FLOATS = ("float32", "float16")


def check_choice(name: str, value: object, known: Collection[object]) -> None:
    """Refuse a value that is none of those that are known."""
    if value not in known:
        raise ValueError(f"expected {name} to be one of {', '.join(map(str, known))}, got {value!r}")


@dataclass(frozen=True)
class Region:
    """A rectangle of the frame, in the frame's own pixels."""

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
    """Read a region that is written x,y,width,height."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isdecimal() for part in parts):
        raise ValueError(f"expected a region as x,y,width,height in whole pixels, got {text!r}")
    return Region(*map(int, parts))


@dataclass(frozen=True)
class InputSpec:
    """What a frame is turned into before the network sees it."""

    height: int
    width: int
    colour: str = "grey"
    resize: str = "letterbox"
    region: Region | None = None
    white: int = 65535
    """The value of a 16-bit frame that is shown as white."""
    denoise: str = "none"
    """What quietens the pixels on the network's grid."""

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 16:
            raise ValueError(f"expected an input of at least 16x16, got {self.height}x{self.width}")
        if max(self.height, self.width) > NETWORK_SIDE:
            raise ValueError(f"expected an input of at most {NETWORK_SIDE} pixels, got {self.height}x{self.width}")
        check_choice("colour", self.colour, COLOURS)
        check_choice("resize", self.resize, RESIZES)
        check_choice("denoise", self.denoise, DENOISES)
        if not 255 <= self.white <= 65535:
            raise ValueError(f"expected white from 255 to 65535, got {self.white}")

    @property
    def channels(self) -> int:
        """Count the channels of the input tensor."""
        return COLOURS[self.colour]

    @property
    def in_colour(self) -> bool:
        """Say whether frames must be in colour."""
        return self.channels > 1


@dataclass(frozen=True)
class ClassSpec:
    """One thing to be found, and the RGB colour it is drawn in."""

    name: str
    colour: tuple[int, int, int] = (255, 176, 0)

    def __post_init__(self) -> None:
        if not 0 < len(self.name.strip()) <= NAME_LETTERS:
            raise ValueError(f"expected a class's name of 1 to {NAME_LETTERS} letters, got {self.name[:40]!r}")
        if not all(0 <= part <= 255 for part in self.colour):
            raise ValueError(f"expected a colour of three numbers from 0 to 255, got {self.colour}")


@dataclass(frozen=True)
class OutputSpec:
    """How the network's output is read."""

    classes: tuple[ClassSpec, ...]
    activation: str = "sigmoid"
    threshold: float = 0.5
    smallest_region: int = 0
    """Regions with fewer pixels than this on the input's grid are dropped, however coarse the mask is drawn."""
    shape: str = "free"
    """What a class is drawn as: "free", whatever was found, or "ellipse", the one fitted to the largest region."""

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
        """Count the channels of the output tensor; softmax has one more, for the background."""
        return len(self.classes) + self.draws_background

    @property
    def draws_background(self) -> bool:
        """Say whether the first channel is the background's."""
        return self.activation == "softmax"


@dataclass(frozen=True)
class Quantisation:
    """How a tensor's numbers stand for real ones: real = scale * (number - zero_point)."""

    dtype: str = "float32"
    scale: float = 0.0
    zero_point: int = 0


def check_numbers(name: str, numbers: Quantisation) -> None:
    """Refuse a quantisation that no tensor can have; floats have none."""
    check_choice(f"the type of the {name}", numbers.dtype, (*FLOATS, *INTEGERS))
    if numbers.dtype in FLOATS:
        if (numbers.scale, numbers.zero_point) != (0.0, 0):
            raise ValueError(f"expected no scale for {numbers.dtype} at the {name}, got {numbers.scale:g}")
        return
    low, high = INTEGERS[numbers.dtype]
    if not (math.isfinite(numbers.scale) and numbers.scale > 0.0):
        raise ValueError(f"expected a scale above 0 for the {name}, got {numbers.scale:g}")
    if not low <= numbers.zero_point <= high:
        raise ValueError(f"expected a zero point from {low} to {high} for the {name}, got {numbers.zero_point}")
