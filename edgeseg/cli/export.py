"""`edgeseg export`: a model file for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.common import GATE_NOT_HELD, JsonOption, need_onnx_packages, save_json, usage_errors

if TYPE_CHECKING:
    from edgeseg.convert.onnx.run import Parity
    from edgeseg.core.card import Card

RUNTIMES = {"onnx": "onnxruntime", "tensorrt": "tensorrt"}
"""What `--to` may be, and the runtime that the file is laid out for."""


def export(
    model: Annotated[Path, typer.Argument(help="A .tflite file, or a run for its float32 file.", metavar="MODEL|RUN")],
    to: Annotated[str, typer.Option("--to", help="onnx for onnxruntime, or tensorrt: ONNX as TensorRT takes it.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="F", help="The file to write. By default beside the model.", show_default=False),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32 or int8. By default as the file is.", show_default=False)
    ] = None,
    json_out: JsonOption = None,
) -> None:
    """Write a model file as ONNX, and compare its masks with the .tflite's on phantoms.

    The weights are the .tflite's own. For onnxruntime the int8 numbers are, too. TensorRT takes no zero points, so
    there each activation gets a symmetric scale for the same range: not verified on hardware. Card and golden pairs
    travel in the metadata. Exit code 3 when the masks' overlap (IoU) is below 0.99; the file is written all the same.

    Example: `edgeseg export runs/demo/int8-qat.tflite --to tensorrt --out int8.onnx`
    """
    need_onnx_packages()
    from edgeseg.convert.onnx.export import OPSET, export_onnx
    from edgeseg.convert.onnx.run import compare_masks
    from edgeseg.convert.onnx.scheme import Scheme
    from edgeseg.convert.package import render_golden_pixels
    from edgeseg.core.files import write_bytes
    from edgeseg.core.modelfile import read_model
    from edgeseg.core.schema import to_plain
    from edgeseg.core.spec import check_choice

    file = read_model(model / "model.tflite" if model.is_dir() else model)
    with usage_errors():
        check_choice("--to", to, RUNTIMES)
        scheme = Scheme(precision or _read_precision(file.card), RUNTIMES[to])
    exported = export_onnx(file, scheme)
    path = out or file.path.with_suffix(".onnx")
    write_bytes(path, exported.data)
    parity = compare_masks(file, exported.data, render_golden_pixels(file.card.input))
    print(f"{path}: {scheme.precision} for {scheme.runtime}, opset {OPSET}, {len(exported.data):,} bytes")
    _print_parity(parity, file.path.name)
    table = {"model": file.path.name, "file": path.name, **to_plain(scheme), "opset": OPSET}
    figures = {"bytes": len(exported.data), "operators": exported.operators, "parity": to_plain(parity)}
    save_json(json_out, table | figures)
    if not parity.held:
        raise typer.Exit(GATE_NOT_HELD)


def _print_parity(parity: Parity, name: str) -> None:
    print(
        f"On {parity.images} phantoms against {name}: IoU of the masks {parity.mask_iou:.4f}, largest difference of a "
        f"probability {parity.largest_difference:.6f}: {'the same masks' if parity.held else 'not the same masks'}."
    )


def _read_precision(card: Card) -> str:
    """Tell the precision of the file that is exported; what is no int8 file has float32 arithmetic inside."""
    return "int8" if card.input_quantisation.dtype == "int8" else "float32"
