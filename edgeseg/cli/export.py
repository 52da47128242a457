"""`edgeseg export`: a model file for another runtime or chip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.common import JsonOption, usage_errors
from edgeseg.cli.findings import print_findings

if TYPE_CHECKING:
    from edgeseg.convert.edgetpu import Compilation
    from edgeseg.core.modelfile import ModelFile

TARGETS = ("edgetpu",)


def export(
    model: Annotated[Path, typer.Argument(help="A .tflite file, or a run for its float32 file.", metavar="MODEL|RUN")],
    to: Annotated[str, typer.Option("--to", help="edgetpu: compile it for the Edge TPU of a Coral board.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="F", help="The file to write. By default beside the model.", show_default=False),
    ] = None,
    compiler: Annotated[
        Path | None,
        typer.Option(metavar="F", help="edgetpu_compiler, where it is not on PATH.", show_default=False),
    ] = None,
    timeout: Annotated[int, typer.Option(help="Seconds the compiler may take.", min=1)] = 180,
    json_out: JsonOption = None,
) -> None:
    """Bring a model file to another target, with its card and golden pairs.

    For the Edge TPU its vendor's compiler is called; the rules of the chip are told before it, and what it maps after
    it. The report stands as JSON beside the file, unless --json says where. Not verified on hardware.

    Example: `edgeseg export runs/demo/int8-qat.tflite --to edgetpu`
    """
    from edgeseg.convert.edgetpu import name_compiled
    from edgeseg.core.modelfile import read_model
    from edgeseg.core.spec import check_choice

    with usage_errors():
        check_choice("--to", to, TARGETS)
    file = read_model(model / "model.tflite" if model.is_dir() else model)
    path = out or name_compiled(file.path)
    with usage_errors():
        if path.resolve() == file.path.resolve():
            raise ValueError(f"expected --out to name another file than the model, got {path}")
    _compile_for_edgetpu(file, path, compiler, timeout, json_out or path.with_suffix(".json"))


def _compile_for_edgetpu(file: ModelFile, path: Path, compiler: Path | None, timeout: int, report: Path) -> None:
    from edgeseg.convert.edgetpu import compile_model, find_compiler
    from edgeseg.core.files import write_json
    from edgeseg.core.schema import to_plain
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
