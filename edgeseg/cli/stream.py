"""`edgeseg stream`: frames in, masks out, inside the budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.common import GATE_NOT_HELD, BackendOption, JsonOption, ThreadsOption, save_json, usage_errors
from edgeseg.cli.tables import print_stream

if TYPE_CHECKING:
    from edgeseg.runtime.latency import LatencyRecorder
    from edgeseg.runtime.segmenter import Segmenter
    from edgeseg.runtime.sinks import Sink
    from edgeseg.runtime.stream import StreamReport

VIEWS = ("web", "none")


def stream(
    model: Annotated[Path, typer.Argument(help="A .tflite file that edgeseg wrote.")],
    source: Annotated[
        str,
        typer.Option(
            help="phantom://, a camera's index or /dev/video0, csi://0, gst://PIPELINE, rtsp://, http:// (Motion "
            "JPEG), a video or DICOM file, a folder of images or a pattern such as 'F/*.png', or - for raw frames."
        ),
    ] = "phantom://",
    rate: Annotated[
        str | None,
        typer.Option(metavar="N|max", help="Frames per second of a recorded source.", show_default="its own"),
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Begin a recorded source again at its end.")] = False,
    every_frame: Annotated[
        bool, typer.Option("--every-frame", help="Drop no frame of a recorded source; it waits for the model.")
    ] = False,
    roi: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,W,H|auto",
            help="Where the ultrasound picture is in the frame; auto looks for it.",
            show_default="as the source or the card says",
        ),
    ] = None,
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
    from edgeseg.runtime.capture import LiveSourceError, read_capture_options
    from edgeseg.runtime.latency import LatencyRecorder
    from edgeseg.runtime.segmenter import Segmenter
    from edgeseg.runtime.sources.choose import open_source
    from edgeseg.runtime.sources.secrets import hide_password
    from edgeseg.runtime.stream import BrokenStreamError, StreamOptions, run_stream

    if view not in VIEWS:
        raise UnknownNameError("view", view, VIEWS)
    with usage_errors():
        capture = read_capture_options(rate, every_frame, loop, roi)
        options = StreamOptions(budget_ms, max_miss, frames, capture)
    segmenter = Segmenter(read_model(model), backend, threads)
    recorder = LatencyRecorder(budget_ms, segmenter.warm_up())
    try:
        opened = open_source(source, segmenter.card.input.in_colour, capture)
    except LiveSourceError as error:
        raise typer.BadParameter(str(error)) from error
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
