"""Lesions of graded difficulty, from the plain cyst to one that a person must look for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeseg.data.phantom.geometry import ScanGeometry
from edgeseg.data.phantom.structures import Blob, draw_blob
from edgeseg.data.phantom.texture import draw_mottle, shine_at_zero
from edgeseg.data.phantom.tissue import Tissue, line_thickness

AREA_SHARE = (0.02, 0.085)
CYST_DB = -42.0
# A lesion is set off against nearly the darkest (or brightest) of its surroundings, so no side of it is lost.
DARK_SIDE, BRIGHT_SIDE = 0.25, 0.8


@dataclass(frozen=True)
class LesionKind:
    """Bounds of one kind of lesion.

    Args:
        share: How often it comes.
        contrast_db: Scattering against the tissue around it.
        edge_share: Width of its rim as a share of its shorter half axis.
        crossing_db: Loss of a beam that crosses it, negative for enhancement.
        rim: Strength of its capsule.
        roughness: How far its outline wanders.
    """

    share: float
    contrast_db: tuple[float, float]
    edge_share: tuple[float, float]
    crossing_db: tuple[float, float]
    rim: float
    roughness: float


LESION_KINDS: dict[str, LesionKind] = {
    "hypoechoic": LesionKind(0.42, (-13.0, -7.5), (0.03, 0.1), (-4.0, 7.0), 0.25, 0.12),
    "cyst": LesionKind(0.13, (0.0, 0.0), (0.02, 0.04), (-12.0, -7.0), 0.7, 0.05),
    "hyperechoic": LesionKind(0.19, (10.0, 13.0), (0.03, 0.08), (0.0, 4.0), 0.0, 0.12),
    "faint": LesionKind(0.15, (-7.5, -6.0), (0.04, 0.1), (-2.0, 2.0), 0.8, 0.08),
    "shadowed": LesionKind(0.11, (-13.0, -8.5), (0.04, 0.1), (0.0, 6.0), 0.3, 0.1),
}


@dataclass(frozen=True)
class Lesion:
    """One lesion as drawn."""

    kind: str
    outline: Blob
    contrast_db: float
    edge_mm: float
    crossing_db: float


def draw_lesion(rng: np.random.Generator, geometry: ScanGeometry) -> Lesion:
    """Draw a lesion that lies within the view."""
    names = list(LESION_KINDS)
    name = str(rng.choice(names, p=[LESION_KINDS[known].share for known in names]))
    kind = LESION_KINDS[name]
    height, width = geometry.size
    area = rng.uniform(*AREA_SHARE) * height * width * geometry.mm_per_pixel**2
    flatness = rng.uniform(0.85, 1.7)
    axes = (math.sqrt(area / math.pi * flatness), math.sqrt(area / math.pi / flatness))
    center, shrink = _place(rng, geometry, axes)
    axes = (axes[0] * shrink, axes[1] * shrink)
    return Lesion(
        kind=name,
        outline=draw_blob(rng, center, axes, kind.roughness),
        contrast_db=float(rng.uniform(*kind.contrast_db)),
        edge_mm=float(rng.uniform(*kind.edge_share) * min(axes)),
        crossing_db=float(rng.uniform(*kind.crossing_db)),
    )


def _place(
    rng: np.random.Generator, geometry: ScanGeometry, axes: tuple[float, float]
) -> tuple[tuple[float, float], float]:
    """Pick a sample of the beam grid as the middle, and how far to shrink to stay in view."""
    samples, beams = geometry.x_mm.shape
    across = rng.uniform(0.18, 0.82)
    along = rng.uniform(0.22, 0.74) if geometry.name == "linear" else rng.uniform(0.36, 0.76)
    row, column = int(along * samples), int(across * beams)
    center = (float(geometry.x_mm[row, column]), float(geometry.z_mm[row, column]))
    room_x = min(across, 1 - across) * float(geometry.beam_pitch_mm()[row]) * beams * 0.92
    room_z = min(along - 0.08, 0.97 - along) * geometry.depth_mm * 0.92
    return center, min(1.0, room_x / axes[0], room_z / axes[1])


def paint_lesion(rng: np.random.Generator, tissue: Tissue, lesion: Lesion, depth_mm: float) -> None:
    """Paint a lesion over all else, so that its mask is what can be seen."""
    grid = tissue.grid
    gap = lesion.outline.distance(grid.x_mm, grid.z_mm)
    inside = gap < 0
    share = np.asarray(1 / (1 + np.exp(np.clip(gap / lesion.edge_mm * 2.5, -30, 30))), dtype=np.float32)
    near = (gap > 0) & (gap < 0.5 * min(lesion.outline.axes_mm))
    side = BRIGHT_SIDE if lesion.contrast_db > 0 else DARK_SIDE
    around_db = float(np.quantile(tissue.echo_db[near], side)) if near.any() else 0.0
    level = CYST_DB if lesion.kind == "cyst" else around_db + lesion.contrast_db
    grain = 0.25 * min(lesion.outline.axes_mm) / grid.pitch_mm
    mottle = draw_mottle(rng, grid.shape, (grain, 1.5 * grain))
    tissue.mix_echo(share, np.asarray(level + 0.8 * mottle, dtype=np.float32))
    rim = shine_at_zero(grid, gap, line_thickness(grid, depth_mm))
    tissue.sheets[:] += LESION_KINDS[lesion.kind].rim * rim
    tissue.absorption[inside] = lesion.crossing_db / (2 * lesion.outline.axes_mm[1])
    tissue.lesion[inside] = 255
    tissue.vessel[inside] = 0
