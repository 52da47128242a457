"""Layered tissue as rasters: scattering strength, reflecting sheets (fascia, septa), attenuation, and scatterers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.phantom.geometry import FloatArray, ScanGeometry

# Raster cells per image pixel: several scatterers in each resolution cell give fully developed speckle.
CELLS_PER_PIXEL = 1.8
# Margin for motion, and half thickness of a reflecting sheet, as shares of the image's depth.
MARGIN_SHARE = 0.1
SHEET_SHARE = 0.004
FASCIA_AMPLITUDE = 1.6


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
    """Build a raster over the area that the beams of a geometry scan."""
    pitch = geometry.mm_per_pixel / CELLS_PER_PIXEL
    margin = MARGIN_SHARE * geometry.depth_mm
    x = np.arange(geometry.x_mm.min() - margin, geometry.x_mm.max() + margin, pitch)
    z = np.arange(geometry.z_mm.min() - margin, geometry.z_mm.max() + margin, pitch)
    x_mm, z_mm = (np.asarray(plane, dtype=np.float32) for plane in np.meshgrid(x, z))
    beam_x, beam_z = geometry.beam_direction(x_mm, z_mm)
    return TissueGrid(pitch, x_mm, z_mm, geometry.probe_depth(x_mm, z_mm), beam_x, beam_z)


def draw_mottle(rng: np.random.Generator, shape: tuple[int, int], cell: tuple[float, float]) -> FloatArray:
    """Draw smooth noise with a standard deviation of about 1.

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
    """Draw thin curved sheets (0 to 1) along a bed; specular reflection is brightest at normal incidence.

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
    return np.asarray(reflect_at_zero(grid, noise, thickness_mm) * np.minimum(strength, 1.6), dtype=np.float32)


def reflect_at_zero(grid: TissueGrid, field: FloatArray, thickness_mm: float) -> FloatArray:
    """Return a specular sheet at the zero crossings of a field, bright where it lies across the beam."""
    slope_z, slope_x = (np.asarray(part, dtype=np.float32) for part in np.gradient(field, grid.pitch_mm))
    steepness = np.hypot(slope_x, slope_z) + 1e-4
    squareness = np.abs(slope_x * grid.beam_x + slope_z * grid.beam_z) / steepness
    distance = field / (steepness * thickness_mm)
    return np.asarray(np.exp(-(distance**2)) * squareness**3, dtype=np.float32)


@dataclass(frozen=True)
class Layer:
    """One kind of tissue.

    Args:
        thickness: Low and high bound as a share of the image depth.
        echo_db: Low and high bound of its mean scattering.
        mottle_db: Standard deviation of the slow variation of scattering.
        sheet_amplitude: Strength of septa or fibres, one is the speckle of tissue at 0 dB.
        sheet_spacing: Distance and length of the sheets as shares of the image depth.
        border: Strength of the fascia at its lower border.
    """

    thickness: tuple[float, float]
    echo_db: tuple[float, float]
    mottle_db: float
    sheet_amplitude: float
    sheet_spacing: tuple[float, float]
    border: float


# Order as in the dataclass; shares of the image's depth, and dB relative to unit scattering.
SKIN = Layer((0.03, 0.045), (4.0, 8.0), 1.0, 1.2, (0.02, 0.6), 0.8)
FAT = Layer((0.08, 0.2), (-12.0, -7.0), 2.0, 1.9, (0.034, 0.16), 0.9)
GLAND = Layer((0.32, 0.5), (-3.0, 2.0), 3.0, 2.2, (0.024, 0.11), 0.9)
MUSCLE = Layer((0.2, 0.32), (-12.0, -7.0), 1.6, 1.7, (0.018, 0.22), 1.1)
DEEP_FAT = Layer((0.05, 0.1), (-10.0, -5.0), 2.0, 1.0, (0.04, 0.2), 0.8)
WALL_MUSCLE = Layer((0.05, 0.09), (-9.0, -5.0), 1.5, 1.2, (0.02, 0.3), 1.2)
ORGAN = Layer((0.55, 0.7), (-4.0, 1.0), 1.2, 0.8, (0.03, 0.06), 1.3)
BEYOND = Layer((1.0, 1.0), (-14.0, -6.0), 2.5, 0.6, (0.05, 0.2), 0.0)

# Layers from the probe down, of which one stack is drawn for each case.
STACKS: dict[str, tuple[tuple[Layer, ...], ...]] = {
    "linear": (
        (SKIN, FAT, GLAND, MUSCLE, BEYOND),
        (SKIN, FAT, GLAND, BEYOND),
        (SKIN, DEEP_FAT, MUSCLE, GLAND, BEYOND),
    ),
    "sector": ((SKIN, WALL_MUSCLE, ORGAN, BEYOND), (SKIN, DEEP_FAT, WALL_MUSCLE, ORGAN, BEYOND)),
    "convex": ((SKIN, DEEP_FAT, WALL_MUSCLE, ORGAN, BEYOND), (SKIN, WALL_MUSCLE, ORGAN, BEYOND)),
}


@dataclass(frozen=True)
class Tissue:
    """Rasters fixed in the tissue, painted on in place.

    Args:
        echo_db: Mean scattering.
        sheets: Amplitude of smooth reflectors, which show as lines and not as speckle.
        absorption: Attenuation along the beam beyond what the TGC makes up, dB per millimetre.
        lesion: 255 inside a lesion.
        vessel: 255 inside a vessel.
    """

    grid: TissueGrid
    echo_db: FloatArray
    sheets: FloatArray
    absorption: FloatArray
    lesion: NDArray[np.uint8]
    vessel: NDArray[np.uint8]

    def mix_echo(self, share: FloatArray, echo_db: FloatArray | float) -> None:
        """Blend towards a new scattering level: fully where the share is 1; the sheets fade with it."""
        self.echo_db[:] += share * (echo_db - self.echo_db)
        self.sheets[:] *= 1 - share


def lay_tissue(rng: np.random.Generator, grid: TissueGrid, depth_mm: float, stack: tuple[Layer, ...]) -> Tissue:
    """Paint a stack of layers from the probe down, each with its own border and texture."""
    empty = np.zeros(grid.shape, np.uint8)
    tissue = Tissue(
        grid=grid,
        echo_db=np.zeros(grid.shape, np.float32),
        sheets=np.zeros(grid.shape, np.float32),
        absorption=np.zeros(grid.shape, np.float32),
        lesion=empty.copy(),
        vessel=empty.copy(),
    )
    waves = draw_mottle(rng, grid.shape, (1e6, 0.5 * depth_mm / grid.pitch_mm))
    border = np.zeros(grid.shape, np.float32)
    reach = 0.0
    for layer in stack:
        bed = np.asarray(grid.depth_mm - border, dtype=np.float32)
        _fill_below(rng, tissue, layer, bed, depth_mm)
        reach += rng.uniform(*layer.thickness) * depth_mm
        own = draw_mottle(rng, grid.shape, (1e6, 0.4 * depth_mm / grid.pitch_mm))
        wander = min(reach / depth_mm, 0.5) * depth_mm
        border = np.asarray(reach + wander * (0.08 * waves + 0.06 * own), dtype=np.float32)
        _draw_fascia(rng, tissue, layer.border, grid.depth_mm - border, depth_mm)
    return tissue


def _fill_below(rng: np.random.Generator, tissue: Tissue, layer: Layer, bed: FloatArray, depth_mm: float) -> None:
    grid = tissue.grid
    spacing = (layer.sheet_spacing[0] * depth_mm, layer.sheet_spacing[1] * depth_mm)
    grain = (1.2 * spacing[0] / grid.pitch_mm, spacing[1] / grid.pitch_mm)
    echo = rng.uniform(*layer.echo_db) + layer.mottle_db * draw_mottle(rng, grid.shape, grain)
    tilted = np.asarray(bed + rng.uniform(-0.25, 0.25) * grid.x_mm, dtype=np.float32)
    sheets = draw_sheets(rng, grid, tilted, spacing, line_thickness(grid, depth_mm))
    below = bed > 0
    tissue.echo_db[below] = echo[below]
    tissue.sheets[below] = layer.sheet_amplitude * sheets[below]


def _draw_fascia(rng: np.random.Generator, tissue: Tissue, strength: float, gap: FloatArray, depth_mm: float) -> None:
    grid = tissue.grid
    thickness = line_thickness(grid, depth_mm) * rng.uniform(1.0, 1.5)
    line = np.exp(-((gap / thickness) ** 2))
    breaks = draw_mottle(rng, grid.shape, (1e6, 0.12 * depth_mm / grid.pitch_mm))
    slope = np.abs(np.gradient(gap, grid.pitch_mm, axis=1))
    tissue.sheets[:] += strength * FASCIA_AMPLITUDE * line * np.clip(0.8 + 0.4 * breaks, 0.1, 1.5) / (1 + 4 * slope)


def line_thickness(grid: TissueGrid, depth_mm: float) -> float:
    """Return the half thickness of a reflector that the raster can still carry."""
    return max(SHEET_SHARE * depth_mm, 1.2 * grid.pitch_mm)


def draw_scatterers(
    rng: np.random.Generator, tissue: Tissue, other: np.random.Generator | None = None, fresh: float = 0.0
) -> FloatArray:
    """Draw complex Gaussian scatterers (rows, columns, 2) of unit power at 0 dB: behind the PSF they are speckle.

    Args:
        rng: Source of randomness.
        tissue: What scatters.
        other: A second source.
        fresh: The share of the scatterers' power that comes from the second source.
    """
    field = rng.standard_normal((*tissue.grid.shape, 2), dtype=np.float32)
    if other is not None:
        field *= np.float32(math.sqrt(1 - fresh))
        field += np.float32(math.sqrt(fresh)) * other.standard_normal(field.shape, dtype=np.float32)
    amplitude = cv2.exp(tissue.echo_db * np.float32(np.log(10) / 20)) * np.float32(np.sqrt(0.5))
    field *= np.asarray(amplitude, dtype=np.float32)[..., None]
    field[..., 0] += tissue.sheets
    return np.asarray(field, dtype=np.float32)
