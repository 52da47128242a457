"""`edgeseg stream`: frames in, masks out, inside the budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.common import GATE_NOT_HELD, BackendOption, JsonOption, ThreadsOption, save_json, usage_errors
from edgeseg.cli.sources import (
    EveryFrameOption,
    LoopOption,
    RateOption,
    RoiOption,
    SourceOption,
    open_for_use,
)
from edgeseg.cli.tables import print_stream

if TYPE_CHECKING:
    from edgeseg.runtime.latency import LatencyRecorder
    from edgeseg.runtime.segmenter import Segmenter
    from edgeseg.runtime.sinks import Sink
    from edgeseg.runtime.stream import StreamReport

VIEWS = ("web", "none")


def stream(
    model: Annotated[Path, typer.Argument(help="A .tflite file that edgeseg wrote.")],
    source: SourceOption = "phantom://",
    rate: RateOption = None,
    loop: LoopOption = False,
    every_frame: EveryFrameOption = False,
    roi: RoiOption = None,
    backend: BackendOption = "auto",
    threads: ThreadsOption = 1,
    view: Annotated[str, typer.Option(help="web shows a page on this machine; none shows nothing.")] = "web",
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes any free one.")] = 8765,
    budget_ms: Annotated[float, typer.Option(help="How old a frame may be when its mask is ready.")] = 50.0,
    max_miss: Annotated[float, typer.Option(help="Share of frames that may be later than that.")] = 0.01,
    frames: Annotated[int | None, typer.Option(help="Stop after so many masks.", show_default=False)] = None,
    json_out: JsonOption = None,
) -> None:
    """Segment a live or recorded source, always the newest frame, and say whether the budget was held.

    What the model is too slow for is dropped and counted; no frame waits in a queue. Nothing is stored, and the page
    is served to this machine only. Ctrl-C ends the stream with its figures. Exit code 3 when the budget was missed.

    Example: `edgeseg stream runs/demo/int8-qat.tflite --source phantom:// --frames 300`
    """
    from edgeseg.cli.notices import NoticePrinter
    from edgeseg.core.errors import UnknownNameError
    from edgeseg.core.modelfile import read_model
    from edgeseg.runtime.capture import read_capture_options
    from edgeseg.runtime.latency import LatencyRecorder
    from edgeseg.runtime.segmenter import Segmenter
    from edgeseg.runtime.sources.secrets import hide_password
    from edgeseg.runtime.stream import BrokenStreamError, StreamOptions, run_stream

    if view not in VIEWS:
        raise UnknownNameError("view", view, VIEWS)
    with usage_errors():
        capture = read_capture_options(rate, every_frame, loop, roi)
        options = StreamOptions(budget_ms, max_miss, frames, capture)
    segmenter = Segmenter(read_model(model), backend, threads)
    recorder = LatencyRecorder(budget_ms, segmenter.warm_up())
    opened = open_for_use(source, segmenter.card.input.in_colour, capture)
    name = hide_password(source)
    sinks: list[Sink] = [NoticePrinter()]
    sinks += [_open_page(segmenter, name, recorder, port)] if view == "web" else []
    try:
        report = run_stream(segmenter, opened, recorder, options, sinks, name)
    except BrokenStreamError as broken:
        _show_report(broken.report, json_out)
        raise
    _show_report(report, json_out)
    if report.verdict != "held":
        raise typer.Exit(GATE_NOT_HELD)


def _show_report(report: StreamReport, json_out: Path | None) -> None:
    from edgeseg.core.schema import to_plain

    save_json(json_out, to_plain(report))
    print_stream(report)


def _open_page(segmenter: Segmenter, source: str, recorder: LatencyRecorder, port: int) -> Sink:
    from edgeseg.runtime.sinks import StreamInfo
    from edgeseg.runtime.viewer import WebViewer

    selection = segmenter.selection
    info = StreamInfo(
        model=segmenter.card.name,
        source=source,
        backend=selection.backend.name,
        requested=selection.requested,
        fallback_reason=selection.fallback_reason,
        recorder=recorder,
    )
    viewer = WebViewer(info, segmenter.card.output.classes, port)
    print(f"Open {viewer.url} in a browser on this machine; Ctrl-C ends the stream.", flush=True)
    return viewer
