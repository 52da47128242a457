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
from edgeseg.cli.tables import print_stream

if TYPE_CHECKING:
    from edgeseg.runtime.stream import StreamReport


def stream(
    model: Annotated[Path, typer.Argument(help="A .tflite file that edgeseg wrote.")],
    source: Annotated[
        str, typer.Option(help="phantom://, a camera's index or /dev/video0, a video file, or a folder of images.")
    ] = "phantom://",
    backend: BackendOption = "auto",
    threads: ThreadsOption = 1,
    no_parity: NoParityOption = False,
    view: Annotated[
        str, typer.Option(help="web shows a page on this machine, window a window; none shows nothing.")
    ] = "web",
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes any free one.")] = 8765,
    hold: Annotated[bool, typer.Option(help="Show the newest frame, with the newest mask carried onto it.")] = True,
    smooth: Annotated[bool, typer.Option("--smooth", help="Weigh each frame against the one before.")] = False,
    fill_holes: Annotated[bool, typer.Option("--fill-holes", help="Mark what a class encloses, too.")] = False,
    mm_per_px: Annotated[
        float | None,
        typer.Option(help="Size of a pixel, for areas in mm2; goes before what the source tells.", show_default=False),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write every mask and an index into this folder.", show_default=False),
    ] = None,
    record_frames: Annotated[
        bool, typer.Option("--record-frames", help="Write the frames as well: they are patients' data.")
    ] = False,
    emit: Annotated[
        bool, typer.Option("--emit", help="Write JSON lines with outlines to standard output, and nothing else.")
    ] = False,
    metrics: Annotated[
        int | None, typer.Option(metavar="PORT", help="Serve figures for Prometheus on this machine.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="The board whose budget counts; this machine's own without it.", show_default=False)
    ] = "",
    budget_ms: Annotated[
        float | None, typer.Option(help="How old a frame may be at its mask; else the board's.", show_default=False)
    ] = None,
    max_miss: Annotated[float, typer.Option(help="Share of frames that may be later than that.")] = 0.01,
    frames: Annotated[int | None, typer.Option(help="Stop after so many masks.", show_default=False)] = None,
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
    sinks = open_sinks(wishes, info, segmenter.card.output.classes)
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
