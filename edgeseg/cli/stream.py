"""`edgeseg stream`: frames in, masks out, inside the budget."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.arguments import SHORTEST_MS, put_model_first, take_model, with_options
from edgeseg.cli.common import (
    GATE_NOT_HELD,
    BackendOption,
    JsonOption,
    NoParityOption,
    ThreadsOption,
    keep_inputs,
    save_json,
    usage_errors,
    warn_of_fallback,
)
from edgeseg.cli.tables import NOT_KNOWN, print_stream, print_table
from edgeseg.streaming.options import (
    BUDGET,
    BUDGET_MS,
    INPUT,
    MAX_SOURCES,
    OUTPUT,
    RECORDING,
    CaptureOptions,
    LiveSourceError,
    SinkOptions,
    StreamOptions,
)

if TYPE_CHECKING:
    from edgeseg.inference.segmenter import Segmenter
    from edgeseg.streaming.loop import StreamReport
    from edgeseg.streaming.switching import SourceReport

_LOG = logging.getLogger(__name__)
DEFAULT_SOURCE = "phantom://"
SOURCE_VARIABLE = "EDGESEG_SOURCE"
NAME_LETTERS = 30

PlayOption = Annotated[
    Path | None,
    typer.Option(
        "--play",
        metavar="RECORDING",
        help="Show what --record wrote, picture by picture, without a model; nothing else is opened.",
        rich_help_panel=INPUT,
        show_default=False,
    ),
]
SmoothOption = Annotated[
    bool, typer.Option("--smooth", help="Average each frame's scores with those of the frame before.")
]
FillHolesOption = Annotated[
    bool, typer.Option("--fill-holes", help="Fill holes: background that a class encloses becomes that class.")
]
EmitOption = Annotated[
    bool,
    typer.Option(
        "--emit", help="Write JSON lines with outlines to standard output, and nothing else.", rich_help_panel=OUTPUT
    ),
]
BudgetDeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        help="Take the budget of this board, not of this machine.",
        rich_help_panel=BUDGET,
        show_default=False,
    ),
]
BudgetOption = Annotated[
    float | None,
    typer.Option(
        help="Largest age of a mask in ms, from the capture of its frame; by default the board's budget.",
        min=SHORTEST_MS,
        rich_help_panel=BUDGET,
        show_default=False,
    ),
]
SourceArgument = Annotated[
    str | None, typer.Argument(metavar="SOURCE", help="Where frames come from, as --source says.", show_default=False)
]
SourceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="SOURCE",
        help="phantom://, a camera's index or /dev/video0, csi://0, gst://PIPELINE, rtsp://, http:// (Motion JPEG), "
        "a video, image or DICOM file, a folder of images or a pattern such as 'F/*.png', - for raw frames, "
        "or browser:// for the camera of the device that has the page open. Default: "
        "the variable EDGESEG_SOURCE, if it is set. Given several times, all are segmented, and NAME=SOURCE names one; "
        "a model of several modalities takes MODALITY=SOURCE for each.",
        rich_help_panel=INPUT,
        show_default=DEFAULT_SOURCE,
    ),
]


def choose_sources(argument: str | None, options: Sequence[str] | None) -> list[str]:
    """Take the sources from the argument or from --source; both are wrong usage where they differ."""
    given = list(options or ())
    if argument is not None and given and given != [argument]:
        raise typer.BadParameter(f"expected one source, got {argument} and --source {given[0]}; name all by --source")
    if argument is not None:
        return [argument]
    if len(given) > MAX_SOURCES:
        raise typer.BadParameter(f"expected at most {MAX_SOURCES} sources, got {len(given)}")
    # a password in the environment is hidden from other users of the machine, one on a command line is not
    return given or [os.environ.get(SOURCE_VARIABLE) or DEFAULT_SOURCE]


@contextmanager
def live_source_errors() -> Iterator[None]:
    """Turn a live source that should wait into wrong usage (exit code 2)."""
    try:
        yield
    except LiveSourceError as error:
        raise typer.BadParameter(str(error)) from error


@with_options(defaults={"view": "web"})
def stream(
    model: Annotated[
        str | None,
        typer.Argument(help="A .tflite or .onnx file, or a run folder.", metavar="MODEL|RUN", show_default=False),
    ] = None,
    source: SourceArgument = None,
    source_option: SourceOption = None,
    *,
    capture: CaptureOptions,
    stop: StreamOptions,
    sinks: SinkOptions,
    play: PlayOption = None,
    smooth: SmoothOption = False,
    fill_holes: FillHolesOption = False,
    backend: BackendOption = "auto",
    threads: ThreadsOption = 1,
    no_parity: NoParityOption = False,
    emit: EmitOption = False,
    device: BudgetDeviceOption = "",
    budget_ms: BudgetOption = None,
    json_out: JsonOption = None,
) -> None:
    """Segment a live or recorded source, always the newest frame, and say whether the budget was held.

    What the model is too slow for is dropped and counted; no frame waits in a queue. Nothing is stored unless a folder
    is named, and the page is served to this machine only unless `--host` says otherwise. Ctrl-C or SIGTERM ends the
    stream with its figures. Exit code 3 when the budget was missed, 1 when a recording ended before the stream.

    With `--source` several times all sources are segmented in turn and share one page; `--play RECORDING` shows a
    recording instead.

    Example: `edgeseg stream runs/demo/int8-qat.tflite phantom:// --frames 300`
    """
    if play is not None:
        _play(play, [model, source, *(source_option or ())], sinks)
        return
    if model is None:
        raise typer.BadParameter("Missing argument 'MODEL|RUN'. To show a recording: --play RECORDING")
    first, *others = choose_sources(source, source_option)
    model, first = put_model_first(model, first)
    names = [first, *others]
    if (Path(model) / RECORDING).is_file():
        raise typer.BadParameter(f"{model} is a recording. To show it: edgeseg stream --play {model}")
    file = take_model(Path(model), f"edgeseg stream MODEL {model}", ensembles=True)
    if emit:
        sinks = dataclasses.replace(sinks, emit_to=_take_stdout())

    from edgeseg.inference.ensemble import open_segmenter
    from edgeseg.inference.masks import MaskOptions
    from edgeseg.streaming.loop import find_watchdogs, run_stream
    from edgeseg.streaming.many import open_sources
    from edgeseg.streaming.sources.address import split_name

    budget = choose_budget(device) if budget_ms is None else budget_ms
    with usage_errors():
        options = dataclasses.replace(stop, budget_ms=budget, capture=capture)
    keep_inputs([file, *(Path(split_name(name)[1]) for name in names)], [sinks.record, json_out])
    masks = MaskOptions(smooth, fill_holes)
    segmenter = open_segmenter(file, backend, threads, not no_parity, masks, supervised=True)

    def load(name: str) -> Segmenter:
        # the same file on the same backend: its golden pairs are checked already
        return open_segmenter(file, name, threads, enforce_parity=False, masks=masks, supervised=True)

    warn_of_fallback(segmenter.selection)
    with live_source_errors():
        live = open_sources(segmenter, load, threads, names, options, sinks, find_watchdogs())
    with _showing_what_broke(json_out):
        report = run_stream(live)
    _show_report(report, json_out)
    judge_stream(report)


def _play(recording: Path, others: Sequence[str | None], sinks: SinkOptions) -> None:
    """Serve a recording to the page until a signal arrives."""
    other = next((given for given in others if given is not None), None)
    if other is not None:
        raise typer.BadParameter(f"expected --play {recording} alone, got {other} beside it")
    if sinks.view != "web" or sinks.record is not None:
        raise typer.BadParameter("expected --play without --record and --view, since it shows a page")

    from edgeseg.streaming.loop import stop_on_signal
    from edgeseg.streaming.playback import RecordingReader
    from edgeseg.streaming.viewer.player import RecordingPlayer
    from edgeseg.web.access import grant_access

    reader = RecordingReader(recording, sinks.show)
    player = RecordingPlayer(reader, sinks.port, grant_access(sinks.host))
    # registered before the address is printed: who waits for it may end the player at once
    with stop_on_signal(player.stop):
        _LOG.info("Open %s in a browser; Ctrl-C ends the playback.", player.url)
        if reader.sessions:
            _LOG.info("The recording has %d later sessions, such as %s.", reader.sessions, recording / "session-2")
        if reader.unreadable:
            _LOG.warning("%d lines of the index cannot be read and are left out.", reader.unreadable)
        player.wait()
    player.close()


def choose_budget(device: str) -> float:
    """Take the budget from the profile of the named board, or of this machine."""
    from edgeseg.machine.boards import load_board, recommend_here

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


def judge_stream(report: StreamReport) -> None:
    """End with the exit code that the stream has earned."""
    from edgeseg.core.errors import OutputError, SourceError
    from edgeseg.streaming.loop import MemberReport
    from edgeseg.streaming.switching import CONNECTING, FAILED

    failed = next((sink for sink in report.sinks if sink.failure is not None), None)
    if failed is not None:
        sentence = f"{failed.name} ended before the stream: {failed.failure}"
        raise OutputError(sentence[:1].upper() + sentence[1:], failed.hint)  # capitalize() would lower the rest
    members = [source for source in report.sources if isinstance(source, MemberReport)]
    # one that was lost at the end had given frames
    broken = [member for member in members if member.state in (CONNECTING, FAILED)]
    if broken:
        raise SourceError(
            f"{len(broken)} of {len(report.sources)} sources failed. {broken[0].source}: {broken[0].failure}",
            "The others went on; --json has the figures of each.",
        )
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
    if report.sources:
        _print_sources(report)


def _print_sources(report: StreamReport) -> None:
    from edgeseg.streaming.loop import MemberReport

    is_many = isinstance(report.sources[0], MemberReport)
    rows = [
        (
            _name_source(source),
            source.verdict if isinstance(source, MemberReport) else str(source.chosen),
            f"{source.seconds:.1f}",
            *(f"{count:,}" for count in (source.captured, source.processed, source.dropped, source.late)),
            f"{source.frame_age_ms.p50:.2f}" if source.processed else NOT_KNOWN,
            f"{source.frame_age_ms.p95:.2f}" if source.processed else NOT_KNOWN,
            f"{source.frame_age_ms.p99:.2f}" if source.processed else NOT_KNOWN,
        )
        for source in report.sources
    ]
    second = "budget" if is_many else "chosen"
    ages = ("age p50", "age p95", "age p99")
    print_table("Sources", ("source", second, "s", "captured", "processed", "dropped", "late", *ages), rows)
    if is_many and report.seconds:
        each = f"{report.frames.processed / report.seconds:.1f}"
        print(f"{each} masks per second of all sources, by {report.workers} threads with the model loaded in each.")
    for source in report.sources:
        if source.failure is not None:
            print(f"{source.source if isinstance(source, MemberReport) else source.name}: {source.failure}")


def _name_source(source: SourceReport) -> str:
    """Name a source in a table: a long address would leave no room for its figures."""
    from edgeseg.streaming.loop import MemberReport

    name = source.name if len(source.name) <= NAME_LETTERS else f"{source.name[: NAME_LETTERS - 1]}…"
    return f"{source.source}: {name}" if isinstance(source, MemberReport) else name
