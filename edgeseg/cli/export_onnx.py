"""`edgeseg export --to onnx|tensorrt`: the file, and how near its masks are to the .tflite's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgeseg.cli.common import GATE_NOT_HELD, need_onnx_packages, save_json, usage_errors
from edgeseg.core.card import Card
from edgeseg.core.files import write_bytes
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.schema import to_plain

if TYPE_CHECKING:
    from edgeseg.convert.onnx.compare import Comparison, Inputs

RUNTIMES = {"onnx": "onnxruntime", "tensorrt": "tensorrt"}
"""The runtime that the file is laid out for, by what `--to` says."""
VALIDATION = "val"


def write_onnx(
    file: ModelFile, path: Path, to: str, precision: str | None, data: Path | None, json_out: Path | None
) -> None:
    """Write a model file as ONNX and compare its masks with the .tflite's, on images or on its golden pairs."""
    need_onnx_packages()
    from edgeseg.convert.onnx.compare import compare_masks
    from edgeseg.convert.onnx.export import OPSET, export_onnx
    from edgeseg.convert.onnx.scheme import Scheme

    with usage_errors():
        scheme = Scheme(precision or _read_precision(file.card), RUNTIMES[to])
    where, inputs = _find_inputs(file, data)
    exported = export_onnx(file, scheme)
    compared = compare_masks(file, exported.data, inputs)
    write_bytes(path, exported.data)
    print(f"{path}: {scheme.precision} for {scheme.runtime}, opset {OPSET}, {len(exported.data):,} bytes")
    print(f"On {compared.images} {where} against {file.path.name}: {_describe(compared)}.")
    table = {"model": file.path.name, "file": path.name, **to_plain(scheme), "opset": OPSET}
    figures = {"bytes": len(exported.data), "operators": exported.operators, "compared_on": where}
    save_json(json_out, table | figures | {"parity": to_plain(compared)})
    if not compared.held:
        raise typer.Exit(GATE_NOT_HELD)


def _find_inputs(file: ModelFile, data: Path | None) -> tuple[str, Inputs]:
    """Find what to compare on: the images that were named, else what the file brings for this very purpose."""
    from edgeseg.convert.onnx.compare import list_golden, list_images
    from edgeseg.core.frame import frame_to_pixels
    from edgeseg.data.dataset import read_cases
    from edgeseg.evaluate.cases import pick_cases

    if data is None:
        return "golden pairs", list_golden(file)
    source = file.card.input
    picked = pick_cases(file.card, data, None, own_part=VALIDATION)
    frames = (frame_to_pixels(case.frame, source) for case in read_cases(picked.cases, source.in_colour))
    return f"{picked.part} cases of {data.name}", list_images(file.card, frames)


def _describe(compared: Comparison) -> str:
    if compared.images == 0:
        return "nothing is proved; name images with --data"
    far = compared.largest_difference
    difference = "what is no number" if far is None else f"{far:.6f}"
    verdict = "the same masks" if compared.held else "not the same masks"
    return f"IoU of the masks {compared.mask_iou:.4f}, largest difference of a probability {difference}: {verdict}"


def _read_precision(card: Card) -> str:
    """Tell the precision of the file that is exported; what is no int8 file has float32 arithmetic inside."""
    return "int8" if card.input_quantisation.dtype == "int8" else "float32"
