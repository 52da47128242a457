"""`edgeseg export --to onnx|tensorrt`: the file, and how near its masks are to the .tflite's."""

from __future__ import annotations

from pathlib import Path

import typer

from edgeseg.cli.common import GATE_NOT_HELD, need_onnx_packages, save_json, usage_errors
from edgeseg.core.card import Card
from edgeseg.core.files import write_bytes
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.schema import to_plain

RUNTIMES = {"onnx": "onnxruntime", "tensorrt": "tensorrt"}
"""The runtime that the file is laid out for, by what `--to` says."""


def write_onnx(file: ModelFile, path: Path, to: str, precision: str | None, json_out: Path | None) -> None:
    """Write a model file as ONNX and compare its masks with the .tflite's on phantoms."""
    need_onnx_packages()
    from edgeseg.convert.onnx.compare import compare_masks
    from edgeseg.convert.onnx.export import OPSET, export_onnx
    from edgeseg.convert.onnx.scheme import Scheme
    from edgeseg.convert.package import render_golden_pixels

    with usage_errors():
        scheme = Scheme(precision or _read_precision(file.card), RUNTIMES[to])
    exported = export_onnx(file, scheme)
    write_bytes(path, exported.data)
    compared = compare_masks(file, exported.data, render_golden_pixels(file.card.input))
    print(f"{path}: {scheme.precision} for {scheme.runtime}, opset {OPSET}, {len(exported.data):,} bytes")
    print(
        f"On {compared.images} phantoms against {file.path.name}: IoU of the masks {compared.mask_iou:.4f}, largest "
        f"difference of a probability {compared.largest_difference:.6f}: "
        f"{'the same masks' if compared.held else 'not the same masks'}."
    )
    table = {"model": file.path.name, "file": path.name, **to_plain(scheme), "opset": OPSET}
    figures = {"bytes": len(exported.data), "operators": exported.operators, "parity": to_plain(compared)}
    save_json(json_out, table | figures)
    if not compared.held:
        raise typer.Exit(GATE_NOT_HELD)


def _read_precision(card: Card) -> str:
    """Tell the precision of the file that is exported; what is no int8 file has float32 arithmetic inside."""
    return "int8" if card.input_quantisation.dtype == "int8" else "float32"
