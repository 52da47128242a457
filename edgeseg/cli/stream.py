"""`edgeseg stream`: frames in, masks out, inside the budget."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.common import (
    GATE_NOT_HELD,
    BackendOption,
    JsonOption,
    NoParityOption,
    ThreadsOption,
    save_json,
    tell_selection,
    usage_errors,
)
from edgeseg.cli.stream_options import (
    BudgetDeviceOption,
    BudgetOption,
    EmitOption,
    FillHolesOption,
    FramesOption,
    HoldOption,
    MaxMissOption,
    MetricsOption,
    PixelSizeOption,
    PortOption,
    RecordFramesOption,
    RecordOption,
    SmoothOption,
    SourceOption,
    ViewOption,
)
from edgeseg.cli.tables import print_stream

if TYPE_CHECKING:
    from edgeseg.runtime.stream import StreamReport


def stream(
    model: Annotated[Path, typer.Argument(help="A .tflite file that edgeseg wrote.")],
    source: SourceOption = "phantom://",
    backend: BackendOption = "auto",
    threads: ThreadsOption = 1,
    no_parity: NoParityOption = False,
    view: ViewOption = "web",
    port: PortOption = 8765,
    hold: HoldOption = True,
    smooth: SmoothOption = False,
    fill_holes: FillHolesOption = False,
    mm_per_px: PixelSizeOption = None,
    record: RecordOption = None,
    record_frames: RecordFramesOption = False,
    emit: EmitOption = False,
    metrics: MetricsOption = None,
    device: BudgetDeviceOption = "",
    budget_ms: BudgetOption = None,
    max_miss: MaxMissOption = 0.01,
    frames: FramesOption = None,
    json_out: JsonOption = None,
) -> None:
    """Segment a live or recorded source, always the newest frame, and say whether the budget was held.

    What the model is too slow for is dropped and counted; no frame waits in a queue. Nothing is stored unless a folder
    is named, and the page is served to this machine only. Ctrl-C or SIGTERM ends the stream with its figures. Exit
    code 3 when the budget was missed, 1 when a recording ended before the stream.

    Example: `edgeseg stream runs/demo/int8-qat.tflite --source phantom:// --frames 300`
    """
    emit_to = _take_stdout() if emit else None

    from edgeseg.core.modelfile import read_model
    from edgeseg.core.schema import to_plain
    from edgeseg.runtime.guarded import GuardedSegmenter
    from edgeseg.runtime.latency import LatencyRecorder
    from edgeseg.runtime.masks import MaskOptions
    from edgeseg.runtime.sinks.base import StreamInfo
    from edgeseg.runtime.sinks.choose import SinkWishes, open_sinks
    from edgeseg.runtime.sources.choose import open_source
    from edgeseg.runtime.stream import StreamOptions, run_stream
    from edgeseg.runtime.watchdog import find_watchdogs

    with usage_errors():
        options = StreamOptions(choose_budget(device) if budget_ms is None else budget_ms, max_miss, frames)
        wishes = SinkWishes(view, port, hold, record, record_frames, emit_to, metrics)
    segmenter = GuardedSegmenter(read_model(model), backend, threads, not no_parity, MaskOptions(smooth, fill_holes))
    tell_selection(segmenter.selection)
    recorder = LatencyRecorder(options.budget_ms, segmenter.warm_up())
    opened = open_source(source, segmenter.card.input.in_colour)
    with usage_errors():
        size = opened.mm_per_px if mm_per_px is None else mm_per_px
        info = StreamInfo(segmenter.card.name, source, segmenter.report, recorder, size)
    sinks = [*open_sinks(wishes, info, segmenter.card.output.classes), *find_watchdogs()]
    report = run_stream(segmenter, opened, recorder, options, sinks, source)
    segmenter.close()
    save_json(json_out, to_plain(report))
    print_stream(report)
    _judge(report)


def choose_budget(device: str) -> float:
    """Take the budget from the profile of the named board, or of this machine."""
    from edgeseg.core.board import load_board, recommend_here
    from edgeseg.runtime.stream import BUDGET_MS

    if device:
        return load_board(device).recommended.budget_ms
    recommended = recommend_here()
    return recommended.budget_ms if recommended else BUDGET_MS


def _take_stdout() -> int:
    """Keep standard output for the results; what anyone else writes there goes to stderr, native libraries included."""
    sys.stdout.flush()
    results = os.dup(1)
    os.dup2(2, 1)
    return results


def _judge(report: StreamReport) -> None:
    """End with the exit code that the stream has earned."""
    from edgeseg.core.errors import OutputError

    failed = next((sink for sink in report.sinks if sink.failure is not None), None)
    if failed is not None:
        raise OutputError(f"{failed.name} ended before the stream: {failed.failure}".capitalize(), failed.hint)
    if report.verdict != "held":
        raise typer.Exit(GATE_NOT_HELD)
