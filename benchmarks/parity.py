"""Do all backends draw the same masks? Each model on the CPU, on GPUs as they are found, and as ONNX.

    python benchmarks/parity.py OUT MODEL[=DATA] [MODEL[=DATA] ...]

MODEL is a .tflite (`runs/demo/float32.tflite runs/demo/int8-qat.tflite` after `make demo`): its masks on the CPU are
the reference. The images are a dozen test cases of DATA, which the model was trained on; without DATA a dozen
phantoms. GPUs are this machine's own and two drivers in software, which are fetched (tests/device/setup-vulkan.sh).
Writes OUT/parity.md and .json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from trained import write_results

from edgeseg.backends.base import Backend
from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.onnx import OnnxBackend
from edgeseg.backends.select import select_backend
from edgeseg.convert.onnx.export import FLOAT, export_onnx
from edgeseg.convert.onnx.scheme import Scheme
from edgeseg.core.errors import BackendError
from edgeseg.core.modelfile import ModelFile, read_model
from edgeseg.core.spec import Quantisation
from edgeseg.data.dataset import read_cases
from edgeseg.data.reading import to_channels
from edgeseg.evaluation.score import pick_cases
from edgeseg.frame.postprocess import decide_labels, dequantise, tensor_to_scores
from edgeseg.frame.preprocess import frame_to_pixels, pixels_to_tensor
from edgeseg.phantom import render_case

SEED, IMAGES, FRAME_SIZE = 25, 12, (240, 320)
LEAST_IOU, MOST_QUANTA = 0.995, 3.0
SOFTWARE = ("swiftshader", "lavapipe")
OWN = "own"
ONNX = {"onnx": "onnxruntime", "onnx, as for TensorRT": "tensorrt"}
HEADER = ("file", "numbers", "images", "backend", "driver", "mask IoU", "worst image", "quanta", "promise", "ran on")
NOTES = (
    "# The same masks on every backend",
    "",
    "    python benchmarks/parity.py OUT MODEL[=DATA] [MODEL[=DATA] ...]",
    "",
    "Against the CPU's masks of the same .tflite, on the same images: the IoU of all masks together and of the worst",
    "image, and the largest difference between two outputs in steps of 1/256. The promise: an IoU of all masks of at",
    "least 0.995 and, for int8 files on a GPU, no more than 3 steps. ONNX files are exported for the comparison.",
    "SwiftShader and lavapipe compute on the CPU; SwiftShader in float32 whatever it is asked for.",
)
Output = NDArray[np.float64]


def list_pixels(model: ModelFile, data: str) -> Iterator[NDArray[np.uint8]]:
    """Give the images on the network's grid."""
    spec = model.card.input
    if data:
        cases = pick_cases(model.card, Path(data), "test").cases[:IMAGES]
        yield from (frame_to_pixels(case.frame, spec) for case in read_cases(cases, spec.in_colour))
    else:
        phantoms = (render_case(SEED, number, FRAME_SIZE).image for number in range(IMAGES))
        yield from (frame_to_pixels(to_channels(image, spec.in_colour), spec) for image in phantoms)


def draw_masks(
    backend: Backend, model: ModelFile, data: str, ends: tuple[Quantisation, Quantisation]
) -> list[tuple[NDArray[np.uint8], Output]]:
    """Give the labels and the real outputs for every image."""
    drawn = []
    for pixels in list_pixels(model, data):
        output = backend.invoke(pixels_to_tensor(pixels, ends[0]))[0].copy()
        labels = decide_labels(tensor_to_scores(output, ends[1]), model.card.output)
        drawn.append((labels, dequantise(output, ends[1])))
    return drawn


def compare(backend: Backend, model: ModelFile, data: str, real: bool = False) -> tuple[float, float, float]:
    """Compare with the CPU: the IoU of all masks and of the worst image's, and the largest difference in quanta."""
    own = model.card.input_quantisation, model.card.output_quantisation
    wanted = draw_masks(CpuBackend(model.flatbuffer), model, data, own)
    got = draw_masks(backend, model, data, (FLOAT, FLOAT) if real else own)
    marked = [(first > 0) | (second > 0) for (first, _), (second, _) in zip(wanted, got, strict=True)]
    same = [(first == second)[any_] for (first, _), (second, _), any_ in zip(wanted, got, marked, strict=True)]
    worst = min((float(pixels.mean()) for pixels in same if pixels.size), default=1.0)
    every = np.concatenate(same)
    far = max(float(np.abs(first - second).max()) for (_, first), (_, second) in zip(wanted, got, strict=True))
    return float(every.mean()) if every.size else 1.0, worst, 256 * far


def judge(path: str, backend: str) -> list[str]:
    """Compare one file on one backend and put it into cells; without that backend the reason stands in the last."""
    name, _, data = path.partition("=")
    model = read_model(Path(name))
    try:
        if backend in ONNX:
            precision = "int8" if model.card.input_quantisation.dtype == "int8" else "float32"
            opened: Backend = OnnxBackend(export_onnx(model, Scheme(precision, ONNX[backend])).data)
        else:
            opened = select_backend(model, backend, enforce_parity=False).backend
    except BackendError as error:
        return ["", "", "", "not measured", error.message]
    iou, worst, quanta = compare(opened, model, data, backend in ONNX)
    on_gpu = backend.startswith("gpu") and model.card.input_quantisation.dtype == "int8"
    held = iou >= LEAST_IOU and (quanta <= MOST_QUANTA or not on_gpu)
    return [f"{iou:.4f}", f"{worst:.4f}", f"{quanta:.3g}", "held" if held else "missed", opened.detail]


def judge_elsewhere(path: str, backend: str, driver: str) -> list[str]:
    """Judge in a process of its own, which finds one driver only."""
    env = os.environ | find_driver(driver)
    command = [sys.executable, __file__, "--judge", path, backend]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return ["", "", "", "not measured", (done.stderr.strip().splitlines() or ["no reason"])[-1]]
    return list(json.loads(done.stdout.splitlines()[-1]))


def find_driver(name: str) -> dict[str, str]:
    """Give the variables by which a driver in software is found; this machine's own needs none."""
    if name == OWN:
        return {}
    script = Path(__file__).parents[1] / "tests" / "device" / "setup-vulkan.sh"
    done = subprocess.run(["sh", str(script), name], stdout=subprocess.PIPE, text=True, check=False)
    return dict(line.split("=", 1) for line in done.stdout.splitlines()) or {"VK_ICD_FILENAMES": f"/no/{name}"}


def make_rows(path: str) -> Iterator[list[str]]:
    """Judge one file everywhere."""
    name, _, data = path.partition("=")
    dtype = read_model(Path(name)).card.input_quantisation.dtype
    start = [Path(name).name, dtype, Path(data).name if data else "phantoms"]
    yield [*start, "cpu", "", *judge(path, "cpu")]
    for driver in (*SOFTWARE, OWN):
        for backend in ("gpu:float32", "gpu:float16"):
            yield [*start, backend, driver, *judge_elsewhere(path, backend, driver)]
    for backend in ONNX if dtype == "int8" else ("onnx",):
        yield [*start, backend, "", *judge(path, backend)]


def find_nvidia(rows: Sequence[Sequence[str]]) -> str:
    """Say whether a GPU of NVIDIA is among what was measured."""
    found = sorted({row[-1] for row in rows if "nvidia" in row[-1].lower()})
    return f"NVIDIA GPU: {', '.join(found) or 'not measured'}."


def main() -> None:
    """Judge every file everywhere and write the table."""
    if sys.argv[1] == "--judge":
        print(json.dumps(judge(*sys.argv[2:])))
        return
    out, paths = Path(sys.argv[1]), sys.argv[2:]
    rows = []
    for path in paths:
        for row in make_rows(path):
            print(*row, sep=" | ", flush=True)
            rows.append(row)
    write_results(out, "parity", (*NOTES, "", find_nvidia(rows)), HEADER, rows)


if __name__ == "__main__":
    main()
