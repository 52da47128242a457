"""`edgeseg bench`: how fast model files are on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeseg.cli.common import BackendOption, JsonOption, ThreadsOption, save_json
from edgeseg.cli.tables import print_table


def bench(
    models: Annotated[list[Path], typer.Argument(help="One or more .tflite files.", metavar="MODEL...")],
    backend: BackendOption = "auto",
    threads: ThreadsOption = 1,
    runs: Annotated[int, typer.Option(help="Frames each model is timed on.", min=1)] = 200,
    json_out: JsonOption = None,
) -> None:
    """Time model files from a camera-sized frame to its mask, stage by stage.

    Several files are timed in turn in one run, so that a drifting machine hits all of them alike; the last column is
    the ratio to the first file. The JSON holds one table, or a list under `results` for several files.

    Example: `edgeseg bench runs/demo/float32.tflite runs/demo/int8-qat.tflite`
    """
    from edgeseg.bench.measure import bench_models, count_blocks, load_models
    from edgeseg.core.progress import progress_bar
    from edgeseg.core.schema import to_plain

    loaded = load_models(models, backend, threads)
    with progress_bar("Timing", count_blocks(runs)) as advance:
        results = bench_models(loaded, threads, runs, advance)
    first = results[0].latency_ms["invoke"].p50
    rows = [
        (
            r.model,
            *(f"{r.latency_ms[stage].p50:.3f}" for stage in ("preprocess", "invoke", "postprocess", "total")),
            f"{r.latency_ms['total'].p99:.3f}",
            f"{r.first_inference_ms:.2f}",
            f"{r.latency_ms['invoke'].p50 / first:.2f}",
        )
        for r in results
    ]
    title = f"Milliseconds per frame, {results[0].backend}, threads: {threads}, frames: {runs}"
    columns = ("model", "preprocess", "invoke", "postprocess", "total p50", "total p99", "first", "ratio")
    print_table(title, columns, rows)
    tables = to_plain(results)
    save_json(json_out, tables[0] if len(tables) == 1 else {"results": tables})
