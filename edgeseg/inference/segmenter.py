"""One frame in, one mask out: the model file with everything its card says to do around it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.backends.select import BackendReport, Selection, select_backend
from edgeseg.core.card import Card
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.spec import ClassSpec, Region
from edgeseg.frame.postprocess import labels_on_frame, scores_to_labels, tensor_to_scores
from edgeseg.frame.preprocess import frame_to_pixels, pixels_to_tensor, place_frame, use_region
from edgeseg.inference.masks import (
    AS_THE_CARD_SAYS,
    ClassArea,
    MaskOptions,
    ScoreSmoother,
    check_pixel_size,
    fill_holes,
    measure_areas,
)

WARM_UP_RUNS = 5
KEPT_INCIDENTS = 100
"""The newest; a stream may run for months."""


@dataclass(frozen=True)
class StageTimes:
    """What each stage of one frame took, in milliseconds."""

    preprocess: float
    invoke: float
    postprocess: float

    @property
    def total(self) -> float:
        """Add the stages up."""
        return self.preprocess + self.invoke + self.postprocess


def _no_scores() -> NDArray[np.uint8]:
    return np.empty((0, 0, 0), np.uint8)


@dataclass(frozen=True)
class Segmentation:
    """The mask of one frame at the frame's size (0 background, k the k-th class), and what it took."""

    labels: NDArray[np.uint8]
    times: StageTimes
    scores: NDArray[np.uint8] = field(default_factory=_no_scores)
    """What the network gave, in 1/256, as (height, width, channels) on its own output grid."""
    classes: tuple[ClassSpec, ...] = ()
    mm_per_px: float | None = None
    """The size of the frame's pixels, where it is known."""

    @property
    def areas(self) -> tuple[ClassArea, ...]:
        """Measure the area of every class, in mm2 too where the pixel size is known."""
        return measure_areas(self.labels, self.classes, self.mm_per_px)


class Segmenter:
    """A model file on a backend, ready for frames."""

    def __init__(
        self,
        model: ModelFile,
        requested: str = "auto",
        threads: int = 1,
        enforce_parity: bool = True,
        masks: MaskOptions = AS_THE_CARD_SAYS,
    ) -> None:
        """Load a model file.

        Args:
            model: The file, read and verified.
            requested: "auto", or the name of a backend, with its variant behind a colon.
            threads: How many threads a CPU backend may use.
            enforce_parity: Whether a backend is refused whose masks are not those of the file's golden pairs.
            masks: What is done to the masks beyond what the card says; smoothing expects the frames of one stream.
        """
        self.card: Card = model.card
        self._masks, self._smoother = masks, ScoreSmoother()
        self.incidents: deque[str] = deque(maxlen=KEPT_INCIDENTS)
        self.selection: Selection = select_backend(model, requested, threads, enforce_parity)

    def __call__(
        self, frame: NDArray[Any], region: Region | None = None, *, mm_per_px: float | None = None
    ) -> Segmentation:
        """Segment one frame.

        Args:
            frame: Grey (height, width) or BGR (height, width, 3), 8 or 16 bit.
            region: The part of the frame that shows the ultrasound image; None takes what the model's card says.
            mm_per_px: The size of the frame's pixels, for areas in mm2.

        Raises:
            ValueError: No pixel can have that size.
            BackendError: The model cannot be run any longer.
        """
        result = self.segment(frame, region)
        if mm_per_px is None:
            return result
        check_pixel_size(mm_per_px)
        return replace(result, mm_per_px=mm_per_px)

    def segment(self, frame: NDArray[Any], region: Region | None = None) -> Segmentation:
        """Draw the mask of one frame, in a region of it where one is given."""
        card, size = self.card, (frame.shape[0], frame.shape[1])
        spec = use_region(card.input, region)
        start = perf_counter()
        tensor = pixels_to_tensor(frame_to_pixels(frame, spec), card.input_quantisation)
        ready = perf_counter()
        output = self._invoke(tensor)
        done = perf_counter()
        placement = place_frame(spec, *size)
        scores = tensor_to_scores(output, card.output_quantisation)
        if self._masks.smooth:
            scores = self._smoother.smooth(scores)
        inner = scores_to_labels(scores, placement, (spec.height, spec.width), card.output)
        labels = labels_on_frame(inner, placement, *size)
        if self._masks.fill_holes:
            labels = fill_holes(labels, len(card.output.classes))
        end = perf_counter()
        times = StageTimes(1e3 * (ready - start), 1e3 * (done - ready), 1e3 * (end - done))
        return Segmentation(labels, times, scores, card.output.classes)

    def warm_up(self) -> float:
        """Draw a few blank frames, since the first inference is no steady state.

        Returns:
            What the first inference took, in milliseconds.
        """
        spec = self.card.input
        blank = np.zeros((spec.height, spec.width, spec.channels), np.uint8)
        first = self.segment(blank).times.invoke
        for _ in range(WARM_UP_RUNS):
            self.segment(blank)
        self._smoother.forget()
        return first

    def close(self) -> None:
        """Let go of what was started beside the backend: here nothing."""

    def report(self) -> BackendReport:
        """Say what the model runs on at this moment."""
        return self.selection.report()

    def _invoke(self, tensor: NDArray[Any]) -> NDArray[Any]:
        return self.selection.backend.invoke(tensor)
