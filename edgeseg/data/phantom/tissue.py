"""Layered tissue as rasters: how strongly it scatters, what it reflects and what it absorbs."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.data.phantom.geometry import FloatArray
from edgeseg.data.phantom.texture import TissueGrid, draw_mottle, draw_sheets

FASCIA_AMPLITUDE = 1.6
SHEET_SHARE = 0.004


@dataclass(frozen=True)
class Layer:
    """One kind of tissue.

    Args:
        thickness: Low and high bound as a share of the image depth.
        echo_db: Low and high bound of its mean scattering.
        mottle_db: Deviation of the slow variation of scattering.
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


SKIN = Layer((0.03, 0.045), (4.0, 8.0), 1.0, 1.2, (0.02, 0.6), 0.8)
FAT = Layer((0.08, 0.2), (-12.0, -7.0), 2.0, 1.9, (0.034, 0.16), 0.9)
GLAND = Layer((0.32, 0.5), (-3.0, 2.0), 3.0, 2.2, (0.024, 0.11), 0.9)
MUSCLE = Layer((0.2, 0.32), (-12.0, -7.0), 1.6, 1.7, (0.018, 0.22), 1.1)
DEEP_FAT = Layer((0.05, 0.1), (-10.0, -5.0), 2.0, 1.0, (0.04, 0.2), 0.8)
WALL_MUSCLE = Layer((0.05, 0.09), (-9.0, -5.0), 1.5, 1.2, (0.02, 0.3), 1.2)
ORGAN = Layer((0.55, 0.7), (-4.0, 1.0), 1.2, 0.8, (0.03, 0.06), 1.3)
BEYOND = Layer((1.0, 1.0), (-14.0, -6.0), 2.5, 0.6, (0.05, 0.2), 0.0)

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
        absorption: Loss along the beam beyond what the time gain makes up, dB per millimetre.
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
        """Replace the scattering where the share is one, and fade the sheets with it."""
        self.echo_db[:] += share * (echo_db - self.echo_db)
        self.sheets[:] *= 1 - share


def lay_tissue(rng: np.random.Generator, grid: TissueGrid, depth_mm: float, stack: tuple[Layer, ...]) -> Tissue:
    """Paint a stack of layers, each with its own borders and texture."""
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


def draw_scatterers(rng: np.random.Generator, tissue: Tissue) -> FloatArray:
    """Draw the complex scatterers of a tissue (rows, columns, 2), unit power at 0 dB."""
    field = rng.standard_normal((*tissue.grid.shape, 2), dtype=np.float32)
    amplitude = cv2.exp(tissue.echo_db * np.float32(np.log(10) / 20)) * np.float32(np.sqrt(0.5))
    field *= np.asarray(amplitude, dtype=np.float32)[..., None]
    field[..., 0] += tissue.sheets
    return np.asarray(field, dtype=np.float32)
