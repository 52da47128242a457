"""`edgeseg stream`: frames in, masks out, inside the budget."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
from edgeseg.cli.tables import print_stream
from edgeseg.cli.usage import SHORTEST_MS, put_model_first, take_model
from edgeseg.streaming.sinks.base import Result, Sink
from edgeseg.streaming.sources.base import Notice

if TYPE_CHECKING:
    from edgeseg.streaming.loop import StreamReport

DEFAULT_SOURCE = "phantom://"


ViewOption = Annotated[str, typer.Option(help="web shows a page on this machine, window a window; none shows nothing.")]
HostOption = Annotated[
    str,
    typer.Option(metavar="ADDRESS", help="Where the page is served, 0.0.0.0 for all networks; others need its token."),
]
PortOption = Annotated[int, typer.Option(help="Port of the page; 0 takes any free one.", min=0, max=65535)]
HoldOption = Annotated[bool, typer.Option(help="Show the newest frame, with the newest mask carried onto it.")]
SmoothOption = Annotated[bool, typer.Option("--smooth", help="Weigh each frame against the one before.")]
FillHolesOption = Annotated[bool, typer.Option("--fill-holes", help="Mark what a class encloses, too.")]
PixelSizeOption = Annotated[
    float | None,
    typer.Option(
        help="Millimetres per pixel, for areas in mm2; overrides what the source says.", min=1e-6, show_default=False
    ),
]
RecordOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write every mask and an index into this folder.", show_default=False),
]
RecordAsOption = Annotated[
    str, typer.Option(metavar="png|video", help="A PNG file per mask, or one video of them, without loss as well.")
]
RecordFramesOption = Annotated[
    bool, typer.Option("--record-frames", help="Write the frames as well: they are patients' data.")
]
RecordWaitOption = Annotated[
    bool, typer.Option("--record-wait", help="Record only while the page's button says so; it begins switched off.")
]
EmitOption = Annotated[
    bool, typer.Option("--emit", help="Write JSON lines with outlines to standard output, and nothing else.")
]
MetricsOption = Annotated[
    int | None,
    typer.Option(
        metavar="PORT", help="Serve figures for Prometheus on this machine.", min=0, max=65535, show_default=False
    ),
]
BudgetDeviceOption = Annotated[
    str,
    typer.Option("--device", help="The board whose budget counts; this machine's own without it.", show_default=False),
]
BudgetOption = Annotated[
    float | None,
    typer.Option(
        help="Milliseconds from a frame to its mask that are in time; by default the board's.",
        min=SHORTEST_MS,
        show_default=False,
    ),
]
MaxMissOption = Annotated[float, typer.Option(help="Share of frames that may be later than that.", min=0.0, max=1.0)]
FramesOption = Annotated[int | None, typer.Option(help="Stop after this many masks.", min=1, show_default=False)]
SourceArgument = Annotated[
    str | None, typer.Argument(metavar="SOURCE", help="Where frames come from, as --source says.", show_default=False)
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="SOURCE",
        help="phantom://, a camera's index or /dev/video0, csi://0, gst://PIPELINE, rtsp://, http:// (Motion JPEG), "
        "a video, image or DICOM file, a folder of images or a pattern such as 'F/*.png', - for raw frames, "
        "or browser:// for the camera of whoever has the page open.",
        show_default=DEFAULT_SOURCE,
    ),
]
RateOption = Annotated[
    str | None, typer.Option(metavar="N|max", help="Frames per second of a recorded source.", show_default="its own")
]
LoopOption = Annotated[bool, typer.Option("--loop", help="Begin a recorded source again at its end.")]
EveryFrameOption = Annotated[
    bool, typer.Option("--every-frame", help="Drop no frame of a recorded source; it waits for the model.")
]
RoiOption = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y,W,H|auto",
        help="Where the ultrasound picture is in the frame; auto looks for it.",
        show_default="as the source or the card says",
    ),
]


def choose_source(argument: str | None, option: str | None) -> str:
    """Take the source from the argument or from --source; two different ones are wrong usage."""
    if argument is not None and option is not None and argument != option:
        raise typer.BadParameter(f"expected one source, got {argument} and --source {option}")
    given = option if argument is None else argument
    return DEFAULT_SOURCE if given is None else given


@contextmanager
def live_source_errors() -> Iterator[None]:
    """Turn a live source that should wait into wrong usage (exit code 2)."""
    from edgeseg.streaming.grabber import LiveSourceError

    try:
        yield
    except LiveSourceError as error:
        raise typer.BadParameter(str(error)) from error


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

    from edgeseg.core.modelfile import read_model
    from edgeseg.inference.masks import MaskOptions
    from edgeseg.inference.supervision import SupervisedSegmenter
    from edgeseg.streaming.grabber import read_capture_options
    from edgeseg.streaming.live import StreamOptions, open_stream
    from edgeseg.streaming.loop import find_watchdogs, run_stream
    from edgeseg.streaming.sinks.choose import SinkOptions

    with usage_errors():
        capture = read_capture_options(rate, every_frame, loop, roi)
        budget = choose_budget(device) if budget_ms is None else budget_ms
        options = StreamOptions(budget, max_miss, frames, capture)
        sink_options = SinkOptions(
            view, port, hold, record, record_frames, emit_to, metrics, mm_per_px, record_as, host, record_wait
        )
    keep_inputs([file, Path(name)], [record, json_out])
    segmenter = SupervisedSegmenter(read_model(file), backend, threads, not no_parity, MaskOptions(smooth, fill_holes))
    tell_selection(segmenter.selection)
    with live_source_errors():
        live = open_stream(segmenter, name, options, sink_options, [NoticePrinter(), *find_watchdogs()])
    with _showing_what_broke(json_out):
        report = run_stream(live)
    _show_report(report, json_out)
    _judge(report)


def choose_budget(device: str) -> float:
    """Take the budget from the profile of the named board, or of this machine."""
    from edgeseg.machine.boards import load_board, recommend_here
    from edgeseg.streaming.live import BUDGET_MS

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
    from edgeseg.streaming.loop import BrokenStreamError

    try:
        yield
    except BrokenStreamError as broken:
        _show_report(broken.report, json_out)
        raise


def _show_report(report: StreamReport, json_out: Path | None) -> None:
    from edgeseg.core.schema import to_plain

    save_json(json_out, to_plain(report))
    print_stream(report)


class NoticePrinter(Sink):
    """Prints what happens to the source, and nothing of its results."""

    def publish(self, result: Result) -> None:
        """Take a result and show nothing of it."""

    def on_notice(self, notice: Notice) -> None:
        """Print what happened."""
        print(f"edgeseg: {notice.sentence}", file=sys.stderr, flush=True)
