"""`edgeseg export`: a model file for another runtime or chip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from edgeseg.cli.arguments import take_model
from edgeseg.cli.common import JsonOption, keep_inputs, usage_errors

EDGETPU, ONNX, TENSORRT = TARGETS = ("edgetpu", "onnx", "tensorrt")


def export(
    model: Annotated[Path, typer.Argument(help="A .tflite file, or a run folder for its file.", metavar="MODEL|RUN")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="edgetpu: compiled for the Edge TPU of a Coral board; onnx: for onnxruntime; tensorrt: ONNX as "
            "TensorRT takes it.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="F", help="The file to write. By default beside the model.", show_default=False),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of ONNX: float32, float16 or int8. By default int8 for an int8 file, else float32.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Compare ONNX on these labelled images: the validation cases of the model's own data, all of others. "
            "By default on the model's golden pairs.",
            show_default=False,
        ),
    ] = None,
    compiler: Annotated[
        Path | None,
        typer.Option(metavar="F", help="edgetpu_compiler, where it is not on PATH.", show_default=False),
    ] = None,
    timeout: Annotated[int, typer.Option(help="Seconds the compiler may take.", min=1, max=86_400)] = 180,
    json_out: JsonOption = None,
) -> None:
    """Bring a model file to another runtime or chip, with its card and golden pairs.

    For the Edge TPU its vendor's compiler is called; the rules of the chip are told before it, and what it maps after
    it. ONNX has the .tflite's own weights, and is run in onnxruntime and compared with it: exit code 3 when the masks
    differ. Edge TPU and TensorRT are not verified on hardware.

    Example: `edgeseg export runs/demo/int8-qat.tflite --to onnx`
    """
    from edgeseg.core.modelfile import read_model
    from edgeseg.core.spec import check_choice

    with usage_errors():
        check_choice("--to", to, TARGETS)
        check_options(to, {"--precision": precision, "--data": data}, compiler)
    file = read_model(take_model(model, f"edgeseg export MODEL --to {to}"))
    path = out or _name_file(file.path, to)
    if to == EDGETPU:
        from edgeseg.cli.export_edgetpu import compile_for_edgetpu

        report = json_out or path.with_suffix(".json")
        keep_inputs([file.path], [path, report])
        compile_for_edgetpu(file, path, compiler, timeout, report)
    else:
        from edgeseg.cli.export_onnx import write_onnx

        keep_inputs([file.path, data], [path, json_out])
        write_onnx(file, path, to, precision, data, json_out)


def check_options(to: str, of_onnx: Mapping[str, object], compiler: Path | None) -> None:
    """Refuse what the target would not look at."""
    given = [name for name, value in of_onnx.items() if value is not None]
    if to == EDGETPU and given:
        raise ValueError(f"expected {given[0]} beside --to onnx or tensorrt, got --to edgetpu")
    if to != EDGETPU and compiler is not None:
        raise ValueError(f"expected --compiler beside --to edgetpu, got --to {to}")


def _name_file(model: Path, to: str) -> Path:
    return model.with_name(f"{model.stem}_edgetpu.tflite") if to == EDGETPU else model.with_suffix(".onnx")
