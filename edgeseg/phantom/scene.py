"""Phantom images and cines: anatomy is drawn once, then rendered at any time through the same imaging chain."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

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
# A lesion that comes and goes: its period, how long it is absent, and how long it takes to come or to go.
PASSING_SECONDS, ABSENT_SECONDS, CROSSING_SECONDS = 3.0, 1.2, 0.3
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
    numbers: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 0), np.uint8))
    """Which lesion every pixel belongs to, from 1; 0 elsewhere."""


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
    parts: tuple[NDArray[np.uint8], ...] = ()
    """Of several lesions each by itself, as 0 or 255 (rows, columns)."""

    def render(self, seconds: float, number: int) -> PhantomFrame:
        """Render the scene at a time, with the electronic noise of a frame number."""
        return self.render_look(self.displacement.look(self.motion.weights(seconds)), number)

    def render_look(self, look: FloatArray, number: int) -> PhantomFrame:
        """Render the scene with this raster column and row under each beam sample (2, samples, beams)."""
        # nearest neighbour: interpolation between scatterers would blur the speckle as the tissue moves
        power = acoustics.detect_power(_sample(self.scatterers, look, cv2.INTER_NEAREST), self.spread)
        loss = acoustics.attenuate(_sample(self.absorption, look, cv2.INTER_NEAREST), self.geometry.sample_pitch_mm())
        power = power * loss * self.clutter.gain + self.clutter.haze + self.clutter.noise_of(number)
        power = np.asarray(cv2.GaussianBlur(power, (0, 0), self.imaging.compounding), dtype=np.float32)
        image = self._scan_convert(acoustics.log_compress(power, self.imaging))
        image[~self.geometry.inside] = 0
        labels = self._label(look)
        return PhantomFrame(image, labels, self.geometry.name, self._number(look, labels))

    def _number(self, look: FloatArray, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Number the lesions; without parts there is one at most."""
        marked = np.asarray(labels == 1, np.uint8)
        if len(self.parts) < 2:
            return marked
        planes = [
            self._scan_convert(np.asarray(cv2.remap(part, look[0], look[1], cv2.INTER_LINEAR), np.uint8))
            for part in self.parts
        ]
        return np.asarray((np.argmax(np.stack(planes), axis=0) + 1) * marked, np.uint8)

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


def build_scene(
    seed: int,
    index: int,
    size: tuple[int, int],
    geometry_name: str | None,
    always_lesion: bool,
    paints_lesion: bool = True,
    fresh: float = 0.0,
    lesions: int | None = None,
    touching: bool = False,
) -> Scene:
    """Draw everything about a case; each part has its own random stream, so that changing one leaves the others.

    Without painting its lesion, the tissue around the place of the lesion stays the same. A share of the scatterers'
    power that is `fresh` comes from another draw: the same anatomy with other speckle. With a number of lesions that
    many smaller ones take its place, in touching pairs if wanted.
    """
    if seed < 0 or index < 0:
        raise DataError(f"Expected a seed and an index of zero or more, got {seed} and {index}.", "Use 0.")
    # the number and order of the streams decide every image: never change them
    streams = np.random.SeedSequence([seed, index]).spawn(7)
    view, layers, parts, speckle, probe, moving, more = (np.random.default_rng(stream) for stream in streams)
    geometry = draw_geometry(view, geometry_name, size)
    imaging = acoustics.draw_imaging(view, geometry)
    grid = tissue.build_grid(geometry)
    stacks = tissue.STACKS[geometry.name]
    body = tissue.lay_tissue(layers, grid, geometry.depth_mm, stacks[layers.integers(len(stacks))])
    pulse_center = _paint_parts(parts, geometry, body, always_lesion, paints_lesion and lesions is None)
    several = () if lesions is None else structures.paint_lesions(more, geometry, body, lesions, touching)
    spread = acoustics.build_point_spread(geometry, imaging)
    other = np.random.default_rng(np.random.SeedSequence([seed, index, 1])) if fresh else None
    return Scene(
        geometry=geometry,
        imaging=imaging,
        spread=spread,
        clutter=draw_clutter(probe, geometry, imaging, spread),
        motion=draw_motion(moving, geometry.depth_mm),
        displacement=build_displacement(geometry, grid, pulse_center),
        scatterers=tissue.draw_scatterers(speckle, body, other, fresh),
        absorption=body.absorption,
        marks=np.stack([body.lesion, body.vessel], axis=-1),
        parts=several,
    )


def _paint_parts(
    rng: np.random.Generator,
    geometry: ScanGeometry,
    body: tissue.Tissue,
    always_lesion: bool,
    paints_lesion: bool,
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
    if has_lesion and paints_lesion:
        structures.paint_lesion(rng, body, lesion, depth)
    if has_lesion and paints_lesion and lesion.kind == "shadowed":
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
        comes_and_goes: Whether the lesion grows out of the tissue and leaves again, as when the probe passes it.
        lesions: 0 to `MOST_LESIONS` smaller lesions in place of the one.
        touching: Whether these lie in pairs that touch.
    """

    def __init__(
        self,
        seed: int,
        index: int = 0,
        size: tuple[int, int] = (256, 256),
        fps: float = 30.0,
        geometry: str | None = None,
        comes_and_goes: bool = False,
        lesions: int | None = None,
        touching: bool = False,
    ) -> None:
        if comes_and_goes and lesions is not None:
            raise DataError("Expected one lesion that comes and goes, or several that stay, got both.", "Drop one.")
        if fps <= 0:
            raise DataError(f"Expected a frame rate above zero, got {fps}.", "Use 30 frames per second.")
        self._scene = build_scene(seed, index, size, geometry, always_lesion=True, lesions=lesions, touching=touching)
        self._passing = PassingLesion(self._scene, seed, index, size, geometry) if comes_and_goes else None
        self.fps = fps
        self.geometry = self._scene.geometry.name

    def frame(self, number: int) -> PhantomFrame:
        """Render one frame."""
        seconds = number / self.fps
        scene = self._scene if self._passing is None else self._passing.at(seconds)
        return scene.render(seconds, number)


class PassingLesion:
    """A lesion whose cross-section grows and shrinks while the probe passes it: absent, then there, then absent."""

    def __init__(self, scene: Scene, seed: int, index: int, size: tuple[int, int], geometry: str | None) -> None:
        self._with = scene
        self._without = build_scene(seed, index, size, geometry, always_lesion=True, paints_lesion=False)
        depth = cv2.distanceTransform(np.asarray(scene.marks[..., 0]), cv2.DIST_L2, 5)
        self._depth = np.asarray(depth / max(1.0, float(depth.max())), dtype=np.float32)

    def at(self, seconds: float) -> Scene:
        """Give the scene at a time."""
        share = find_lesion_share(seconds)
        if share in (0.0, 1.0):
            return self._with if share else self._without
        # the plane shows what lies deeper inside the lesion than this
        seen = self._depth > 1.0 - share
        there, gone = self._with, self._without
        return replace(
            there,
            scatterers=np.where(seen[..., None], there.scatterers, gone.scatterers),
            absorption=np.where(seen, there.absorption, gone.absorption),
            marks=np.where(seen[..., None], there.marks, gone.marks),
        )


def find_lesion_share(seconds: float) -> float:
    """Say how much of a lesion that comes and goes is in the plane, from 0 to 1."""
    phase = seconds % PASSING_SECONDS
    rising, falling = phase - ABSENT_SECONDS, PASSING_SECONDS - phase
    return float(np.clip(min(rising, falling) / CROSSING_SECONDS, 0.0, 1.0))
