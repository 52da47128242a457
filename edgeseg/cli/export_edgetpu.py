"""`edgeseg export --to edgetpu`: the rules of the chip, its vendor's compiler, and what the compiler says."""

from __future__ import annotations

from pathlib import Path

from edgeseg.cli.findings import print_findings
from edgeseg.convert.edgetpu import Compilation, compile_model, find_compiler
from edgeseg.core.files import write_json
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.schema import to_plain
from edgeseg.graph.lint import lint_targets
from edgeseg.graph.operators import read_graph


def compile_for_edgetpu(file: ModelFile, path: Path, compiler: Path | None, timeout: int, report: Path) -> None:
    """Judge a file by the rules, compile it, and say what came of it."""
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
