"""Vessels: dark like a cyst, told apart by their double echogenic walls, their shape and their company."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeseg.data.phantom.geometry import ScanGeometry
from edgeseg.data.phantom.structures import Blob, Tube, is_clear
from edgeseg.data.phantom.texture import draw_mottle, shine_at_zero
from edgeseg.data.phantom.tissue import Tissue, line_thickness

LUMEN_DB = -38.0
PLACING_TRIES = 30
TUBE_SHARE = 0.5
PAIR_SHARE = 0.75
ENHANCEMENT_DB = 5.0


@dataclass(frozen=True)
class Vessel:
    """One vessel as drawn; arteries have a double wall, veins a thin one."""

    outline: Blob | Tube
    radius_mm: float
    artery: bool


def draw_vessels(rng: np.random.Generator, geometry: ScanGeometry, avoid: Blob | None) -> list[Vessel]:
    """Draw up to one tube and one artery with its vein, all clear of the lesion."""
    vessels: list[Vessel] = []
    depth = geometry.depth_mm
    if rng.random() < TUBE_SHARE:
        radius = depth * rng.uniform(0.022, 0.058)
        for _ in range(PLACING_TRIES):
            tube = _draw_tube(rng, depth, radius)
            if is_clear(tube, avoid, 2 * radius):
                vessels.append(Vessel(tube, radius, bool(rng.random() < 0.7)))
                break
    if rng.random() < PAIR_SHARE:
        vessels += _draw_pair(rng, geometry, avoid, [vessel.outline for vessel in vessels])
    return vessels


def _draw_tube(rng: np.random.Generator, depth_mm: float, radius_mm: float) -> Tube:
    return Tube(
        depth_mm=depth_mm * rng.uniform(0.25, 0.8),
        radius_mm=radius_mm,
        slope=rng.uniform(-0.25, 0.25),
        bend_mm=depth_mm * rng.uniform(0.0, 0.03),
        bend_length_mm=depth_mm * rng.uniform(0.7, 1.5),
        phase=rng.uniform(0, 2 * math.pi),
    )


def _draw_pair(
    rng: np.random.Generator, geometry: ScanGeometry, avoid: Blob | None, others: list[Blob | Tube]
) -> list[Vessel]:
    samples, beams = geometry.x_mm.shape
    radius = geometry.depth_mm * rng.uniform(0.045, 0.09)
    for _ in range(PLACING_TRIES):
        row, column = int(rng.uniform(0.3, 0.8) * samples), int(rng.uniform(0.2, 0.8) * beams)
        x, z = float(geometry.x_mm[row, column]), float(geometry.z_mm[row, column])
        artery = Blob((x, z), (radius, 0.94 * radius))
        side = rng.choice((-1.0, 1.0))
        flat = rng.uniform(0.7, 1.0)
        vein = Blob((x + side * radius * 3.1, z + rng.uniform(-0.6, 0.3) * radius), (1.8 * radius, flat * radius))
        clear = is_clear(artery, avoid, 2 * radius) and is_clear(vein, avoid, 2 * radius)
        if clear and all(is_clear(other, part, radius) for other in others for part in (artery, vein)):
            return [Vessel(artery, radius, True), Vessel(vein, radius, False)]
    return []


def paint_vessel(rng: np.random.Generator, tissue: Tissue, vessel: Vessel, depth_mm: float) -> None:
    """Paint a lumen between echogenic walls, with the enhancement that blood leaves behind it."""
    grid = tissue.grid
    gap = vessel.outline.distance(grid.x_mm, grid.z_mm)
    line = line_thickness(grid, depth_mm)
    wall = 2.2 * line if vessel.artery else 1.0 * line
    share = np.asarray(1 / (1 + np.exp(np.clip((gap - wall / 2) / (0.35 * line), -30, 30))), dtype=np.float32)
    tissue.mix_echo(share, LUMEN_DB)
    outer = shine_at_zero(grid, np.asarray(gap - wall, dtype=np.float32), line)
    inner = shine_at_zero(grid, gap, 0.7 * line)
    strength = np.exp(0.5 * draw_mottle(rng, grid.shape, (1.5 * vessel.radius_mm / grid.pitch_mm,) * 2))
    tissue.sheets[:] += strength * (outer + (0.5 if vessel.artery else 0.0) * inner)
    inside = gap < 0
    tissue.absorption[inside] = -ENHANCEMENT_DB / (2 * vessel.radius_mm)
    tissue.vessel[inside] = 255
