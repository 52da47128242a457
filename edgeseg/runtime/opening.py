"""Open a stream, for the command and for Python programs alike: all of it, or nothing stays open."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from edgeseg.core.errors import SourceError
from edgeseg.runtime.areas import check_pixel_size
from edgeseg.runtime.latency import LatencyRecorder
from edgeseg.runtime.live import AS_USUAL, LiveStream, StreamOptions
from edgeseg.runtime.segmenter import Segmenter
from edgeseg.runtime.sinks.base import Sink, StreamInfo
from edgeseg.runtime.sinks.choose import SHOW_NOTHING, SinkWishes, open_sinks
from edgeseg.runtime.sources.base import Source
from edgeseg.runtime.sources.choose import open_source
from edgeseg.runtime.sources.options import show_source


def open_stream(
    segmenter: Segmenter,
    source: str,
    options: StreamOptions = AS_USUAL,
    wishes: SinkWishes = SHOW_NOTHING,
    listeners: Sequence[Sink] = (),
) -> LiveStream:
    """Warm up the model, open the source and every sink; the stream begins to capture when it is entered.

    Args:
        segmenter: The model, loaded; closed with the stream, or here when a step fails, as all the others are.
        source: As `edgeseg stream --source` takes it.
        options: When to stop, what counts as too late, and how frames are taken from the source.
        wishes: What is shown and kept.
        listeners: What else gets every result.

    Raises:
        EdgesegError: The source or a sink cannot be opened, or the model fails.
        LiveSourceError: The options are for recorded sources.
    """
    with ExitStack() as opened:
        opened.callback(segmenter.close)
        for listener in listeners:
            opened.callback(listener.close)
        recorder = LatencyRecorder(options.budget_ms, segmenter.warm_up())
        frames = open_source(source, segmenter.card.input.in_colour, options.capture)
        opened.callback(frames.close)
        name, card = show_source(source), segmenter.card
        size = _find_pixel_size(frames, name) if wishes.mm_per_px is None else wishes.mm_per_px
        info = StreamInfo(card.name, name, segmenter.report, recorder, size, frames.inbox, options.capture.every_frame)
        wishes.check_info(info)
        sinks = open_sinks(wishes, info, card.output.classes)
        opened.pop_all()
    return LiveStream(segmenter, frames, recorder, [*sinks, *listeners], options, name, size)


def _find_pixel_size(frames: Source, name: str) -> float | None:
    """Take the size of a pixel that the source tells, where it can be one."""
    if frames.mm_per_px is not None:
        try:
            check_pixel_size(frames.mm_per_px)
        except ValueError as error:
            raise SourceError(
                f"Expected {name} to tell a pixel's true size, but: {error}.", "Name the size with --mm-per-px."
            ) from error
    return frames.mm_per_px
