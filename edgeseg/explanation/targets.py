"""What is explained of a frame, and how strongly a changed frame still shows it: the score that every method asks for.

A frame is changed on the network's own grid, after preprocessing: parts of it are replaced by a strongly blurred copy.
Black would be an edge that no frame has, and the network would answer to that edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.card import Card
from edgeseg.core.errors import ModelFileError, SourceError, UnknownNameError
from edgeseg.core.spec import Region
from edgeseg.explanation.options import FINDING, MASK
from edgeseg.frame.postprocess import SCORE_ONE, decide_labels, draw_ellipses, tensor_to_scores
from edgeseg.frame.preprocess import Pixels, frame_to_pixels, pixels_to_tensor, place_frame, use_region
from edgeseg.inference.confidence import read_finding
from edgeseg.inference.segmenter import Segmentation, Segmenter

# Cells along the longer side of a map: as fine as the masks of a network of 256x256 with output stride 4.
CELLS = 64
# The blur that replaces pixels: its standard deviation as a share of the longer side.
BLUR = 1 / 16
# Where nothing is found, so many of the highest scores are explained.
_HIGHEST = 0.01
# Grey values between the darkest and the brightest pixel that a frame with structure has at least.
_FEWEST_GREYS = 4
Map = NDArray[np.float32]


@dataclass(frozen=True)
class Target:
    """One class whose mask, or whose finding probability, is explained."""

    name: str
    number: int
    """Of the class, from 0."""
    of: str
    """mask or finding."""
    mask: NDArray[np.bool_]
    """Where the class is marked, on the network's output grid without padding; else where its scores are highest."""
    found: bool
    """Whether it is marked anywhere."""


class Probe:
    """One frame on a network's grid that can be changed and asked again."""

    def __init__(self, segmenter: Segmenter, frame: NDArray[Any], region: Region | None = None) -> None:
        """Preprocess a frame, and segment it once.

        Args:
            segmenter: The model.
            frame: Grey or BGR, 8 or 16 bit.
            region: The part of it that shows the ultrasound picture; None takes what the card says.

        Raises:
            SourceError: The frame has no structure, so that there is nothing to explain.
        """
        self.card = segmenter.card
        self._backend = segmenter.selection.backend
        self._temperatures = () if self.card.decision is None else self.card.decision.temperatures
        self._finding_temperatures = () if self.card.decision is None else self.card.decision.finding_temperatures
        spec = use_region(self.card.input, region)
        self._grid = frame_to_pixels(frame, spec)
        self.placement = place_frame(spec, *frame.shape[:2])
        place = self.placement
        self._inside = slice(place.y, place.y + place.height), slice(place.x, place.x + place.width)
        self.pixels = self._grid[self._inside]
        if int(self.pixels.max()) - int(self.pixels.min()) < _FEWEST_GREYS:
            raise SourceError(
                "Expected a frame with structure to explain, got one of a single brightness.",
                "Look at it: the file may be empty, or the region outside of the picture.",
            )
        self.fill = blur(self.pixels)
        cell = max(place.height, place.width) / CELLS
        self.shape = (max(1, round(place.height / cell)), max(1, round(place.width / cell)))
        self.segmentation: Segmentation = segmenter.segment(frame, region)
        self.asked = 0
        """How often the network was asked."""

    def change(self, kept: Map) -> Pixels:
        """Blend the picture, where `kept` is 1, with its blurred copy, where it is 0.

        Args:
            kept: Any grid that covers the picture; it is scaled to it, smoothly.

        Returns:
            Pixels of the network's whole grid.
        """
        size = (self.pixels.shape[1], self.pixels.shape[0])
        weight = np.asarray(cv2.resize(kept, size, interpolation=cv2.INTER_LINEAR))[:, :, None]
        mixed = self.fill + weight * (self.pixels.astype(np.float32) - self.fill)
        changed = self._grid.copy()
        changed[self._inside] = np.clip(mixed + np.float32(0.5), 0, 255).astype(np.uint8)
        return changed

    def ask(self, kept: Map, targets: Sequence[Target]) -> NDArray[np.float64]:
        """Measure how strongly a changed frame shows each target, 0 to 1."""
        return self.ask_pixels(self.change(kept), targets)

    def ask_pixels(self, pixels: Pixels, targets: Sequence[Target]) -> NDArray[np.float64]:
        """Measure how strongly pixels of the whole grid show each target, 0 to 1.

        Of a mask it is the soft Dice of the scores with the mask of the unchanged frame, which for that frame itself is
        the mask's confidence. Unlike the mean score inside, it falls when the network marks other places as well.
        """
        self.asked += 1
        outputs = self._backend.invoke(pixels_to_tensor(pixels, self.card.input_quantisation))
        scores = tensor_to_scores(outputs[0], self.card.output_quantisation, self._temperatures)
        scores = self.cut(scores)
        return np.array([self._score(target, scores, outputs) for target in targets], np.float64)

    def _score(self, target: Target, scores: Pixels, outputs: Sequence[NDArray[Any]]) -> float:
        if target.of == FINDING:
            assert self.card.finding_quantisation is not None
            found = read_finding(outputs[1], self.card.finding_quantisation, self._finding_temperatures)
            return float(found[target.number])
        plane = scores[:, :, self.card.output.draws_background + target.number]
        inside = float(plane[target.mask].sum(dtype=np.int64))
        return 2.0 * inside / (float(plane.sum(dtype=np.int64)) + SCORE_ONE * int(target.mask.sum()))

    def ask_raw(self) -> NDArray[Any]:
        """Return the mask's tensor of the unchanged frame as the network gives it, without batch and padding."""
        outputs = self._backend.invoke(pixels_to_tensor(self._grid, self.card.input_quantisation))
        return self.cut(outputs[0][0].copy())

    def cut(self, grid: NDArray[Any]) -> NDArray[Any]:
        """Cut the padding off an array (height, width, channels) on the network's output grid."""
        stride = self.card.input.height // grid.shape[0]
        y, x = self.placement.y // stride, self.placement.x // stride
        return grid[y : y + self.placement.height // stride, x : x + self.placement.width // stride]

    @property
    def grid(self) -> Pixels:
        """The pixels of the network's whole grid, unchanged."""
        return self._grid

    @property
    def blurred(self) -> Pixels:
        """The pixels of the network's whole grid with the picture replaced by its blurred copy."""
        return self.change(np.zeros((1, 1), np.float32))

    def spread(self, fine: NDArray[Any]) -> Map:
        """Average an array on the network's whole input grid to the cells of a map."""
        inside = np.asarray(fine[self._inside], np.float32)
        size = (self.shape[1], self.shape[0])
        return np.asarray(cv2.resize(inside, size, interpolation=cv2.INTER_AREA), np.float32)


def blur(pixels: Pixels) -> NDArray[np.float32]:
    """Blur a picture (height, width, channels) so strongly that only its shading is left."""
    sigma = BLUR * max(pixels.shape[:2])
    # blurring in floats at a quarter of the size: the kernel of the full size would be hundreds of pixels wide
    small = (max(1, pixels.shape[1] // 4), max(1, pixels.shape[0] // 4))
    reduced = cv2.resize(pixels.astype(np.float32), small, interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(reduced, (0, 0), sigma / 4, borderType=cv2.BORDER_REPLICATE)
    full = cv2.resize(smooth, (pixels.shape[1], pixels.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(full, np.float32).reshape(pixels.shape)


def check_target(card: Card, of: str, wanted: str | None) -> None:
    """Refuse what a model cannot be asked for, before any frame is read.

    Raises:
        UnknownNameError: The model has no such class.
        ModelFileError: The model has no finding output.
    """
    names = [spec.name for spec in card.output.classes]
    if wanted is not None and wanted not in names:
        raise UnknownNameError("class", wanted, names)
    if of == FINDING and card.finding_quantisation is None:
        raise ModelFileError(
            "Expected a model with a finding output, got one that draws masks alone.", "Explain the mask: --of mask"
        )


def choose_targets(probe: Probe, of: str = MASK, wanted: str | None = None) -> tuple[Target, ...]:
    """Choose what is explained of a frame: every class that is marked, or the one with the highest score.

    Args:
        probe: The frame.
        of: The mask, or the finding probability of its class.
        wanted: The name of one class; None takes all that are marked.

    Raises:
        UnknownNameError: The model has no such class.
        ModelFileError: The model has no finding output.
    """
    check_target(probe.card, of, wanted)
    output = probe.card.output
    names = [spec.name for spec in output.classes]
    grid = probe.segmentation.grid
    labels = decide_labels(grid, output)
    if output.shape == "ellipse":
        labels = draw_ellipses(labels, len(names))
    marked = [np.asarray(labels == number, bool) for number in range(1, len(names) + 1)]
    if wanted is not None:
        chosen = [names.index(wanted)]
    else:
        chosen = [number for number, mask in enumerate(marked) if mask.any()] or [_find_likeliest(probe, of)]
    return tuple(_make_target(probe, number, marked[number], of) for number in chosen)


def _find_likeliest(probe: Probe, of: str) -> int:
    findings = probe.segmentation.findings
    if of == FINDING and findings and findings[0].probability is not None:
        return int(np.argmax([finding.probability or 0.0 for finding in findings]))
    planes = probe.segmentation.grid[:, :, probe.card.output.draws_background :]
    return int(planes.reshape(-1, planes.shape[2]).max(axis=0).argmax())


def _make_target(probe: Probe, number: int, mask: NDArray[np.bool_], of: str) -> Target:
    name, found = probe.card.output.classes[number].name, bool(mask.any())
    if not found:
        plane = probe.segmentation.grid[:, :, probe.card.output.draws_background + number]
        count = max(1, round(_HIGHEST * plane.size))
        mask = np.zeros(plane.shape, bool)
        mask.ravel()[np.argsort(plane, axis=None, kind="stable")[-count:]] = True
    return Target(name, number, of, mask, found)
