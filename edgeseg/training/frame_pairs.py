"""Pairs of frames that a registering network learns from: neighbours in a clip, and frames that were deformed by us.

A deformed frame has an exact truth: a smooth field, another gain, and speckle of which a part is drawn afresh, as when
the probe has moved a little out of the plane. Neighbours in a clip have none, but they are what the network will see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import TrainingError
from edgeseg.registration.coding import even_out, pair_to_pixels
from edgeseg.training.unlabelled import FrameSet

# Frames that lie at most this far apart are paired.
MOST_APART = 5
# Neighbours whose thumbnails correlate less than this show different scenes.
LEAST_ALIKE = 0.6
# Share of the clips that are kept apart to validate.
VALIDATION_SHARE = 0.2
# Share of the pairs of a batch that are deformed frames.
DEFORMED_SHARE = 0.75
_SPLIT_STREAM, _PAIR_STREAM, _VALIDATION_STREAM = 11, 12, 13
_REFERENCE_PX = 256.0
# Largest motions of a deformed frame, in pixels of a network of 256 pixels, degrees and shares.
_SHIFT_PX, _ROTATION_DEG, _STRETCH, _DEFORMATION_PX = 12.0, 8.0, 0.06, 14.0
# The grain of a deformation in pixels, and the largest slope of its field: more would fold.
_GRAINS_PX, _MOST_SLOPE = (20.0, 80.0), 0.5
_GAIN, _GAMMA = (0.75, 1.33), (0.8, 1.25)
# The most of the speckle's power that is drawn afresh, and its grain in pixels.
_MOST_FRESH, _SPECKLE_PX = 0.4, (0.8, 2.5)
# The window in pixels in which tissue is about equally bright, and the share of the speckle's contrast that is kept.
_BRIGHTNESS_PX, _CONTRAST = 2.0, (0.3, 1.0)
# Dynamic range of an image in nepers of amplitude: 60 dB.
_RANGE = 6.9


@dataclass(frozen=True)
class Clips:
    """Grey frames on the network's grid, and the clip that each belongs to."""

    frames: NDArray[np.uint8]
    """(n, height, width)."""
    clip: NDArray[np.intp]
    neighbours: NDArray[np.intp]
    """Pairs of numbers of frames (m, 2) that show the same scene."""

    @property
    def side(self) -> int:
        """The longer side of a frame."""
        return int(max(self.frames.shape[1:]))

    def part(self, wanted: Sequence[int]) -> Clips:
        """The frames of some clips."""
        kept = np.flatnonzero(np.isin(self.clip, wanted))
        place = np.full(len(self.clip), -1, dtype=np.intp)
        place[kept] = np.arange(len(kept))
        inside = np.isin(self.neighbours, kept).all(axis=1)
        return Clips(self.frames[kept], self.clip[kept], place[self.neighbours[inside]])


def gather_clips(found: FrameSet) -> Clips:
    """Gather the frames of a folder into clips: a video, a DICOM file, or the images of one subfolder, by name.

    Images of a subfolder with the name of a video beside it are of the same clip: `data synth` writes clips both ways.
    """
    counts = {name: found.files.count(name) for name in set(found.files)}
    beside = {PurePosixPath(name).with_suffix(""): name for name, count in counts.items() if count > 1}
    # an image belongs to its folder, a file of several frames to itself
    names = [name if counts[name] > 1 else _find_clip(PurePosixPath(name), beside) for name in found.files]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    clip = np.array([numbers[name] for name in names], dtype=np.intp)
    thumbnails = found.thumbnails.astype(np.float32)
    thumbnails /= np.maximum(np.linalg.norm(thumbnails, axis=1, keepdims=True), 1.0)
    pairs = []
    for apart in range(1, min(MOST_APART, len(clip) - 1) + 1):
        alike = np.sum(thumbnails[:-apart] * thumbnails[apart:], axis=1) > LEAST_ALIKE
        pairs += [(n, n + apart) for n in np.flatnonzero((clip[:-apart] == clip[apart:]) & alike)]
    neighbours = np.array(pairs, dtype=np.intp).reshape(-1, 2)
    return Clips(np.ascontiguousarray(found.pixels[..., 0]), clip, neighbours)


def _find_clip(image: PurePosixPath, beside: Mapping[PurePosixPath, str]) -> str:
    return next((beside[folder] for folder in image.parents if folder in beside), str(image.parent))


def split_clips(clips: Clips, seed: int) -> tuple[Clips, Clips]:
    """Divide clips into those to learn from and those to validate with, never frames of one clip.

    Raises:
        TrainingError: There are fewer than two clips.
    """
    numbers = np.unique(clips.clip)
    if len(numbers) < 2:
        raise TrainingError(
            f"Expected at least 2 clips, to learn from one and validate with another, got {len(numbers)}.",
            "Give videos, DICOM clips, or a subfolder of images for each clip.",
        )
    order = np.random.default_rng((seed, _SPLIT_STREAM)).permutation(numbers)
    held = max(1, round(VALIDATION_SHARE * len(numbers)))
    return clips.part(order[held:].tolist()), clips.part(order[:held].tolist())


@dataclass(frozen=True)
class PairFeed:
    """Makes batches of pairs: the network's inputs, and what is known of the motion on its output grid."""

    clips: Clips
    batch: int
    seed: int
    side: int
    """Of the crops that are learned from, in pixels of the network's grid."""
    stride: int

    def make_batch(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Make the batch of a number: inputs from 0 to 1, and dx, dy and a weight that is 0 where nothing is known."""
        random = np.random.default_rng((self.seed, _PAIR_STREAM, number))
        deformed = self.batch if not len(self.clips.neighbours) else round(DEFORMED_SHARE * self.batch)
        cases = [self._make_deformed(random) for _ in range(deformed)]
        cases += [self._make_neighbours(random) for _ in range(self.batch - deformed)]
        inputs, truths = (np.stack([case[place] for case in cases]).astype(np.float32) for place in (0, 1))
        return inputs / np.float32(255), truths

    def _make_deformed(self, random: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        frame = self.clips.frames[random.integers(len(self.clips.frames))]
        frame = frame[:, ::-1] if random.random() < 0.5 else frame
        margin = min((min(frame.shape) - self.side) // 2, self.side // 8)
        patch = _crop(frame, self.side + 2 * margin, random)
        return deform_frame(patch, random, self.clips.side, self.stride, margin)

    def _make_neighbours(self, random: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        pair = self.clips.neighbours[random.integers(len(self.clips.neighbours))]
        both = np.dstack([self.clips.frames[number] for number in random.permutation(pair)])
        crop = _crop(both, self.side, random)
        sigma = 12.0 * self.clips.side / _REFERENCE_PX
        pixels = np.dstack([even_out(np.ascontiguousarray(crop[..., channel]), sigma) for channel in (0, 1)])
        return pixels, np.zeros((self.side // self.stride, self.side // self.stride, 3), np.float32)


def _crop(image: NDArray[np.uint8], side: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Crop a square; one that shows nothing is drawn again."""
    for _ in range(8):
        top, left = (int(random.integers(length - side + 1)) for length in image.shape[:2])
        patch = image[top : top + side, left : left + side]
        if np.mean(patch > 8) > 0.5:
            break
    return np.ascontiguousarray(patch)


def deform_frame(
    patch: NDArray[np.uint8], random: np.random.Generator, frame_side: int, stride: int, margin: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Make a pair of a frame: the network's input, and dx, dy and the weight on its output grid.

    Args:
        patch: The frame, with a margin that is cut off in the end.
        random: What is drawn.
        frame_side: The longer side of a whole frame, which motions are proportional to.
        stride: The network's output stride.
        margin: In pixels.
    """
    unit = frame_side / _REFERENCE_PX
    field = draw_field(patch.shape[0], patch.shape[1], random, unit)
    height, width = patch.shape
    columns = np.arange(width, dtype=np.float32) + field[..., 0]
    rows = np.arange(height, dtype=np.float32)[:, None] + field[..., 1]
    fixed = cv2.remap(patch, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
    inside = (columns >= 0) & (columns <= width - 1) & (rows >= 0) & (rows <= height - 1) & (np.asarray(fixed) > 0)
    fresh = random.uniform(0, _MOST_FRESH) if random.random() < 0.5 else 0.0
    moving = change_looks(patch, random, fresh, unit)
    sigma = 12.0 * unit
    cut = slice(margin, height - margin), slice(margin, width - margin)
    both = [even_out(np.asarray(image, np.uint8), sigma)[cut] for image in (fixed, moving)]
    truth = np.dstack([field, inside.astype(np.float32)])[cut]
    size = truth.shape[1] // stride, truth.shape[0] // stride
    return np.dstack(both), np.asarray(cv2.resize(truth, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def draw_field(height: int, width: int, random: np.random.Generator, unit: float) -> NDArray[np.float32]:
    """Draw a displacement field: an affine motion and a smooth deformation, more often small than large.

    Args:
        height: Of the field.
        width: Of the field.
        random: What is drawn.
        unit: Pixels of the network's grid for one of a network of 256 pixels.
    """
    affine, bend = (random.random(2) ** 2) * (random.random(2) < 0.8)
    turn = np.deg2rad(_ROTATION_DEG) * affine * random.uniform(-1, 1)
    along, across, shear = _STRETCH * affine * random.uniform(-1, 1, 3)
    linear = np.array([[along, shear - turn], [turn, across]])
    columns, rows = np.meshgrid(np.arange(width) - width / 2, np.arange(height) - height / 2)
    shift = _SHIFT_PX * unit * affine * random.uniform(-1, 1, 2)
    field = (np.stack([columns, rows], axis=-1) @ linear.T + shift).astype(np.float32)
    grain = unit * random.uniform(*_GRAINS_PX)
    cells = (max(4, round(width / grain) + 3), max(4, round(height / grain) + 3))
    noise = random.standard_normal((cells[1], cells[0], 2)).astype(np.float32)
    bent = np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))
    reach = min(bend * _DEFORMATION_PX * unit, _MOST_SLOPE * grain)
    scale = np.float32(reach / max(1e-6, float(np.hypot(bent[..., 0], bent[..., 1]).max())))
    return np.asarray(field + bent * scale, dtype=np.float32)


def change_looks(image: NDArray[np.uint8], random: np.random.Generator, fresh: float, unit: float) -> NDArray[np.uint8]:
    """Change an image's gain and gamma, and draw a share of its speckle's power afresh."""
    levels = image.astype(np.float32) / np.float32(255)
    if fresh > 0:
        # speckle is the amplitude of a complex sum (Wagner et al. 1983): a second one of the same brightness is added
        amplitude = np.exp(levels * _RANGE)
        around = np.exp(np.asarray(cv2.GaussianBlur(levels, (0, 0), _BRIGHTNESS_PX * unit)) * _RANGE)
        spots = _draw_speckle(image.shape, random, unit) * around
        mixed = np.hypot(np.sqrt(1 - fresh) * amplitude + np.sqrt(fresh) * spots[0], np.sqrt(fresh) * spots[1])
        # compounding and filters of a scanner leave a part of the contrast of speckle
        change = np.log(np.maximum(mixed, 1.0) / amplitude) * np.float32(random.uniform(*_CONTRAST) / _RANGE)
        levels = np.where(image > 0, levels + change, 0).astype(np.float32)
    levels = random.uniform(*_GAIN) * np.clip(levels, 0, 1) ** random.uniform(*_GAMMA)
    return np.asarray(np.clip(np.rint(255 * levels), 0, 255), dtype=np.uint8)


def _draw_speckle(shape: tuple[int, ...], random: np.random.Generator, unit: float) -> NDArray[np.float32]:
    """Draw real and imaginary part of speckle of mean power 1."""
    noise = random.standard_normal((shape[0], shape[1], 2)).astype(np.float32)
    grains = [max(0.5, unit * random.uniform(*_SPECKLE_PX)) for _ in range(2)]
    smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), grains[0], sigmaY=grains[1]))
    scale = np.float32(np.sqrt(2) * max(1e-6, float(smooth.std())))
    return np.asarray(np.moveaxis(smooth / scale, -1, 0), dtype=np.float32)


@dataclass(frozen=True)
class ValidationPairs:
    """Whole frames with a known motion, and neighbours in clips, of clips that were kept apart."""

    inputs: NDArray[np.uint8]
    truths: NDArray[np.float32]
    """dx, dy and a weight on the output grid."""
    clip: tuple[str, ...]
    pairs: NDArray[np.uint8]
    """The network's inputs of neighbours."""
    pair_clip: tuple[str, ...]


def draw_validation(clips: Clips, seed: int, stride: int, most: int = 48) -> ValidationPairs:
    """Draw the pairs that every epoch is judged on: evenly from all clips that were kept apart."""
    random = np.random.default_rng((seed, _VALIDATION_STREAM))
    numbers = np.linspace(0, len(clips.frames) - 1, min(most, len(clips.frames))).astype(int)
    made = [deform_frame(clips.frames[number], random, clips.side, stride) for number in numbers]
    chosen = np.linspace(0, len(clips.neighbours) - 1, min(most // 2, len(clips.neighbours))).astype(int)
    neighbours = [clips.neighbours[number] for number in chosen]
    height, width = clips.frames.shape[1:]
    coded = [pair_to_pixels(clips.frames[one], clips.frames[other]) for one, other in neighbours]
    return ValidationPairs(
        np.stack([inputs for inputs, _ in made]),
        np.stack([truth for _, truth in made]),
        tuple(str(clips.clip[number]) for number in numbers),
        np.stack(coded) if coded else np.zeros((0, height, width, 2), np.uint8),
        tuple(str(clips.clip[one]) for one, _ in neighbours),
    )
