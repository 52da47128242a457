"""Do all backends draw the same masks? Each model file on each backend of this machine, on the same phantoms.

    python benchmarks/parity.py OUT MODEL [MODEL ...]

MODEL is a .tflite (`runs/demo/float32.tflite runs/demo/int8-qat.tflite` after `make demo`): its masks on the CPU are
the reference for a dozen phantoms. Or an .onnx: its golden pairs are. Writes OUT/parity.md and .json.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from trained import write_results

from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.parity import Parity
from edgeseg.backends.select import select_backend
from edgeseg.core.errors import BackendError
from edgeseg.core.frame import frame_to_pixels, pixels_to_tensor
from edgeseg.core.modelfile import GoldenPair, ModelFile, read_model
from edgeseg.data.phantom import render_case
from edgeseg.data.reading import to_channels

SEED, PHANTOMS = 25, 12
FRAME_SIZE = (240, 320)
FLATBUFFER_BACKENDS = ("cpu", "gpu:float32", "gpu:float16")
HEADER = ("file", "numbers", "backend", "phantoms", "mask IoU, worst", "largest difference", "same masks", "ran on")
NOTES = (
    "# The same masks on every backend",
    "",
    "    python benchmarks/parity.py OUT MODEL [MODEL ...]",
    "",
    "Against the CPU's masks of the same .tflite; an .onnx against its golden pairs. The IoU is that of the worst",
    "phantom: where a mask is small, a few pixels at the threshold make it low. SwiftShader computes on the CPU in",
    "float32 whatever it is asked for; a real GPU is not verified.",
)


def take_reference(model: ModelFile) -> ModelFile:
    """Put the CPU's answers to phantoms in the place of the golden pairs; an ONNX file keeps its own."""
    if model.is_onnx:
        return model
    backend, card, pairs = CpuBackend(model.flatbuffer), model.card, []
    for number in range(PHANTOMS):
        frame = to_channels(render_case(SEED, number, FRAME_SIZE).image, card.input.in_colour)
        tensor = pixels_to_tensor(frame_to_pixels(frame, card.input), card.input_quantisation)
        pairs.append(GoldenPair(tensor, backend.invoke(tensor).copy()))
    return dataclasses.replace(model, golden=tuple(pairs))


def make_row(model: ModelFile, requested: str) -> list[str]:
    """Compare one file on one backend, or say why it is not here."""
    start = [model.path.name, model.card.input_quantisation.dtype, requested]
    try:
        report = select_backend(model, requested, enforce_parity=False).report()
    except BackendError as error:
        return [*start, "", "", "", "not proved", error.message]
    return [*start, *show_parity(report.parity), report.detail]


def show_parity(parity: Parity | None) -> tuple[str, ...]:
    """Put a comparison into four cells."""
    if parity is None:
        return ("0", "", "", "not proved")
    far = "no number" if parity.difference is None else f"{parity.difference:.2g} {parity.unit}"
    return (str(parity.pairs), f"{parity.iou:.4f}", far, "yes" if parity.held else "no")


def main() -> None:
    """Compare every file and write the table."""
    out, paths = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
    rows = []
    for model in (take_reference(read_model(path)) for path in paths):
        rows += [make_row(model, name) for name in (("onnx",) if model.is_onnx else FLATBUFFER_BACKENDS)]
    write_results(out, "parity", NOTES, HEADER, rows)


if __name__ == "__main__":
    main()
