"""Dark places that are no lesion: fat lobules, ribs and calcifications with their shadows, bone."""

from __future__ import annotations

import math

import numpy as np

from edgeseg.data.phantom.geometry import FloatArray, ScanGeometry
from edgeseg.data.phantom.structures import Blob, draw_blob, is_clear
from edgeseg.data.phantom.texture import draw_sheets, shine_at_zero
from edgeseg.data.phantom.tissue import Tissue, line_thickness

LOBULE_DB = (-24.0, -14.0)
FEWEST_LOBULES, MOST_LOBULES = 2, 6
RIB_SHARE = 0.7
BONE_SHARE = 0.25
PLATE_SHARE = 0.3
HIGHEST_BONE = 0.74
RIB_LOSS_DB = (14.0, 26.0)
PLATE_LOSS_DB = (9.0, 15.0)
BONE_LOSS_DB = 28.0


def paint_decoys(rng: np.random.Generator, tissue: Tissue, geometry: ScanGeometry, avoid: Blob | None) -> None:
    """Paint a random choice of decoys, lobules clear of the lesion."""
    depth = geometry.depth_mm
    for _ in range(int(rng.integers(FEWEST_LOBULES, MOST_LOBULES + 1))):
        paint_lobule(rng, tissue, geometry, avoid)
    floor = 0.0 if avoid is None else avoid.center_mm[1] + 1.2 * max(avoid.axes_mm)
    if rng.random() < BONE_SHARE and floor < HIGHEST_BONE * depth:
        paint_bone(rng, tissue, depth)
    if rng.random() < RIB_SHARE:
        paint_rib(rng, tissue, geometry, avoid)
    if rng.random() < PLATE_SHARE:
        place = (float(rng.uniform(-0.4, 0.4)) * depth, float(rng.uniform(0.5, 0.85)) * depth)
        paint_plate(tissue, place, depth * rng.uniform(0.03, 0.07), rng.uniform(*PLATE_LOSS_DB), depth)


def paint_rib(rng: np.random.Generator, tissue: Tissue, geometry: ScanGeometry, avoid: Blob | None) -> None:
    """Paint a rib near the probe unless its shadow would fall on the lesion."""
    width = geometry.depth_mm * rng.uniform(0.05, 0.1)
    row, column = (
        int(share * side)
        for share, side in zip(rng.uniform((0.12, 0.0), (0.25, 1.0)), geometry.x_mm.shape, strict=True)
    )
    beam_x, beam_z = geometry.x_mm[:, column], geometry.z_mm[:, column]
    if avoid is None or avoid.distance(beam_x, beam_z).min() > 1.3 * width:
        place = (float(beam_x[row]), float(beam_z[row]))
        paint_plate(tissue, place, width, rng.uniform(*RIB_LOSS_DB), geometry.depth_mm)


def paint_lobule(rng: np.random.Generator, tissue: Tissue, geometry: ScanGeometry, avoid: Blob | None) -> None:
    """Paint a flat dark lobule, crossed by fibres and held between bright septa."""
    grid, depth = tissue.grid, geometry.depth_mm
    row, column = (int(rng.uniform(0.15, 0.9) * side) for side in geometry.x_mm.shape)
    length = depth * rng.uniform(0.16, 0.34)
    axes = (length, length / rng.uniform(2.4, 3.6))
    center = (float(geometry.x_mm[row, column]), float(geometry.z_mm[row, column]))
    blob = draw_blob(rng, center, axes, 0.14)
    if not is_clear(blob, avoid, 0.02 * depth):
        return
    gap = blob.distance(grid.x_mm, grid.z_mm)
    share = np.asarray(1 / (1 + np.exp(np.clip(gap / (0.05 * axes[1]), -30, 30))), dtype=np.float32)
    line = line_thickness(grid, depth)
    tissue.mix_echo(share, float(rng.uniform(*LOBULE_DB)))
    bed = np.asarray(grid.depth_mm - math.tan(blob.tilt) * grid.x_mm, dtype=np.float32)
    fibres = draw_sheets(rng, grid, bed, (0.035 * depth, 0.2 * depth), line)
    tissue.sheets[:] += 0.9 * share * fibres + 1.1 * shine_at_zero(grid, gap, line)


def paint_plate(tissue: Tissue, at_mm: tuple[float, float], width_mm: float, loss_db: float, depth_mm: float) -> None:
    """Paint a small bright plate that shades what lies behind it."""
    grid = tissue.grid
    line = line_thickness(grid, depth_mm)
    sag = (grid.x_mm - at_mm[0]) ** 2 / (3 * width_mm)
    gap = np.hypot((grid.x_mm - at_mm[0]) / width_mm, (grid.z_mm - at_mm[1] - sag) / (1.6 * line))
    plate: FloatArray = np.exp(-(gap**4)).astype(np.float32)
    tissue.sheets[:] += 1.5 * plate
    tissue.absorption[:] += plate * loss_db / (2.9 * line)


def paint_bone(rng: np.random.Generator, tissue: Tissue, depth_mm: float) -> None:
    """Paint a bright curved surface deep in the image with little but darkness behind it."""
    grid = tissue.grid
    line = 1.3 * line_thickness(grid, depth_mm)
    turn = grid.x_mm / (depth_mm * rng.uniform(0.12, 0.3)) + rng.uniform(0, 2 * math.pi)
    surface = depth_mm * (rng.uniform(0.82, 0.92) + 0.025 * np.sin(turn)) + rng.uniform(-0.08, 0.08) * grid.x_mm
    gap = np.asarray(grid.depth_mm - surface, dtype=np.float32)
    tissue.sheets[:] = np.where(gap > 0, 0.1 * tissue.sheets, tissue.sheets) + 3.0 * shine_at_zero(grid, gap, line)
    tissue.absorption[np.abs(gap) < line] += BONE_LOSS_DB / (2 * line)
