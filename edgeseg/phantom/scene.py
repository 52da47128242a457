"""Phantom images and cines: anatomy is drawn once, then rendered at any time through the same imaging chain."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.phantom import acoustics, structures, tissue
from edgeseg.phantom.acoustics import Clutter, draw_clutter
from edgeseg.phantom.geometry import FloatArray, ScanGeometry, draw_geometry
from edgeseg.phantom.motion import Displacement, Motion, build_displacement, draw_motion
from edgeseg.phantom.structures import Blob

LABELS: tuple[str, ...] = ("background", "lesion", "vessel")
# Share of cases with a lesion.
LESION_SHARE = 0.9
_HALF = 127


@dataclass(frozen=True)
class PhantomFrame:
    """One image with its labels.

    Args:
        image: Grey levels (height, width).
        labels: 0 background, 1 lesion, 2 vessel, see LABELS.
        geometry: Name of the scan geometry.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    geometry: str


@dataclass(frozen=True)
class Scene:
    """The fixed parts of a phantom while its tissue moves: rasters, point spread function, clutter.

    Args:
        scatterers: Complex scatterers of the tissue (rows, columns, 2).
        marks: Lesion, vessel as 0 or 255 (rows, columns, 2).
    """

    geometry: ScanGeometry
    imaging: acoustics.Imaging
    spread: acoustics.PointSpreadFunction
    clutter: Clutter
    motion: Motion
    displacement: Displacement
    scatterers: FloatArray
    absorption: FloatArray
    marks: NDArray[np.uint8]

    def render(self, seconds: float, number: int) -> PhantomFrame:
        """Render the scene at a time, with the electronic noise of a frame number."""
        look = self.displacement.look(self.motion.weights(seconds))
        # nearest neighbour: interpolation between scatterers would blur the speckle as the tissue moves
        power = acoustics.detect_power(_sample(self.scatterers, look, cv2.INTER_NEAREST), self.spread)
        loss = acoustics.attenuate(_sample(self.absorption, look, cv2.INTER_NEAREST), self.geometry.sample_pitch_mm())
        power = power * loss * self.clutter.gain + self.clutter.haze + self.clutter.noise_of(number)
        power = np.asarray(cv2.GaussianBlur(power, (0, 0), self.imaging.compounding), dtype=np.float32)
        image = self._scan_convert(acoustics.log_compress(power, self.imaging))
        image[~self.geometry.inside] = 0
        return PhantomFrame(image, self._label(look), self.geometry.name)

    def _label(self, look: FloatArray) -> NDArray[np.uint8]:
        marks = cv2.remap(self.marks, look[0], look[1], cv2.INTER_LINEAR)
        seen = self._scan_convert(np.asarray(marks, dtype=np.uint8))
        labels = np.where(seen[..., 0] > _HALF, 1, np.where(seen[..., 1] > _HALF, 2, 0))
        return np.asarray(labels * self.geometry.inside, dtype=np.uint8)

    def _scan_convert(self, beams: NDArray[np.uint8]) -> NDArray[np.uint8]:
        geometry = self.geometry
        converted = cv2.remap(
            beams,
            geometry.beam_of_pixel,
            geometry.sample_of_pixel,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(converted, dtype=np.uint8)


def _sample(raster: FloatArray, look: FloatArray, how: int) -> FloatArray:
    return np.asarray(cv2.remap(raster, look[0], look[1], how, borderMode=cv2.BORDER_REFLECT), dtype=np.float32)


def build_scene(seed: int, index: int, size: tuple[int, int], geometry_name: str | None, always_lesion: bool) -> Scene:
    """Draw everything about a case; each part has its own random stream, so that changing one leaves the others."""
    if seed < 0 or index < 0:
        raise DataError(f"Expected a seed and an index of zero or more, got {seed} and {index}.", "Use 0.")
    # the number and order of the streams decide every image: never change them
    streams = np.random.SeedSequence([seed, index]).spawn(6)
    view, layers, parts, speckle, probe, moving = (np.random.default_rng(stream) for stream in streams)
    geometry = draw_geometry(view, geometry_name, size)
    imaging = acoustics.draw_imaging(view, geometry)
    grid = tissue.build_grid(geometry)
    stacks = tissue.STACKS[geometry.name]
    body = tissue.lay_tissue(layers, grid, geometry.depth_mm, stacks[layers.integers(len(stacks))])
    pulse_center = _paint_parts(parts, geometry, body, always_lesion)
    spread = acoustics.build_point_spread(geometry, imaging)
    return Scene(
        geometry=geometry,
        imaging=imaging,
        spread=spread,
        clutter=draw_clutter(probe, geometry, imaging, spread),
        motion=draw_motion(moving, geometry.depth_mm),
        displacement=build_displacement(geometry, grid, pulse_center),
        scatterers=tissue.draw_scatterers(speckle, body),
        absorption=body.absorption,
        marks=np.stack([body.lesion, body.vessel], axis=-1),
    )


def _paint_parts(
    rng: np.random.Generator, geometry: ScanGeometry, body: tissue.Tissue, always_lesion: bool
) -> tuple[float, float]:
    """Paint vessels, then the lesion, then shadows; return the point that pulses."""
    depth = geometry.depth_mm
    has_lesion = bool(rng.random() < LESION_SHARE) or always_lesion
    lesion = structures.draw_lesion(rng, geometry)
    avoid = lesion.outline if has_lesion else None
    structures.paint_decoys(rng, body, geometry, avoid)
    drawn = structures.draw_vessels(rng, geometry, avoid)
    for vessel in drawn:
        structures.paint_vessel(rng, body, vessel, depth)
    if has_lesion:
        structures.paint_lesion(rng, body, lesion, depth)
    if has_lesion and lesion.kind == "shadowed":
        _shade_lesion(rng, body, lesion.outline, depth)
    pulsing = [vessel.outline.center_mm for vessel in drawn if isinstance(vessel.outline, Blob)]
    return pulsing[0] if pulsing else lesion.outline.center_mm


def _shade_lesion(rng: np.random.Generator, body: tissue.Tissue, outline: Blob, depth_mm: float) -> None:
    x = outline.center_mm[0] + float(rng.choice((-0.8, 0.8))) * outline.axes_mm[0]
    top = max(outline.center_mm[1] - 1.4 * outline.axes_mm[1], 0.12 * depth_mm)
    structures.paint_plate(body, (x, top), depth_mm * rng.uniform(0.04, 0.07), rng.uniform(8.0, 13.0), depth_mm)


def render_case(
    seed: int, index: int = 0, size: tuple[int, int] = (256, 256), geometry: str | None = None
) -> PhantomFrame:
    """Render the index-th case of a seed, whatever other cases were rendered before."""
    return build_scene(seed, index, size, geometry, always_lesion=False).render(0.0, 0)


class PhantomClip:
    """A moving phantom with a lesion: any frame of an endless cine, in any order.

    Args:
        seed: Seed of the whole set.
        index: Which clip of the set.
        size: Height and width.
        fps: Frames per second of the cine.
        geometry: One of GEOMETRIES, or None for any.
    """

    def __init__(
        self,
        seed: int,
        index: int = 0,
        size: tuple[int, int] = (256, 256),
        fps: float = 30.0,
        geometry: str | None = None,
    ) -> None:
        if fps <= 0:
            raise DataError(f"Expected a frame rate above zero, got {fps}.", "Use 30 frames per second.")
        self._scene = build_scene(seed, index, size, geometry, always_lesion=True)
        self.fps = fps
        self.geometry = self._scene.geometry.name

    def frame(self, number: int) -> PhantomFrame:
        """Render one frame."""
        return self._scene.render(number / self.fps, number)
