"""`edgeseg export`: a model file for another runtime or chip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.arguments import take_model
from edgeseg.cli.common import GATE_NOT_HELD, JsonOption, keep_inputs, need_onnx_packages, save_json, usage_errors
from edgeseg.cli.inspect import print_findings
from edgeseg.core.schema import to_plain

if TYPE_CHECKING:
    from edgeseg.convert.edgetpu import Compilation
    from edgeseg.convert.onnx.export import Comparison, Inputs
    from edgeseg.core.card import Card
    from edgeseg.core.modelfile import ModelFile

EDGETPU, ONNX, TENSORRT = TARGETS = ("edgetpu", "onnx", "tensorrt")
# The runtime that the file is laid out for, by what `--to` says.
RUNTIMES = {"onnx": "onnxruntime", "tensorrt": "tensorrt"}
VALIDATION = "val"


def export(
    model: Annotated[Path, typer.Argument(help="A .tflite file, or a run folder for its file.", metavar="MODEL|RUN")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="edgetpu: compiled for the Edge TPU of a Coral board; onnx: for onnxruntime; tensorrt: ONNX for "
            "TensorRT.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="F", help="File to write; by default beside the model.", show_default=False),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Precision of the ONNX file: float32, float16 or int8; by default int8 for int8 files, else float32.",
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
        typer.Option(metavar="F", help="Path of edgetpu_compiler; by default found on PATH.", show_default=False),
    ] = None,
    timeout: Annotated[int, typer.Option(help="Timeout of the compiler in seconds.", min=1, max=86_400)] = 180,
    json_out: JsonOption = None,
) -> None:
    """Bring a model file to another runtime or chip, with its card and golden pairs.

    For the Edge TPU, the vendor's compiler is called; the linter's findings are printed before it, and the mapped
    operators after it. ONNX has the weights of the .tflite, is run in onnxruntime and compared: exit code 3 when the
    masks differ. Edge TPU and TensorRT are not verified on hardware.

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
        report = json_out or path.with_suffix(".json")
        keep_inputs([file.path], [path, report])
        compile_for_edgetpu(file, path, compiler, timeout, report)
    else:
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


def compile_for_edgetpu(file: ModelFile, path: Path, compiler: Path | None, timeout: int, report: Path) -> None:
    """Judge a file by the rules, compile it, and say what came of it."""
    from edgeseg.convert.edgetpu import compile_model, find_compiler
    from edgeseg.core.files import write_json
    from edgeseg.graph.lint import lint_targets
    from edgeseg.graph.operators import read_graph

    findings = lint_targets(read_graph(file.flatbuffer))["edgetpu"]
    print_findings("Edge TPU", findings)
    compiled = compile_model(file, path, find_compiler(compiler), timeout)
    _print_compilation(path, compiled)
    write_json(report, {"model": file.path.name, **to_plain(compiled), "rules": to_plain(findings)})


def _print_compilation(path: Path, compiled: Compilation) -> None:
    log = compiled.log
    print(f"{path}: {compiled.bytes:,} bytes, by the Edge TPU compiler {log.compiler} in {compiled.seconds:.1f} s")
    print(f"  {log.operators_on_chip} operators on the chip, {log.operators_on_cpu} on the CPU, parts: {log.subgraphs}")
    print(
        f"  weights: {log.on_chip_bytes / 2**20:.2f} MiB on the chip ({log.on_chip_free_bytes / 2**20:.2f} free), "
        f"{log.off_chip_bytes / 2**20:.2f} MiB sent there with every frame"
    )
    for status in log.statuses:
        if status.cure:
            print(f"  {status.count} {status.operator} on the CPU: {status.meaning}\n    {status.cure}")


def write_onnx(
    file: ModelFile, path: Path, to: str, precision: str | None, data: Path | None, json_out: Path | None
) -> None:
    """Write a model file as ONNX and compare its masks with the .tflite's, on images or on its golden pairs."""
    need_onnx_packages()
    from edgeseg.convert.onnx.export import OPSET, compare_masks, export_onnx
    from edgeseg.convert.onnx.scheme import Scheme
    from edgeseg.core.files import write_bytes

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
    from edgeseg.convert.onnx.export import list_golden, list_images
    from edgeseg.data.dataset import read_cases
    from edgeseg.evaluation.score import pick_cases
    from edgeseg.frame.preprocess import frame_to_pixels

    if data is None:
        return "golden pairs", list_golden(file)
    source = file.card.input
    picked = pick_cases(file.card, data, None, own_part=VALIDATION)
    frames = (frame_to_pixels(case.frame, source) for case in read_cases(picked.cases, source))
    return f"{picked.part} cases of {data.name}", list_images(file.card, frames)


def _describe(compared: Comparison) -> str:
    if compared.images == 0:
        return "nothing is proved; name images with --data"
    far = compared.largest_difference
    difference = "what is no number" if far is None else f"{far:.6f}"
    if compared.finding_difference is not None or not compared.finding_held:
        near = compared.finding_difference
        difference += f", of a finding {'what is no number' if near is None else f'{near:.6f}'}"
    same = "the same masks" if compared.finding_difference is None else "the same masks and findings"
    verdict = same if compared.held else f"not {same}"
    return f"IoU of the masks {compared.mask_iou:.4f}, largest difference of a probability {difference}: {verdict}"


def _read_precision(card: Card) -> str:
    """Tell the precision of the file that is exported; what is no int8 file has float32 arithmetic inside."""
    return "int8" if card.input_quantisation.dtype == "int8" else "float32"
