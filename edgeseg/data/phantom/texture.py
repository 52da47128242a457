"""Random textures of tissue: smooth mottle, and the thin bright sheets between fat lobules and fibres."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from edgeseg.data.phantom.geometry import FloatArray, ScanGeometry

CELLS_PER_PIXEL = 1.8
MARGIN_SHARE = 0.1


@dataclass(frozen=True)
class TissueGrid:
    """A raster fixed in the tissue, with a margin for motion on every side.

    Args:
        x_mm: Lateral position of each cell (rows, columns).
        z_mm: Axial position of each cell.
        depth_mm: Distance of each cell to the probe face.
        beam_x: Lateral part of the beam direction at each cell.
        beam_z: Axial part of the same.
    """

    pitch_mm: float
    x_mm: FloatArray
    z_mm: FloatArray
    depth_mm: FloatArray
    beam_x: FloatArray
    beam_z: FloatArray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.x_mm.shape[0], self.x_mm.shape[1]

    def to_index(self, x_mm: FloatArray, z_mm: FloatArray) -> FloatArray:
        """Return column and row of points as the first axis, the order cv2.remap wants."""
        column = (x_mm - self.x_mm[0, 0]) / self.pitch_mm
        row = (z_mm - self.z_mm[0, 0]) / self.pitch_mm
        return np.stack([column, row]).astype(np.float32)


def build_grid(geometry: ScanGeometry) -> TissueGrid:
    """Lay a raster over all that the beams of a geometry can see."""
    pitch = geometry.mm_per_pixel / CELLS_PER_PIXEL
    margin = MARGIN_SHARE * geometry.depth_mm
    x = np.arange(geometry.x_mm.min() - margin, geometry.x_mm.max() + margin, pitch)
    z = np.arange(geometry.z_mm.min() - margin, geometry.z_mm.max() + margin, pitch)
    x_mm, z_mm = (np.asarray(plane, dtype=np.float32) for plane in np.meshgrid(x, z))
    beam_x, beam_z = geometry.beam_direction(x_mm, z_mm)
    return TissueGrid(pitch, x_mm, z_mm, geometry.probe_depth(x_mm, z_mm), beam_x, beam_z)


def draw_mottle(rng: np.random.Generator, shape: tuple[int, int], cell: tuple[float, float]) -> FloatArray:
    """Draw smooth noise of about unit deviation.

    Args:
        rng: Source of randomness.
        shape: Rows and columns.
        cell: Size of its grains along rows and columns, in raster cells.
    """
    rows, columns = (math.ceil(side / max(grain, 1.0)) + 3 for side, grain in zip(shape, cell, strict=True))
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    scale = np.array([[1 / max(cell[1], 1.0), 0, 1], [0, 1 / max(cell[0], 1.0), 1]], np.float32)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    fine = cv2.warpAffine(coarse, scale, (shape[1], shape[0]), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(fine * 1.35, dtype=np.float32)


def draw_sheets(
    rng: np.random.Generator, grid: TissueGrid, bed: FloatArray, spacing_mm: tuple[float, float], thickness_mm: float
) -> FloatArray:
    """Draw thin curved sheets (0 to 1) that follow a bed and shine where the beam meets them square.

    They are the zero crossings of stretched noise, so they branch and close like real septa.

    Args:
        rng: Source of randomness.
        grid: Raster to draw on.
        bed: Depth along which the sheets run, millimetres (rows, columns).
        spacing_mm: Typical distance between sheets along depth, and length along x.
        thickness_mm: Half thickness of one sheet.
    """
    shape = grid.shape
    cell = (spacing_mm[0] / grid.pitch_mm, spacing_mm[1] / grid.pitch_mm)
    flat = draw_mottle(rng, shape, cell)
    column = (grid.x_mm - grid.x_mm[0, 0]) / grid.pitch_mm
    row = np.clip((bed - grid.z_mm[0, 0]) / grid.pitch_mm, 0, shape[0] - 1)
    noise = np.asarray(
        cv2.remap(flat, column, row.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT),
        dtype=np.float32,
    )
    strength = np.exp(0.8 * draw_mottle(rng, shape, (2 * cell[0], 0.5 * cell[1])) - 0.9)
    return np.asarray(shine_at_zero(grid, noise, thickness_mm) * np.minimum(strength, 1.6), dtype=np.float32)


def shine_at_zero(grid: TissueGrid, field: FloatArray, thickness_mm: float) -> FloatArray:
    """Return a sheet at the zero crossings of a field, bright where it lies across the beam."""
    slope_z, slope_x = (np.asarray(part, dtype=np.float32) for part in np.gradient(field, grid.pitch_mm))
    steepness = np.hypot(slope_x, slope_z) + 1e-4
    squareness = np.abs(slope_x * grid.beam_x + slope_z * grid.beam_z) / steepness
    distance = field / (steepness * thickness_mm)
    return np.asarray(np.exp(-(distance**2)) * squareness**3, dtype=np.float32)
