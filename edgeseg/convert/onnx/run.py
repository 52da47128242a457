"""Run an ONNX file in onnxruntime and compare its masks with those of the .tflite it was made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edgeseg.backends.cpu import CpuBackend
from edgeseg.core.card import Card
from edgeseg.core.frame import pixels_to_tensor, place_frame, scores_to_labels, tensor_to_scores
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.spec import InputSpec, Quantisation

FLOAT = Quantisation()
LEAST_IOU = 0.99


@dataclass(frozen=True)
class Parity:
    """How near two files are to one another on the same images."""

    images: int
    mask_iou: float
    """Of all images together, and 1 where neither file marks anything."""
    largest_difference: float
    """Between two probabilities."""

    @property
    def held(self) -> bool:
        """Say whether the masks are the same but for some pixels of their edges."""
        return self.mask_iou >= LEAST_IOU


class OnnxSession:
    """An ONNX file on the CPU, on one thread."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input: str = session.get_inputs()[0].name

    def run(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Run the model once."""
        return np.asarray(self._session.run(None, {self._input: tensor})[0])


def load_session(data: bytes, threads: int = 1) -> OnnxSession:
    """Load an ONNX file.

    Args:
        data: Its bytes.
        threads: How many threads it may use.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return OnnxSession(onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]))


def to_reals(tensor: NDArray[Any], quantisation: Quantisation) -> NDArray[np.float32]:
    """Turn a tensor's numbers into the real ones they stand for."""
    if quantisation.dtype.startswith("float"):
        return tensor.astype(np.float32)
    return np.asarray(quantisation.scale * (tensor.astype(np.float64) - quantisation.zero_point), np.float32)


def compare_masks(model: ModelFile, data: bytes, images: Iterable[NDArray[np.uint8]]) -> Parity:
    """Compare an ONNX file with the .tflite it was made from.

    Args:
        model: The .tflite.
        data: The ONNX file's bytes.
        images: Pixels (height, width, channels) on the network's grid.
    """
    card, backend, session = model.card, CpuBackend(model.flatbuffer), load_session(data)
    count = shared = marked = 0
    largest = 0.0
    for pixels in images:
        wanted = backend.invoke(pixels_to_tensor(pixels, card.input_quantisation)).copy()
        got = session.run(pixels_to_tensor(pixels, FLOAT))
        first, second = _draw(wanted, card, card.output_quantisation), _draw(got, card, FLOAT)
        count += 1
        shared += int(np.count_nonzero((first == second) & (first > 0)))
        marked += int(np.count_nonzero((first > 0) | (second > 0)))
        largest = max(largest, float(np.abs(to_reals(wanted, card.output_quantisation) - got).max()))
    return Parity(count, round(shared / marked, 5) if marked else 1.0, round(largest, 7))


def _draw(tensor: NDArray[Any], card: Card, quantisation: Quantisation) -> NDArray[np.uint8]:
    """Draw the mask at the size of the network's input."""
    size = card.input.height, card.input.width
    whole = place_frame(InputSpec(*size), *size)
    return scores_to_labels(tensor_to_scores(tensor, quantisation), whole, size, card.output)
