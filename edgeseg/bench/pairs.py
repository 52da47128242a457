"""Time a file that registers as one that draws masks is timed: a camera-sized pair to its displacement field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.modelfile import RegistrationFile, find_model, is_ensemble, read_any
from edgeseg.frame.preprocess import frame_to_grid, pixels_to_tensor
from edgeseg.inference.ensemble import open_segmenter
from edgeseg.inference.segmenter import Segmenter, StageTimes
from edgeseg.registration.coding import outputs_to_field, pair_to_pixels
from edgeseg.registration.learned import LearnedRegistration, read_numbers

_WARM_UP_RUNS = 3


@dataclass(frozen=True)
class TimedPair:
    """The stages of one pass."""

    times: StageTimes


class PairTimer:
    """A registering file that takes a frame for both of its frames."""

    def __init__(self, model: RegistrationFile, requested: str, threads: int, enforce_parity: bool) -> None:
        """Load a registering file; the arguments are those of `LearnedRegistration`."""
        loaded = LearnedRegistration(model, requested, threads, enforce_parity=enforce_parity)
        self.card, self.selection = loaded.card, loaded.selection

    def segment(self, frame: NDArray[Any]) -> TimedPair:
        """Make one pass, as a segmenter would segment the frame."""
        card = self.card
        start = perf_counter()
        grey = frame_to_grid(frame, card.input)[..., 0]
        tensor = pixels_to_tensor(pair_to_pixels(grey, grey), card.input_quantisation)
        ready = perf_counter()
        (output,) = self.selection.backend.invoke(tensor)
        done = perf_counter()
        outputs_to_field(read_numbers(output, card), card.reach_px, grey.shape)
        end = perf_counter()
        return TimedPair(StageTimes(1e3 * (ready - start), 1e3 * (done - ready), 1e3 * (end - done)))

    def warm_up(self) -> float:
        """Register a few blank pairs, and return the milliseconds of the first inference."""
        blank = np.zeros((self.card.input.height, self.card.input.width), np.uint8)
        first = self.segment(blank).times.invoke
        for _ in range(_WARM_UP_RUNS):
            self.segment(blank)
        return first


Timed = Segmenter | PairTimer


def open_timed(path: Path, requested: str, threads: int, enforce_parity: bool) -> Timed:
    """Open what is to be timed: a registering file, or whatever draws masks.

    Args:
        path: A file, or the folder of a cross-validation.
        requested: "auto" or the name of a backend.
        threads: CPU threads the backend may use.
        enforce_parity: Whether to refuse a backend without parity.
    """
    model = None if is_ensemble(path) else read_any(find_model(path))
    if isinstance(model, RegistrationFile):
        return PairTimer(model, requested, threads, enforce_parity)
    return open_segmenter(path, requested, threads, enforce_parity)
