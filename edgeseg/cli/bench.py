"""`edgeseg bench`: how fast model files are on this machine, and whether every backend draws the same masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.common import (
    GATE_NOT_HELD,
    JsonOption,
    NoParityOption,
    ThreadsOption,
    save_json,
    tell_selection,
    usage_errors,
)
from edgeseg.cli.tables import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeseg.bench.measure import BenchResult
    from edgeseg.bench.parity import ParityRow


def bench(
    models: Annotated[list[Path], typer.Argument(help="One or more model files.", metavar="MODEL...")],
    backend: Annotated[
        str, typer.Option(metavar="NAMES", help="auto, or backends with commas: cpu,gpu,gpu:float16,edgetpu,onnx.")
    ] = "auto",
    threads: ThreadsOption = 1,
    runs: Annotated[int, typer.Option(help="Frames each model is timed on.", min=1)] = 200,
    parity: Annotated[
        bool, typer.Option("--parity", help="Time nothing; hold every backend against the file's golden pairs.")
    ] = False,
    no_parity: NoParityOption = False,
    budget_ms: Annotated[
        float | None,
        typer.Option(help="What 99 of 100 frames must be done within, else exit code 3.", show_default=False),
    ] = None,
    json_out: JsonOption = None,
) -> None:
    """Time model files from a camera-sized frame to its mask, stage by stage.

    Several files and backends are timed in turn in one run, so that a drifting machine hits all of them alike; the
    last column is the ratio to the first row. The JSON holds one table, or a list under `results` for several.

    With --budget-ms the exit code is 3 when the slowest hundredth of the frames takes longer than that.

    With --parity the masks are compared instead; exit code 3 when a backend's are not the file's, or it is not here.

    Example: `edgeseg bench runs/demo/float32.tflite runs/demo/int8-qat.tflite`
    """
    if parity:
        with usage_errors():
            _refuse_budget(budget_ms)
        _show_parity(models, backend, threads, json_out)
        return
    from edgeseg.bench.measure import bench_models, count_blocks, load_models
    from edgeseg.core.progress import progress_bar
    from edgeseg.core.schema import to_plain

    loaded = load_models(models, backend, threads, not no_parity)
    for model in loaded:
        tell_selection(model.segmenter.selection)
    with progress_bar("Timing", count_blocks(runs)) as advance:
        results = bench_models(loaded, threads, runs, advance)
    _print_times(results, threads, runs)
    tables = to_plain(results)
    save_json(json_out, tables[0] if len(tables) == 1 else {"results": tables})
    if budget_ms is not None and not _hold_budget(results, budget_ms):
        raise typer.Exit(GATE_NOT_HELD)


def _refuse_budget(budget_ms: float | None) -> None:
    if budget_ms is not None:
        raise ValueError("expected --budget-ms without --parity, which times nothing")


def _hold_budget(results: Sequence[BenchResult], budget_ms: float) -> bool:
    late = [r for r in results if r.latency_ms["total"].p99 > budget_ms]
    for result in late:
        p99 = result.latency_ms["total"].p99
        print(f"{result.model} on {result.backend}: 99 of 100 frames within {p99:.2f} ms, budget {budget_ms:g} ms.")
    print(f"Budget of {budget_ms:g} ms {'missed' if late else 'held'}.")
    return not late


def _print_times(results: Sequence[BenchResult], threads: int, runs: int) -> None:
    first = results[0].latency_ms["invoke"].p50
    rows = [
        (
            r.model,
            r.backend if r.requested == "auto" else r.requested,
            *(f"{r.latency_ms[stage].p50:.3f}" for stage in ("preprocess", "invoke", "postprocess", "total")),
            f"{r.latency_ms['total'].p99:.3f}",
            f"{r.first_inference_ms:.2f}",
            f"{r.latency_ms['invoke'].p50 / first:.2f}",
        )
        for r in results
    ]
    columns = ("model", "backend", "preprocess", "invoke", "postprocess", "total p50", "total p99", "first", "ratio")
    print_table(f"Milliseconds per frame, threads: {threads}, frames: {runs}", columns, rows)


def _show_parity(models: Sequence[Path], backend: str, threads: int, json_out: Path | None) -> None:
    from edgeseg.bench.parity import compare_backends
    from edgeseg.core.schema import to_plain

    rows = compare_backends(models, backend, threads)
    print_table(
        "Masks of the golden pairs",
        ("model", "backend", "IoU", "largest difference", "same masks", "detail"),
        [_list_parity(row) for row in rows],
    )
    for row in rows:
        if row.reason:
            print(f"{row.model} on {row.backend}: {row.reason}")
    save_json(json_out, {"rows": to_plain(rows)})
    if not all(row.held for row in rows):
        raise typer.Exit(GATE_NOT_HELD)


def _list_parity(row: ParityRow) -> tuple[str, ...]:
    found = row.parity
    if found is None:
        return (row.model, row.backend, "", "", "not proved", row.detail)
    far = "no number" if found.difference is None else f"{found.difference:.3g} {found.unit}"
    return (row.model, row.backend, f"{found.iou:.4f}", far, "yes" if found.held else "no", row.detail)
