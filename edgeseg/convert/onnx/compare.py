"""Compare an ONNX file with the .tflite it was made from: the same masks from the same inputs?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.onnx import OnnxBackend
from edgeseg.backends.parity import LEAST_IOU, MOST_DIFFERENCE
from edgeseg.core.card import Card
from edgeseg.core.frame import decide_labels, pixels_to_tensor, tensor_to_reals, tensor_to_scores
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.spec import Quantisation

FLOAT = Quantisation()
Inputs = Iterable[tuple[NDArray[Any], NDArray[np.float32]]]
"""Each input twice: as the .tflite takes it, and as real numbers for the ONNX file."""


@dataclass(frozen=True)
class Comparison:
    """How near two files are to one another on the same images."""

    images: int
    mask_iou: float
    """Of all images together, and 1 where neither file marks anything."""
    largest_difference: float | None
    """Between two probabilities; None where one of them is no number."""

    @property
    def held(self) -> bool:
        """Say whether the masks are the same but for pixels near the threshold, as a backend's must be.

        Nothing is proved by no image, and nothing holds where a number is none.
        """
        if self.images == 0 or self.largest_difference is None:
            return False
        return self.mask_iou >= LEAST_IOU or self.largest_difference <= MOST_DIFFERENCE


def list_golden(model: ModelFile) -> Iterator[tuple[NDArray[Any], NDArray[np.float32]]]:
    """List the inputs of a file's golden pairs."""
    for pair in model.golden:
        yield pair.input, tensor_to_reals(pair.input, model.card.input_quantisation).astype(np.float32)


def list_images(card: Card, images: Iterable[NDArray[np.uint8]]) -> Iterator[tuple[NDArray[Any], NDArray[np.float32]]]:
    """List images as inputs.

    Args:
        card: Of the .tflite.
        images: Pixels (height, width, channels) on the network's grid.
    """
    for pixels in images:
        yield pixels_to_tensor(pixels, card.input_quantisation), pixels_to_tensor(pixels, FLOAT)


def compare_masks(model: ModelFile, data: bytes, inputs: Inputs) -> Comparison:
    """Compare an ONNX file, given as its bytes, with the .tflite it was made from."""
    card, backend, exported = model.card, CpuBackend(model.flatbuffer), OnnxBackend(data)
    count = shared = marked = 0
    largest = 0.0
    for tensor, reals in inputs:
        wanted, got = backend.invoke(tensor).copy(), exported.invoke(reals)
        first = decide_labels(tensor_to_scores(wanted, card.output_quantisation), card.output)
        second = decide_labels(tensor_to_scores(np.nan_to_num(got), FLOAT), card.output)
        count += 1
        shared += int(np.count_nonzero((first == second) & (first > 0)))
        marked += int(np.count_nonzero((first > 0) | (second > 0)))
        far = np.abs(tensor_to_reals(wanted, card.output_quantisation) - got).max()
        largest = float(np.maximum(largest, far))  # unlike max(), keeps what is no number
    iou = round(shared / marked, 5) if marked else 1.0
    return Comparison(count, iou, round(largest, 7) if math.isfinite(largest) else None)
