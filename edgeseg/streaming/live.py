"""`StreamPipeline`: grabber, segmenter and sinks of one stream, opened and closed together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from time import monotonic
from types import TracebackType

from edgeseg.core.errors import SourceError
from edgeseg.core.spec import InputSpec
from edgeseg.inference.segmenter import Segmenter
from edgeseg.machine.thermal import Thermal, read_thermal
from edgeseg.streaming.grabber import Grabber
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.options import DEFAULT_SINK_OPTIONS, DEFAULT_STREAM_OPTIONS, SinkOptions, StreamOptions
from edgeseg.streaming.pipeline import SourcePipeline
from edgeseg.streaming.sinks.base import Result, Sink, StreamInfo
from edgeseg.streaming.sinks.choose import open_sinks
from edgeseg.streaming.sources.address import show_source
from edgeseg.streaming.sources.base import Frame, Source
from edgeseg.streaming.sources.choose import check_known, find_pixel_size, open_source
from edgeseg.streaming.sources.together import SplitSource, TogetherSource, name_sources
from edgeseg.streaming.switching import SourceSwitch, Turn


class StreamPipeline(SourcePipeline):
    """One stream: iterate over it, inside its `with` block, to get the result of the newest frame again and again.

    Each result is published to every sink before it is yielded. Capture runs on the grabber's thread; the segmenter
    and `Sink.publish` run on the thread that iterates.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        source: Source | SourceSwitch,
        recorder: LatencyRecorder,
        sinks: Sequence[Sink] = (),
        options: StreamOptions = DEFAULT_STREAM_OPTIONS,
        name: str = "",
        mm_per_px: float | None = None,
    ) -> None:
        """Prepare a stream; entering the context starts the capture.

        Args:
            segmenter: The model, loaded; closed at the end.
            source: Where frames come from; closed at the end. Of several, one at a time.
            recorder: Collects the times; sinks may read it meanwhile.
            sinks: Subscribers to frames, results and notices; closed at the end.
            options: When to stop, the budget, and how frames are captured.
            name: The source's name in the report, without secrets.
            mm_per_px: The pixel size, where known.
        """
        super().__init__(segmenter.card.output.classes, recorder, sinks, options, name, mm_per_px)
        self.segmenter = segmenter
        self.switch = source if isinstance(source, SourceSwitch) else None
        self.grabber = self._open_grabber(source)
        self.thermal: Thermal = read_thermal()
        self._began = monotonic()
        self._ended: float | None = None
        self._closing = ExitStack()

    def _open_grabber(self, source: Source | SourceSwitch) -> Grabber | SourceSwitch:
        if isinstance(source, SourceSwitch):
            source.listen(self.on_frame, self._on_turn, self.on_notice)
            return source
        grabber = Grabber(source, self.options.capture, self.on_frame)
        grabber.on_notice = self.on_notice
        return grabber

    def __enter__(self) -> StreamPipeline:
        # an ExitStack closes in reverse order: the sinks, the capture, the model last
        self._closing.callback(self.segmenter.close)
        self._closing.enter_context(self.grabber)
        for sink in self.sinks:
            self._closing.callback(sink.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = monotonic() if self._ended is None else self._ended
        self._closing.close()

    @property
    def seconds(self) -> float:
        """Duration of the stream so far, or in all when it has ended."""
        return (monotonic() if self._ended is None else self._ended) - self._began

    def stop(self) -> None:
        """End the stream from another thread or a signal handler; the current frame is finished."""
        self.grabber.stop()
        for sink in self.sinks:
            sink.stop_waiting()

    def run(self) -> None:
        """Take all results, for what the sinks do with them."""
        deque(self, maxlen=0)

    def __iter__(self) -> Iterator[Result]:
        """Segment the newest frame until the source ends, a sink wants to end, or enough frames are done.

        Raises:
            SourceError: The source failed, or ended before its first frame.
        """
        for _ in count() if self.options.frames is None else range(self.options.frames):
            result = self._next_result()
            if result is None:
                self._check_any_frame()
                return
            # the mask is published before it is yielded: the caller's loop body must not delay the page
            self.publish(result)
            yield result
            self.states.settle()
            if any(sink.wants_end for sink in self.sinks):
                return

    def _next_result(self) -> Result | None:
        """Segment the newest frame; None at the end of the stream."""
        while (frame := self.grabber.newest()) is not None:
            result = self._try_frame(frame)
            if result is not None:
                return result
        return None

    def _try_frame(self, frame: Frame) -> Result | None:
        """Segment a frame; None where it is of one of several sources, whose frames the model refuses."""
        try:
            result = self.segment(frame, self.segmenter)
        except SourceError as error:
            if self.switch is None:
                raise
            self.switch.give_up(error)
            return None
        if self.switch is not None:
            self.switch.count(result.age_ms, result.age_ms > self.recorder.budget_ms)
        return result

    def _check_any_frame(self) -> None:
        """Refuse a source that ended without a frame: a report would say that the budget was held."""
        if not self.processed and not self.grabber.stopped and self.switch is None:
            raise SourceError(
                f"Expected frames from {self.name}, got its end before the first one.",
                "Check that it gives frames, and their size where you name it.",
            )

    def _on_turn(self, turn: Turn) -> None:
        """Begin anew with everything that looks back: the next frames are of another source."""
        self._part = self.recorder.begin_part()
        self.recorder.pause()
        self.forget()
        for sink in self.sinks:
            sink.on_turn(turn, self._part)


def open_stream(
    segmenter: Segmenter,
    source: str | Sequence[str],
    options: StreamOptions = DEFAULT_STREAM_OPTIONS,
    sink_options: SinkOptions = DEFAULT_SINK_OPTIONS,
    listeners: Sequence[Sink] = (),
) -> StreamPipeline:
    """Warm up the model, open the source and the sinks; entering the returned stream starts the capture.

    Of several sources the first is opened with the first call for a frame, and one at a time is segmented.

    Args:
        segmenter: The model, loaded; closed with the stream, or here when a step fails.
        source: As `edgeseg stream --source` takes it; several for a page that switches between them.
        options: When to stop, the budget, and how frames are captured.
        sink_options: Which sinks to open.
        listeners: Further sinks, already open; closed in the same way.

    Raises:
        EdgesegError: The source or a sink cannot be opened, or the model fails.
        LiveSourceError: The options are for recorded sources only.
    """
    with ExitStack() as opened:
        opened.callback(segmenter.close)
        for listener in listeners:
            opened.callback(listener.close)
        # the warm-up comes before the source is opened, so that no camera frames queue up meanwhile
        recorder = LatencyRecorder(options.budget_ms, segmenter.warm_up())
        frames, name = _open_frames(source, segmenter.card.input, options, sink_options)
        if isinstance(frames, Source):
            opened.callback(frames.close)
        info = _describe_stream(segmenter, frames, name, recorder, options, sink_options)
        sink_options.check_page(info.uses_camera, info.switch is not None)
        sinks = open_sinks(sink_options, info, segmenter.card.output.classes)
        # from here on the stream closes everything
        opened.pop_all()
    return StreamPipeline(segmenter, frames, recorder, [*sinks, *listeners], options, name, info.mm_per_px)


def _open_frames(
    source: str | Sequence[str], spec: InputSpec, options: StreamOptions, sink_options: SinkOptions
) -> tuple[Source | SourceSwitch, str]:
    """Open a source, or prepare the switch of several, and name it."""
    texts, colour = [source] if isinstance(source, str) else list(source), spec.in_colour
    if options.capture.regions is not None:
        return _open_split(texts, spec, options)
    if spec.is_stack:
        return _open_together(texts, spec, options)
    if len(texts) == 1:
        return open_source(texts[0], colour, options.capture), show_source(texts[0])
    for text in texts:
        check_known(text)
    switch = SourceSwitch(texts, colour, options.capture, sink_options.mm_per_px)
    return switch, switch.name


def _open_split(texts: Sequence[str], spec: InputSpec, options: StreamOptions) -> tuple[Source, str]:
    """Open the one source whose screen shows all modalities."""
    if len(texts) != 1:
        raise SourceError(f"Expected one source beside --regions, got {len(texts)}.", "Leave --regions or sources out.")
    source = open_source(texts[0], bool(spec.signed), options.capture)
    try:
        return SplitSource(source, options.capture.regions or {}, spec), show_source(texts[0])
    except SourceError:
        source.close()
        raise


def _open_together(texts: Sequence[str], spec: InputSpec, options: StreamOptions) -> tuple[Source, str]:
    """Open one source for each modality, or none."""
    named = name_sources(texts, spec)
    with ExitStack() as opened:
        sources = {}
        for name, text in named.items():
            sources[name] = open_source(text, name in spec.signed, options.capture)
            opened.callback(sources[name].close)
        if len({source.live for source in sources.values()}) > 1:
            raise SourceError(
                "Expected live sources alone or recorded ones alone for the modalities, got both.",
                "They cannot be paired: a recording has no time of capture.",
            )
        opened.pop_all()
    return TogetherSource(sources, spec), ", ".join(f"{name}={show_source(text)}" for name, text in named.items())


def _describe_stream(
    segmenter: Segmenter,
    frames: Source | SourceSwitch,
    name: str,
    recorder: LatencyRecorder,
    options: StreamOptions,
    sink_options: SinkOptions,
) -> StreamInfo:
    model, every_frame = segmenter.card.name, options.capture.every_frame
    if isinstance(frames, SourceSwitch):
        return StreamInfo(
            model, name, segmenter.report, recorder, sink_options.mm_per_px, None, every_frame, switch=frames
        )
    size = find_pixel_size(frames, name) if sink_options.mm_per_px is None else sink_options.mm_per_px
    spec = segmenter.card.input
    shown = spec.modalities if spec.is_stack else ()
    return StreamInfo(model, name, segmenter.report, recorder, size, frames.latest_slot, every_frame, modalities=shown)
