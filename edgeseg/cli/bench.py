"""`edgeseg bench`: how fast model files are on this machine, and whether every backend draws the same masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.arguments import SHORTEST_MS, take_model
from edgeseg.cli.common import (
    GATE_NOT_HELD,
    JsonOption,
    NoParityOption,
    keep_inputs,
    save_json,
    usage_errors,
    warn_of_fallback,
)
from edgeseg.cli.tables import print_comparison, print_conditions, print_table, print_times
from edgeseg.core.limits import THREADS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeseg.bench.measure import BenchResult, ParityRow
    from edgeseg.bench.reference import Comparison


def bench(
    models: Annotated[list[Path], typer.Argument(help="One or more model files or run folders.", metavar="MODEL|RUN")],
    backend: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help="Backend: auto, or several separated by commas: cpu,gpu,gpu:float16,edgetpu,onnx."
        ),
    ] = "auto",
    threads: Annotated[
        str, typer.Option(metavar="N[,N...]", help="Number of CPU threads; several give a row each: 1,2,4.")
    ] = "1",
    runs: Annotated[int, typer.Option(help="Number of timed frames per model.", min=1)] = 200,
    parity: Annotated[
        bool,
        typer.Option(
            "--parity", help="Compare every backend's masks with the golden masks in the file, and time nothing."
        ),
    ] = False,
    no_parity: NoParityOption = False,
    budget_ms: Annotated[
        float | None,
        typer.Option(
            help="Latency budget in ms (p99); exit code 3 when exceeded.",
            min=SHORTEST_MS,
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="F", help="Save the times to this file, as a reference for this machine.", show_default=False
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="F", help="Compare with a saved reference; exit code 3 when slower.", show_default=False),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Allowed slowdown against the reference, as a fraction.", min=0.0)
    ] = 0.1,
    json_out: JsonOption = None,
) -> None:
    """Time model files from a camera-sized frame to its mask, stage by stage.

    Several files, backends and numbers of threads are timed in turn in one run, so that a drifting clock affects all
    of them alike; the last column is the ratio to the first row. The JSON holds one table, or a list under `results`
    for several. Memory is the peak of a separate process for each row.

    With --budget-ms the exit code is 3 when the 99th percentile of a frame is over the budget.

    With --against it is 3 when a median frame is slower than in the reference, for the same machine, file, backend and
    threads.

    With --parity the masks are compared instead; exit code 3 when a backend's differ from the file's golden masks, or
    a backend is not available.

    Example: `edgeseg bench runs/demo/float32.tflite runs/demo/int8-qat.tflite`
    """
    with usage_errors():
        numbers = _read_threads(threads)
        _refuse_mixtures(parity, budget_ms, save, against)
    usage = "edgeseg bench MODEL (it times frames of its own)"
    models = [take_model(model, usage, ensembles=not parity) for model in models]
    keep_inputs(models, [json_out, save])
    if parity:
        _show_parity(models, backend, numbers[0], json_out)
        return
    from edgeseg.bench.reference import compare_results, read_reference, save_reference
    from edgeseg.core.schema import to_plain

    reference = None if against is None else read_reference(against)
    results = _time_models(models, backend, numbers, runs, not no_parity)
    tables = to_plain(results)
    save_json(json_out, tables[0] if len(tables) == 1 else {"results": tables})
    if save is not None:
        save_reference(save, results)
    held = budget_ms is None or _hold_budget(results, budget_ms)
    if reference is not None:
        held = _hold_reference(compare_results(results, reference, tolerance), tolerance) and held
    if not held:
        raise typer.Exit(GATE_NOT_HELD)


def _read_threads(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 0 < int(part) <= THREADS for part in parts):
        raise ValueError(f"expected --threads as numbers from 1 to {THREADS} with commas, got {text!r}")
    return tuple(map(int, parts))


def _refuse_mixtures(parity: bool, budget_ms: float | None, save: Path | None, against: Path | None) -> None:
    given = {"--budget-ms": budget_ms, "--save": save, "--against": against}
    timing = [option for option, value in given.items() if value is not None]
    if parity and timing:
        raise ValueError(f"expected {timing[0]} without --parity, which measures no times")
    if save is not None and against is not None and save.resolve() == against.resolve():
        raise ValueError("expected different files for --save and --against: --save overwrites its file")


def _time_models(
    models: Sequence[Path], backend: str, threads: Sequence[int], runs: int, enforce_parity: bool
) -> list[BenchResult]:
    from edgeseg.bench.measure import bench_models, count_blocks, load_models
    from edgeseg.core.progress import progress_bar

    loaded = load_models(models, backend, threads, enforce_parity)
    for model in loaded:
        warn_of_fallback(model.segmenter.selection)
    with progress_bar("Timing", count_blocks(runs)) as advance:
        results = bench_models(loaded, runs, advance)
    print_times(results, runs)
    print_conditions(results)
    return results


def _hold_budget(results: Sequence[BenchResult], budget_ms: float) -> bool:
    slow = [r for r in results if r.latency_ms["total"].p99 > budget_ms]
    for result in slow:
        p99 = result.latency_ms["total"].p99
        print(f"{result.model} on {result.backend}: p99 {p99:.2f} ms, budget {budget_ms:g} ms.")
    print(f"Budget of {budget_ms:g} ms {'missed' if slow else 'held'}.")
    return not slow


def _hold_reference(rows: Sequence[Comparison], tolerance: float) -> bool:
    print_comparison(rows)
    slower = sum(row.slower for row in rows)
    print(f"{slower} of {len(rows)} rows slower than the reference by more than {tolerance:.0%}.")
    return not slower


def _show_parity(models: Sequence[Path], backend: str, threads: int, json_out: Path | None) -> None:
    from edgeseg.bench.measure import compare_backends
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
        return (row.model, row.backend, "", "", "not compared", row.detail)
    far = "no number" if found.difference is None else f"{found.difference:.3g} {found.unit}"
    return (row.model, row.backend, f"{found.iou:.4f}", far, "yes" if found.held else "no", row.detail)
