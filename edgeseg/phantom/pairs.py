"""Pairs of phantom images with a known motion between them: what a registration should find.

Anatomy moves, and is imaged again through the same chain: speckle changes as it does under a real probe, and a part of
it may be drawn afresh, as when the probe has moved a little out of the plane.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, UnknownNameError
from edgeseg.phantom.geometry import FloatArray, ScanGeometry
from edgeseg.phantom.scene import PhantomFrame, Scene, build_scene
from edgeseg.phantom.tissue import draw_mottle

PairMotion = Literal["rigid", "affine", "deformable"]
PAIR_MOTIONS: tuple[PairMotion, ...] = ("rigid", "affine", "deformable")
LEVELS = (1, 2, 3, 4, 5)
# By level: rotation in degrees, translation in pixels, change of scale and shear as a share. Pixels are those of an
# image of 256 pixels; other sizes move in proportion.
_ROTATION_DEG = (1.5, 3.0, 6.0, 10.0, 15.0)
_TRANSLATION_PX = (3.0, 6.0, 10.0, 15.0, 20.0)
_STRETCH = (0.01, 0.02, 0.04, 0.06, 0.08)
# The largest displacement of a deformation by level, and the grain of its field.
_DEFORMATION_PX = (4.0, 7.0, 10.0, 14.0, 18.0)
_GRAIN_PX = 64.0
_REFERENCE_PX = 256.0
# The share of the scatterers' power that is drawn afresh, and the change of gain in dB.
FRESH_SHARE = 0.5
GAIN_DB = 2.0
_INVERSIONS = 40


@dataclass(frozen=True)
class PhantomPair:
    """Two images of one phantom, and the displacement between them.

    Args:
        fixed: The first image.
        moving: The second, after the motion.
        displacement: float32 (height, width, 2): fixed(x) and moving(x + d) show the same tissue.
        seen: Pixels of the fixed image whose tissue both images show.
        mm_per_px: The size of a pixel.
    """

    fixed: PhantomFrame
    moving: PhantomFrame
    displacement: NDArray[np.float32]
    seen: NDArray[np.bool_]
    mm_per_px: float


def render_pair(
    seed: int,
    index: int = 0,
    size: tuple[int, int] = (256, 256),
    motion: PairMotion = "deformable",
    level: int = 1,
    geometry: str | None = None,
    fresh: float = FRESH_SHARE,
) -> PhantomPair:
    """Render the index-th pair of a seed.

    Args:
        seed: Seed of the whole set.
        index: Which pair.
        size: Height and width.
        motion: One of PAIR_MOTIONS.
        level: How far it moves, from 1 to 5.
        geometry: One of GEOMETRIES, or None for any.
        fresh: The share of the speckle's power that is drawn afresh in the second image.
    """
    if motion not in PAIR_MOTIONS:
        raise UnknownNameError("motion of a phantom pair", motion, PAIR_MOTIONS)
    if level not in LEVELS or not 0 <= fresh <= 1:
        raise DataError(
            f"Expected a level from 1 to {LEVELS[-1]} and a fresh share from 0 to 1, got {level} and {fresh}.",
            "Use level 1.",
        )
    scene = build_scene(seed, index, size, geometry, always_lesion=True)
    again = replace(scene, scatterers=_redraw(seed, index, size, geometry, fresh)) if fresh else scene
    rng = np.random.default_rng(np.random.SeedSequence([seed, index, 2, level, PAIR_MOTIONS.index(motion)]))
    field = _draw_motion(rng, size, motion, level)
    gain = 10 ** (rng.uniform(-GAIN_DB, GAIN_DB) / 10)
    again = replace(again, clutter=replace(again.clutter, gain=again.clutter.gain * np.float32(gain)))
    rest = scene.displacement.rest
    moved = _look_moved(again, _invert(field))
    return PhantomPair(
        fixed=scene.render_look(rest, 0),
        moving=again.render_look(moved, 1),
        displacement=field,
        seen=_find_seen(scene.geometry.inside, field),
        mm_per_px=scene.geometry.mm_per_pixel,
    )


def _redraw(seed: int, index: int, size: tuple[int, int], geometry: str | None, fresh: float) -> FloatArray:
    return build_scene(seed, index, size, geometry, always_lesion=True, fresh=fresh).scatterers


def _draw_motion(
    rng: np.random.Generator, size: tuple[int, int], motion: PairMotion, level: int
) -> NDArray[np.float32]:
    """Draw the displacement from the fixed to the moving image."""
    unit = max(size) / _REFERENCE_PX
    if motion == "deformable":
        return draw_deformation(rng, size, _DEFORMATION_PX[level - 1] * unit, _GRAIN_PX * unit)
    turn = math.radians(_ROTATION_DEG[level - 1]) * rng.choice((-1, 1)) * rng.uniform(0.7, 1.0)
    stretch = _STRETCH[level - 1] if motion == "affine" else 0.0
    along, across, shear = rng.uniform(-stretch, stretch, 3)
    way = rng.uniform(0, 2 * math.pi)
    reach = _TRANSLATION_PX[level - 1] * unit * rng.uniform(0.7, 1.0)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    linear = rotation @ np.array([[1 + along, shear], [0.0, 1 + across]]) - np.eye(2)
    columns, rows = np.meshgrid(np.arange(size[1]) - size[1] / 2, np.arange(size[0]) - size[0] / 2)
    field = np.stack([columns, rows], axis=-1) @ linear.T + reach * np.array([math.cos(way), math.sin(way)])
    return np.asarray(field, dtype=np.float32)


def draw_deformation(
    rng: np.random.Generator, size: tuple[int, int], reach: float, grain: float
) -> NDArray[np.float32]:
    """Draw a smooth random displacement field.

    Args:
        rng: Source of randomness.
        size: Height and width.
        reach: Its largest displacement in pixels.
        grain: Distance over which it changes, in pixels.
    """
    field = np.stack([draw_mottle(rng, size, (grain, grain)) for _ in range(2)], axis=-1)
    field *= np.float32(reach) / np.hypot(field[..., 0], field[..., 1]).max()
    return np.asarray(field, dtype=np.float32)


def _invert(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """The displacement from the moving image back to the fixed one, by fixed-point iteration."""
    height, width = field.shape[:2]
    # the motion goes on beyond the image, as at its margin, so that tissue comes in from there
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    back = np.zeros_like(field)
    for _ in range(_INVERSIONS):
        back = -_sample_beyond(field, columns + back[..., 0], rows + back[..., 1])
    return back


def _sample_beyond(field: NDArray[np.float32], columns: FloatArray, rows: FloatArray) -> NDArray[np.float32]:
    """Sample a field; beyond its margin it goes on with the slope that it has there."""
    height, width = field.shape[:2]
    held_columns, held_rows = columns.clip(1, width - 2), rows.clip(1, height - 2)
    value = cv2.remap(field, held_columns, held_rows, cv2.INTER_LINEAR)
    slope_y, slope_x = (np.asarray(slope, np.float32) for slope in np.gradient(field, axis=(0, 1)))
    across = cv2.remap(slope_x, held_columns, held_rows, cv2.INTER_NEAREST) * (columns - held_columns)[..., None]
    along = cv2.remap(slope_y, held_columns, held_rows, cv2.INTER_NEAREST) * (rows - held_rows)[..., None]
    return np.asarray(value + across + along, dtype=np.float32)


def _look_moved(scene: Scene, back: NDArray[np.float32]) -> FloatArray:
    """The raster column and row under each beam sample after the motion."""
    (step_x, start_x), (step_z, start_z) = _fit_pixels(scene.geometry)
    columns = (scene.geometry.x_mm - start_x) / step_x
    rows = (scene.geometry.z_mm - start_z) / step_z
    vectors = _sample_beyond(back, columns.astype(np.float32), rows.astype(np.float32))
    cells_x, cells_z = _cells_per_mm(scene)
    return np.stack(
        [
            scene.displacement.rest[0] + vectors[..., 0] * np.float32(step_x * cells_x),
            scene.displacement.rest[1] + vectors[..., 1] * np.float32(step_z * cells_z),
        ]
    )


def _fit_pixels(geometry: ScanGeometry) -> tuple[tuple[float, float], tuple[float, float]]:
    """Step and start, in mm, of the image's columns and rows: scan conversion is linear in both."""
    at_pixels = [
        cv2.remap(plane, geometry.beam_of_pixel, geometry.sample_of_pixel, cv2.INTER_LINEAR)
        for plane in (geometry.x_mm, geometry.z_mm)
    ]
    rows, columns = np.nonzero(geometry.inside)
    step_x, start_x = np.polyfit(columns, at_pixels[0][rows, columns], 1)
    step_z, start_z = np.polyfit(rows, at_pixels[1][rows, columns], 1)
    return (float(step_x), float(start_x)), (float(step_z), float(start_z))


def _cells_per_mm(scene: Scene) -> tuple[float, float]:
    """Raster cells per millimetre along x and z."""
    rest, geometry = scene.displacement.rest, scene.geometry
    widest = np.unravel_index(int(np.argmax(geometry.x_mm)), geometry.x_mm.shape)
    deepest = np.unravel_index(int(np.argmax(geometry.z_mm)), geometry.z_mm.shape)
    first = np.unravel_index(int(np.argmin(geometry.x_mm)), geometry.x_mm.shape)
    highest = np.unravel_index(int(np.argmin(geometry.z_mm)), geometry.z_mm.shape)
    x = (rest[0][widest] - rest[0][first]) / (geometry.x_mm[widest] - geometry.x_mm[first])
    z = (rest[1][deepest] - rest[1][highest]) / (geometry.z_mm[deepest] - geometry.z_mm[highest])
    return float(x), float(z)


def _find_seen(inside: NDArray[np.bool_], field: NDArray[np.float32]) -> NDArray[np.bool_]:
    height, width = inside.shape
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    there = cv2.remap(inside.astype(np.uint8), columns + field[..., 0], rows + field[..., 1], cv2.INTER_NEAREST)
    return np.asarray(inside & (there > 0), dtype=np.bool_)
