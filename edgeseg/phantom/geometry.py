"""Scan geometry: the beams of linear, sector (phased array) and convex probes, and the scan conversion to pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, UnknownNameError

FloatArray = NDArray[np.float32]
GEOMETRIES: tuple[str, ...] = ("linear", "sector", "convex")
# How often each geometry is drawn.
GEOMETRY_SHARES = (0.5, 0.2, 0.3)
# A smaller image has no room for speckle.
SMALLEST_SIDE = 32
# Scanners have fewer beams than the image has columns, and more samples than rows.
BEAMS_PER_PIXEL = 0.75
SAMPLES_PER_PIXEL = 1.5
# Share of the image's height or width that the fan-shaped sector fills.
FAN_FILL = 0.98
# Low and high bound of the uniform draw for each probe.
LINEAR_WIDTH_MM = (34.0, 46.0)
FAN_DEPTH_MM = {"sector": (90.0, 130.0), "convex": (90.0, 130.0)}
FAN_RADIUS_MM = {"sector": (8.0, 14.0), "convex": (38.0, 55.0)}
FAN_HALF_ANGLE_DEG = {"sector": (31.0, 38.0), "convex": (25.0, 31.0)}


@dataclass(frozen=True)
class ScanGeometry:
    """The beam grid in millimetres, and the scan conversion from image pixels back to it.

    Args:
        radius_mm: Radius of the probe face; zero for a flat probe.
        x_mm: Lateral position of each sample of each beam (samples, beams).
        z_mm: Axial position of the same, zero at the middle of the probe face.
        beam_of_pixel: Beam number at each image pixel, fractional (height, width).
        sample_of_pixel: Sample number at each image pixel, fractional.
        inside: Pixels that a beam reaches; a fan-shaped sector leaves black corners.
    """

    name: str
    size: tuple[int, int]
    depth_mm: float
    radius_mm: float
    mm_per_pixel: float
    x_mm: FloatArray
    z_mm: FloatArray
    beam_of_pixel: FloatArray
    sample_of_pixel: FloatArray
    inside: NDArray[np.bool_]

    def probe_depth(self, x_mm: FloatArray, z_mm: FloatArray) -> FloatArray:
        """Return the distance to the probe face, which tissue layers follow."""
        if self.radius_mm == 0.0:
            return np.asarray(z_mm + 0.0 * x_mm, dtype=np.float32)
        return np.asarray(np.hypot(x_mm, z_mm + self.radius_mm) - self.radius_mm, dtype=np.float32)

    def beam_direction(self, x_mm: FloatArray, z_mm: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the unit vector along the beam through each point."""
        if self.radius_mm == 0.0:
            flat = np.zeros(np.broadcast_shapes(x_mm.shape, z_mm.shape), np.float32)
            return flat, np.ones_like(flat)
        distance = np.maximum(np.hypot(x_mm, z_mm + self.radius_mm), 1e-3)
        return (
            np.asarray(x_mm / distance, dtype=np.float32),
            np.asarray((z_mm + self.radius_mm) / distance, dtype=np.float32),
        )

    def beam_pitch_mm(self) -> FloatArray:
        """Return the distance between neighbouring beams at each sample."""
        middle = self.x_mm.shape[1] // 2
        step_x = self.x_mm[:, middle] - self.x_mm[:, middle - 1]
        step_z = self.z_mm[:, middle] - self.z_mm[:, middle - 1]
        return np.asarray(np.hypot(step_x, step_z), dtype=np.float32)

    def sample_pitch_mm(self) -> float:
        """Return the distance between neighbouring samples of a beam."""
        samples: int = self.x_mm.shape[0]
        return self.depth_mm / (samples - 1)


def check_size(size: tuple[int, int]) -> None:
    """Refuse an image size that leaves no room for speckle."""
    if len(size) != 2 or min(size) < SMALLEST_SIDE:
        raise DataError(
            f"Expected a phantom size of at least {SMALLEST_SIDE} by {SMALLEST_SIDE} pixels, got {size}.",
            "Give (height, width), for example (256, 256).",
        )


def draw_geometry(rng: np.random.Generator, name: str | None, size: tuple[int, int]) -> ScanGeometry:
    """Draw a probe of the named geometry, or of any, and its beam grid."""
    check_size(size)
    drawn = str(rng.choice(GEOMETRIES, p=GEOMETRY_SHARES))
    chosen = drawn if name is None else name
    if chosen not in GEOMETRIES:
        raise UnknownNameError("scan geometry", chosen, GEOMETRIES)
    if chosen == "linear":
        return _build_linear(rng.uniform(*LINEAR_WIDTH_MM), size)
    return _build_fan(
        chosen,
        size,
        depth_mm=rng.uniform(*FAN_DEPTH_MM[chosen]),
        radius_mm=rng.uniform(*FAN_RADIUS_MM[chosen]),
        half_angle=math.radians(rng.uniform(*FAN_HALF_ANGLE_DEG[chosen])),
    )


def _count_grid(size: tuple[int, int]) -> tuple[int, int]:
    return round(SAMPLES_PER_PIXEL * size[0]), round(BEAMS_PER_PIXEL * size[1])


def _build_linear(width_mm: float, size: tuple[int, int]) -> ScanGeometry:
    height, width = size
    samples, beams = _count_grid(size)
    depth_mm = width_mm * height / width
    x, z = np.meshgrid(np.linspace(-width_mm / 2, width_mm / 2, beams), np.linspace(0, depth_mm, samples))
    beam, sample = np.meshgrid(np.linspace(0, beams - 1, width), np.linspace(0, samples - 1, height))
    return ScanGeometry(
        name="linear",
        size=size,
        depth_mm=depth_mm,
        radius_mm=0.0,
        mm_per_pixel=width_mm / width,
        x_mm=x.astype(np.float32),
        z_mm=z.astype(np.float32),
        beam_of_pixel=beam.astype(np.float32),
        sample_of_pixel=sample.astype(np.float32),
        inside=np.ones(size, np.bool_),
    )


def _build_fan(name: str, size: tuple[int, int], depth_mm: float, radius_mm: float, half_angle: float) -> ScanGeometry:
    height, width = size
    samples, beams = _count_grid(size)
    angle, reach = np.meshgrid(
        np.linspace(-half_angle, half_angle, beams), radius_mm + np.linspace(0, depth_mm, samples)
    )
    top = radius_mm * math.cos(half_angle)
    extent = (radius_mm + depth_mm - top, 2 * (radius_mm + depth_mm) * math.sin(half_angle))
    scale = max(extent[0] / height, extent[1] / width) / FAN_FILL
    # scan conversion: the beam and sample of each pixel in polar coordinates around the centre of the probe face
    across = (np.arange(width) - (width - 1) / 2)[None, :] * scale
    along = top + (np.arange(height)[:, None] * scale - (1 - FAN_FILL) * extent[0] / 2)
    pixel_angle, pixel_reach = np.arctan2(across, along), np.hypot(across, along)
    beam = (pixel_angle + half_angle) / (2 * half_angle) * (beams - 1)
    sample = (pixel_reach - radius_mm) / depth_mm * (samples - 1)
    return ScanGeometry(
        name=name,
        size=size,
        depth_mm=depth_mm,
        radius_mm=radius_mm,
        mm_per_pixel=scale,
        x_mm=(reach * np.sin(angle)).astype(np.float32),
        z_mm=(reach * np.cos(angle) - radius_mm).astype(np.float32),
        beam_of_pixel=beam.astype(np.float32),
        sample_of_pixel=sample.astype(np.float32),
        inside=(beam >= 0) & (beam <= beams - 1) & (sample >= 0) & (sample <= samples - 1),
    )
