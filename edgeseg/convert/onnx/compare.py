"""Compare an ONNX file with the .tflite it was made from: the same masks on the same images?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.onnx import OnnxBackend
from edgeseg.backends.parity import LEAST_IOU, MOST_DIFFERENCE
from edgeseg.core.frame import decide_labels, pixels_to_tensor, tensor_to_reals, tensor_to_scores
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.spec import Quantisation

FLOAT = Quantisation()


@dataclass(frozen=True)
class Comparison:
    """How near two files are to one another on the same images."""

    images: int
    mask_iou: float
    """Of all images together, and 1 where neither file marks anything."""
    largest_difference: float
    """Between two probabilities."""

    @property
    def held(self) -> bool:
        """Say whether the masks are the same but for pixels near the threshold, as a backend's must be."""
        return self.mask_iou >= LEAST_IOU or self.largest_difference <= MOST_DIFFERENCE


def compare_masks(model: ModelFile, data: bytes, images: Iterable[NDArray[np.uint8]]) -> Comparison:
    """Compare an ONNX file with the .tflite it was made from.

    Args:
        model: The .tflite.
        data: The ONNX file's bytes.
        images: Pixels (height, width, channels) on the network's grid.
    """
    card, backend, exported = model.card, CpuBackend(model.flatbuffer), OnnxBackend(data)
    count = shared = marked = 0
    largest = 0.0
    for pixels in images:
        wanted = backend.invoke(pixels_to_tensor(pixels, card.input_quantisation)).copy()
        got = exported.invoke(pixels_to_tensor(pixels, FLOAT))
        first = decide_labels(tensor_to_scores(wanted, card.output_quantisation), card.output)
        second = decide_labels(tensor_to_scores(got, FLOAT), card.output)
        count += 1
        shared += int(np.count_nonzero((first == second) & (first > 0)))
        marked += int(np.count_nonzero((first > 0) | (second > 0)))
        largest = max(largest, float(np.abs(tensor_to_reals(wanted, card.output_quantisation) - got).max()))
    return Comparison(count, round(shared / marked, 5) if marked else 1.0, round(largest, 7))
