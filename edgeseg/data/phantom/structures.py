"""Shapes with exact outlines: the mask of a phantom must come from geometry, never from the image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeseg.core.errors import DataError
from edgeseg.data.phantom.geometry import FloatArray

OUTLINE_ANGLES = 720
LOWEST_HARMONIC = 2
MIDDLE_SHARE = 1e-3


@dataclass(frozen=True)
class Blob:
    """An ellipse whose outline wanders by a few harmonics.

    Args:
        center_mm: x and z of its middle.
        axes_mm: Half axes before rotation.
        tilt: Rotation in radians.
        harmonics: Pairs of amplitude (share of the radius) and phase, from the second harmonic on.
    """

    center_mm: tuple[float, float]
    axes_mm: tuple[float, float]
    tilt: float = 0.0
    harmonics: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if min(self.axes_mm) <= 0 or sum(abs(size) for size, _ in self.harmonics) >= 1:
            raise DataError(
                f"Expected positive half axes and an outline that stays open, got {self}.",
                "Keep the harmonic amplitudes below one in sum.",
            )

    def outline(self) -> FloatArray:
        """Return the radius, as a share of the ellipse, at evenly spaced angles."""
        angle = np.linspace(-math.pi, math.pi, OUTLINE_ANGLES, endpoint=False)
        radius = np.ones_like(angle)
        for order, (size, phase) in enumerate(self.harmonics, LOWEST_HARMONIC):
            radius += size * np.cos(order * angle + phase)
        return radius.astype(np.float32)

    def distance(self, x_mm: FloatArray, z_mm: FloatArray) -> FloatArray:
        """Return millimetres to the outline along the ray from the middle, negative inside."""
        across, along = x_mm - self.center_mm[0], z_mm - self.center_mm[1]
        cosine, sine = math.cos(self.tilt), math.sin(self.tilt)
        first = (across * cosine + along * sine) / self.axes_mm[0]
        second = (along * cosine - across * sine) / self.axes_mm[1]
        share = np.maximum(np.hypot(first, second), MIDDLE_SHARE)
        reach = np.maximum(np.hypot(across, along), MIDDLE_SHARE * min(self.axes_mm))
        turn = (np.arctan2(second, first) / (2 * math.pi) + 0.5) * OUTLINE_ANGLES
        radius = self.outline()[turn.astype(np.int32) % OUTLINE_ANGLES]
        return np.asarray(reach * (1 - radius / share), dtype=np.float32)


@dataclass(frozen=True)
class Tube:
    """A vessel cut along its axis: a band that bends gently across the image.

    Args:
        depth_mm: Depth of its axis at x = 0.
        slope: Rise of the axis per millimetre of x.
        bend_mm: Height of its bends.
        bend_length_mm: Length of one bend.
    """

    depth_mm: float
    radius_mm: float
    slope: float
    bend_mm: float
    bend_length_mm: float
    phase: float

    def __post_init__(self) -> None:
        if self.radius_mm <= 0 or self.bend_length_mm <= 0:
            raise DataError(
                f"Expected a positive radius and bend length, got {self.radius_mm} and {self.bend_length_mm}.",
                "Both are in millimetres.",
            )

    def axis(self, x_mm: FloatArray) -> FloatArray:
        """Return the depth of the axis at each x."""
        turn = 2 * math.pi * x_mm / self.bend_length_mm + self.phase
        return np.asarray(self.depth_mm + self.slope * x_mm + self.bend_mm * np.sin(turn), dtype=np.float32)

    def distance(self, x_mm: FloatArray, z_mm: FloatArray) -> FloatArray:
        """Return millimetres to the wall, negative inside."""
        turn = 2 * math.pi * x_mm / self.bend_length_mm + self.phase
        steepness = self.slope + 2 * math.pi * self.bend_mm / self.bend_length_mm * np.cos(turn)
        gap = np.abs(z_mm - self.axis(x_mm)) / np.sqrt(1 + steepness**2)
        return np.asarray(gap - self.radius_mm, dtype=np.float32)


def draw_blob(
    rng: np.random.Generator, center_mm: tuple[float, float], axes_mm: tuple[float, float], roughness: float
) -> Blob:
    """Draw a blob with a random tilt and an outline that is smoother the higher the harmonic."""
    tilt = rng.uniform(-0.45, 0.45)
    sizes = roughness * rng.uniform(0.3, 1.0, 5) / np.arange(1, 6)
    phases = rng.uniform(-math.pi, math.pi, 5)
    harmonics = tuple((float(size), float(phase)) for size, phase in zip(sizes, phases, strict=True))
    return Blob(center_mm, axes_mm, float(tilt), harmonics)


def is_clear(outline: Blob | Tube, avoid: Blob | None, gap_mm: float) -> bool:
    """Say whether a shape keeps a gap to the surroundings of a blob."""
    if avoid is None:
        return True
    angle = np.linspace(0, 2 * math.pi, 24, dtype=np.float32)
    reach = max(avoid.axes_mm) * 1.1
    x = np.asarray(avoid.center_mm[0] + reach * np.cos(angle), dtype=np.float32)
    z = np.asarray(avoid.center_mm[1] + reach * np.sin(angle), dtype=np.float32)
    return bool(outline.distance(x, z).min() > gap_mm)
