"""`edgeseg stream`: frames in, masks out, inside the budget."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.arguments import put_model_first, take_model
from edgeseg.cli.common import (
    GATE_NOT_HELD,
    BackendOption,
    JsonOption,
    NoParityOption,
    ThreadsOption,
    keep_inputs,
    save_json,
    tell_selection,
    usage_errors,
)
from edgeseg.cli.sources import (
    EveryFrameOption,
    LoopOption,
    RateOption,
    RoiOption,
    SourceArgument,
    SourceOption,
    choose_source,
    live_source_errors,
)
from edgeseg.cli.stream_options import (
    BudgetDeviceOption,
    BudgetOption,
    EmitOption,
    FillHolesOption,
    FramesOption,
    HoldOption,
    HostOption,
    MaxMissOption,
    MetricsOption,
    PixelSizeOption,
    PortOption,
    RecordAsOption,
    RecordFramesOption,
    RecordOption,
    RecordWaitOption,
    SmoothOption,
    ViewOption,
)
from edgeseg.cli.timings import print_stream

if TYPE_CHECKING:
    from edgeseg.runtime.stream import StreamReport


def stream(
    model: Annotated[str, typer.Argument(help="A .tflite or .onnx file, or a run folder.", metavar="MODEL|RUN")],
    source: SourceArgument = None,
    source_option: SourceOption = None,
    rate: RateOption = None,
    loop: LoopOption = False,
    every_frame: EveryFrameOption = False,
    roi: RoiOption = None,
    backend: BackendOption = "auto",
    threads: ThreadsOption = 1,
    no_parity: NoParityOption = False,
    view: ViewOption = "web",
    host: HostOption = "127.0.0.1",
    port: PortOption = 8765,
    hold: HoldOption = True,
    smooth: SmoothOption = False,
    fill_holes: FillHolesOption = False,
    mm_per_px: PixelSizeOption = None,
    record: RecordOption = None,
    record_as: RecordAsOption = "png",
    record_frames: RecordFramesOption = False,
    record_wait: RecordWaitOption = False,
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
    is named, and the page is served to this machine only unless `--host` says otherwise. Ctrl-C or SIGTERM ends the
    stream with its figures. Exit code 3 when the budget was missed, 1 when a recording ended before the stream.

    Example: `edgeseg stream runs/demo/int8-qat.tflite phantom:// --frames 300`
    """
    model, name = put_model_first(model, choose_source(source, source_option))
    file = take_model(Path(model), f"edgeseg stream MODEL {model}")
    emit_to = _take_stdout() if emit else None

    from edgeseg.cli.notices import NoticePrinter
    from edgeseg.core.modelfile import read_model
    from edgeseg.runtime.capture import read_capture_options
    from edgeseg.runtime.guarded import GuardedSegmenter
    from edgeseg.runtime.live import StreamOptions
    from edgeseg.runtime.masks import MaskOptions
    from edgeseg.runtime.opening import open_stream
    from edgeseg.runtime.sinks.choose import SinkWishes
    from edgeseg.runtime.stream import run_stream
    from edgeseg.runtime.watchdog import find_watchdogs

    with usage_errors():
        capture = read_capture_options(rate, every_frame, loop, roi)
        budget = choose_budget(device) if budget_ms is None else budget_ms
        options = StreamOptions(budget, max_miss, frames, capture)
        wishes = SinkWishes(
            view, port, hold, record, record_frames, emit_to, metrics, mm_per_px, record_as, host, record_wait
        )
    keep_inputs([file, Path(name)], [record, json_out])
    segmenter = GuardedSegmenter(read_model(file), backend, threads, not no_parity, MaskOptions(smooth, fill_holes))
    tell_selection(segmenter.selection)
    with live_source_errors():
        live = open_stream(segmenter, name, options, wishes, [NoticePrinter(), *find_watchdogs()])
    with _showing_what_broke(json_out):
        report = run_stream(live)
    _show_report(report, json_out)
    _judge(report)


def choose_budget(device: str) -> float:
    """Take the budget from the profile of the named board, or of this machine."""
    from edgeseg.core.board import load_board
    from edgeseg.core.nearest import recommend_here
    from edgeseg.runtime.live import BUDGET_MS

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
        sentence = f"{failed.name} ended before the stream: {failed.failure}"
        raise OutputError(sentence[:1].upper() + sentence[1:], failed.hint)  # capitalize() would lower the rest
    if report.verdict == "missed":
        raise typer.Exit(GATE_NOT_HELD)


@contextmanager
def _showing_what_broke(json_out: Path | None) -> Iterator[None]:
    """Show the figures of a stream that ended by an error, which stays one."""
    from edgeseg.runtime.stream import BrokenStreamError

    try:
        yield
    except BrokenStreamError as broken:
        _show_report(broken.report, json_out)
        raise


def _show_report(report: StreamReport, json_out: Path | None) -> None:
    from edgeseg.core.schema import to_plain

    save_json(json_out, to_plain(report))
    print_stream(report)
