"""Lesions, vessels, bones and decoys with exact outlines: masks come from geometry, never from the image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.phantom.geometry import FloatArray, ScanGeometry
from edgeseg.phantom.tissue import Tissue, draw_mottle, draw_sheets, line_thickness, reflect_at_zero

# Directions in which an outline's radius is sampled.
OUTLINE_ANGLES = 720
# The first harmonic would only move the outline.
LOWEST_HARMONIC = 2
# Keeps the middle of a blob from dividing by zero.
MIDDLE_SHARE = 1e-3
# Area of a lesion as a share of the image.
AREA_SHARE = (0.02, 0.085)
# Fluid scatters almost nothing: a cyst and a vessel's lumen are anechoic.
CYST_DB, LUMEN_DB = -42.0, -38.0
# A lesion is set off against nearly the darkest (or brightest) of its surroundings, so no side of it is lost.
DARK_SIDE, BRIGHT_SIDE = 0.25, 0.8
PLACING_TRIES = 30
# Several lesions in one image: how many at most, their size against a single one's, the gap between them, and how far
# those that touch reach into each other, as a share of the smallest half axis.
MOST_LESIONS = 5
SEVERAL_SHARE, GAP_SHARE, TOUCHING_SHARE = 0.6, 0.02, 0.1
# How often a vessel along its axis comes, and an artery with its vein across theirs.
TUBE_SHARE = 0.5
PAIR_SHARE = 0.75
# Posterior acoustic enhancement behind a vessel: blood attenuates less than the tissue that the TGC makes up for.
ENHANCEMENT_DB = 5.0
LOBULE_DB = (-24.0, -14.0)
FEWEST_LOBULES, MOST_LOBULES = 2, 6
# How often each decoy comes, and the deepest lesion that leaves room for a bone below it, as a share of the depth.
RIB_SHARE = 0.7
BONE_SHARE = 0.25
PLATE_SHARE = 0.3
HIGHEST_BONE = 0.74
# Loss of a beam that crosses the structure: the acoustic shadow behind it.
RIB_LOSS_DB = (14.0, 26.0)
PLATE_LOSS_DB = (9.0, 15.0)
BONE_LOSS_DB = 28.0


@dataclass(frozen=True)
class Blob:
    """An ellipse whose radius varies by a few Fourier harmonics.

    Args:
        center_mm: x and z of its middle.
        axes_mm: Semi-axes before rotation.
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
        """Return the signed distance to the outline along the ray from the middle, in millimetres; negative inside."""
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
    """A vessel in a longitudinal section: a band that bends gently across the image.

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
        """Return the signed distance to the wall in millimetres; negative inside."""
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
    """Say whether a shape keeps a gap to a blob."""
    if avoid is None:
        return True
    angle = np.linspace(0, 2 * math.pi, 24, dtype=np.float32)
    reach = max(avoid.axes_mm) * 1.1
    x = np.asarray(avoid.center_mm[0] + reach * np.cos(angle), dtype=np.float32)
    z = np.asarray(avoid.center_mm[1] + reach * np.sin(angle), dtype=np.float32)
    return bool(outline.distance(x, z).min() > gap_mm)


@dataclass(frozen=True)
class LesionKind:
    """Appearance of one kind of lesion; pairs are low and high bounds.

    Args:
        share: How often it comes.
        contrast_db: Scattering relative to the tissue around it.
        edge_share: Width of its rim as a share of its shorter half axis.
        crossing_db: Loss of a beam that crosses it; negative is posterior enhancement.
        rim: Strength of its capsule.
        roughness: Amplitude of the harmonics of its outline.
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
    """Draw a lesion that lies within the image."""
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


def paint_lesions(
    rng: np.random.Generator, geometry: ScanGeometry, tissue: Tissue, count: int, touching: bool
) -> tuple[NDArray[np.uint8], ...]:
    """Paint several lesions, and give each as a mask of 0 and 255; fewer where they find no room.

    Args:
        rng: Draws them.
        geometry: Of the scan.
        tissue: Is painted.
        count: 0 to `MOST_LESIONS`.
        touching: Whether the second of each pair touches the first one.
    """
    if not 0 <= count <= MOST_LESIONS:
        raise DataError(f"Expected 0 to {MOST_LESIONS} lesions, got {count}.", f"Ask for at most {MOST_LESIONS}.")
    drawn: list[Lesion] = []
    for number in range(count):
        partner = drawn[-1].outline if touching and number % 2 and drawn else None
        for _ in range(PLACING_TRIES):
            lesion = _shrink(draw_lesion(rng, geometry), SEVERAL_SHARE)
            if partner is not None:
                lesion = replace(lesion, outline=_move_to(lesion.outline, partner))
            others = [one.outline for one in drawn if one.outline is not partner]
            gap = GAP_SHARE * geometry.depth_mm
            if _lies_inside(lesion.outline, geometry) and all(is_clear(lesion.outline, one, gap) for one in others):
                drawn.append(lesion)
                break
    parts: list[NDArray[np.uint8]] = []
    for lesion in drawn:
        paint_lesion(rng, tissue, lesion, geometry.depth_mm)
        inside = np.where(lesion.outline.distance(tissue.grid.x_mm, tissue.grid.z_mm) < 0, 255, 0).astype(np.uint8)
        parts = [np.asarray(np.where(inside > 0, 0, part), np.uint8) for part in parts]
        parts.append(inside)
    return tuple(parts)


def _shrink(lesion: Lesion, factor: float) -> Lesion:
    outline = lesion.outline
    axes = outline.axes_mm[0] * factor, outline.axes_mm[1] * factor
    return replace(lesion, outline=replace(outline, axes_mm=axes), edge_mm=lesion.edge_mm * factor)


def _move_to(blob: Blob, partner: Blob) -> Blob:
    """Move a blob along the line between the middles until its outline just overlaps the partner's."""
    x, z = blob.center_mm[0] - partner.center_mm[0], blob.center_mm[1] - partner.center_mm[1]
    apart = math.hypot(x, z)
    angle = np.linspace(-math.pi, math.pi, OUTLINE_ANGLES, endpoint=False)
    across, along = blob.outline() * np.cos(angle) * blob.axes_mm[0], blob.outline() * np.sin(angle) * blob.axes_mm[1]
    edge_x = across * math.cos(blob.tilt) - along * math.sin(blob.tilt)
    edge_z = across * math.sin(blob.tilt) + along * math.cos(blob.tilt)
    smallest = min(*blob.axes_mm, *partner.axes_mm)
    reach = max(blob.axes_mm) + max(partner.axes_mm)
    for share in np.linspace(1.4, 0.2, 121):
        center = partner.center_mm[0] + x / apart * reach * share, partner.center_mm[1] + z / apart * reach * share
        moved = np.asarray(center[0] + edge_x, np.float32), np.asarray(center[1] + edge_z, np.float32)
        if partner.distance(*moved).min() < -TOUCHING_SHARE * smallest:
            return replace(blob, center_mm=(float(center[0]), float(center[1])))
    return blob


def _lies_inside(blob: Blob, geometry: ScanGeometry) -> bool:
    reach = 1.15 * max(blob.axes_mm)
    gap = np.hypot(geometry.x_mm - blob.center_mm[0], geometry.z_mm - blob.center_mm[1])
    row, column = divmod(int(np.argmin(gap)), gap.shape[1])
    rows, columns = gap.shape
    room = min(column, columns - 1 - column) * float(geometry.beam_pitch_mm()[row])
    depth = float(geometry.depth_mm)
    return bool(room > reach and 0.06 * depth + reach < row / rows * depth < 0.97 * depth - reach)


def _place(
    rng: np.random.Generator, geometry: ScanGeometry, axes: tuple[float, float]
) -> tuple[tuple[float, float], float]:
    """Pick a sample of the beam grid as the middle, and the factor that keeps the lesion in the image."""
    samples, beams = geometry.x_mm.shape
    across = rng.uniform(0.18, 0.82)
    along = rng.uniform(0.22, 0.74) if geometry.name == "linear" else rng.uniform(0.36, 0.76)
    row, column = int(along * samples), int(across * beams)
    center = (float(geometry.x_mm[row, column]), float(geometry.z_mm[row, column]))
    room_x = min(across, 1 - across) * float(geometry.beam_pitch_mm()[row]) * beams * 0.92
    room_z = min(along - 0.08, 0.97 - along) * geometry.depth_mm * 0.92
    return center, min(1.0, room_x / axes[0], room_z / axes[1])


def paint_lesion(rng: np.random.Generator, tissue: Tissue, lesion: Lesion, depth_mm: float) -> None:
    """Paint a lesion over everything else, so that its mask is what can be seen."""
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
    rim = reflect_at_zero(grid, gap, line_thickness(grid, depth_mm))
    tissue.sheets[:] += LESION_KINDS[lesion.kind].rim * rim
    # spread over the height of the lesion, as dB per millimetre
    tissue.absorption[inside] = lesion.crossing_db / (2 * lesion.outline.axes_mm[1])
    tissue.lesion[inside] = 255
    tissue.vessel[inside] = 0


@dataclass(frozen=True)
class Vessel:
    """A vessel as drawn; arteries have a double wall, veins a thin one."""

    outline: Blob | Tube
    radius_mm: float
    artery: bool


def draw_vessels(rng: np.random.Generator, geometry: ScanGeometry, avoid: Blob | None) -> list[Vessel]:
    """Draw at most one tube and one artery with its vein, all clear of the lesion."""
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
    """Paint an anechoic lumen between echogenic walls, with posterior enhancement."""
    grid = tissue.grid
    gap = vessel.outline.distance(grid.x_mm, grid.z_mm)
    line = line_thickness(grid, depth_mm)
    wall = 2.2 * line if vessel.artery else 1.0 * line
    share = np.asarray(1 / (1 + np.exp(np.clip((gap - wall / 2) / (0.35 * line), -30, 30))), dtype=np.float32)
    tissue.mix_echo(share, LUMEN_DB)
    outer = reflect_at_zero(grid, np.asarray(gap - wall, dtype=np.float32), line)
    inner = reflect_at_zero(grid, gap, 0.7 * line)
    strength = np.exp(0.5 * draw_mottle(rng, grid.shape, (1.5 * vessel.radius_mm / grid.pitch_mm,) * 2))
    tissue.sheets[:] += strength * (outer + (0.5 if vessel.artery else 0.0) * inner)
    inside = gap < 0
    tissue.absorption[inside] = -ENHANCEMENT_DB / (2 * vessel.radius_mm)
    tissue.vessel[inside] = 255


def paint_decoys(rng: np.random.Generator, tissue: Tissue, geometry: ScanGeometry, avoid: Blob | None) -> None:
    """Paint a random choice of decoys: fat lobules, bone, a rib, a calcified plate; all clear of the lesion."""
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
    """Paint a rib near the probe unless its acoustic shadow would fall on the lesion."""
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
    """Paint a flat dark fat lobule, crossed by fibres between bright septa."""
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
    tissue.sheets[:] += 0.9 * share * fibres + 1.1 * reflect_at_zero(grid, gap, line)


def paint_plate(tissue: Tissue, at_mm: tuple[float, float], width_mm: float, loss_db: float, depth_mm: float) -> None:
    """Paint a small bright reflector with an acoustic shadow behind it."""
    grid = tissue.grid
    line = line_thickness(grid, depth_mm)
    sag = (grid.x_mm - at_mm[0]) ** 2 / (3 * width_mm)
    gap = np.hypot((grid.x_mm - at_mm[0]) / width_mm, (grid.z_mm - at_mm[1] - sag) / (1.6 * line))
    plate: FloatArray = np.exp(-(gap**4)).astype(np.float32)
    tissue.sheets[:] += 1.5 * plate
    tissue.absorption[:] += plate * loss_db / (2.9 * line)


def paint_bone(rng: np.random.Generator, tissue: Tissue, depth_mm: float) -> None:
    """Paint a bright curved bone surface deep in the image with an acoustic shadow behind it."""
    grid = tissue.grid
    line = 1.3 * line_thickness(grid, depth_mm)
    turn = grid.x_mm / (depth_mm * rng.uniform(0.12, 0.3)) + rng.uniform(0, 2 * math.pi)
    surface = depth_mm * (rng.uniform(0.82, 0.92) + 0.025 * np.sin(turn)) + rng.uniform(-0.08, 0.08) * grid.x_mm
    gap = np.asarray(grid.depth_mm - surface, dtype=np.float32)
    tissue.sheets[:] = np.where(gap > 0, 0.1 * tissue.sheets, tissue.sheets) + 3.0 * reflect_at_zero(grid, gap, line)
    tissue.absorption[np.abs(gap) < line] += BONE_LOSS_DB / (2 * line)
