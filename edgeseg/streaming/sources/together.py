"""Several sources in step: one for each modality of a model, paired by the time of capture (docs/decisions/0073)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.core.spec import InputSpec, Region
from edgeseg.frame.modalities import stack_pictures
from edgeseg.streaming.grabber import Grabber
from edgeseg.streaming.sources.base import Frame, Health, Notice, Source

# Without a picture of one modality for so long, the page and the log say which.
STALL_SECONDS = 3.0
_LOG = logging.getLogger(__name__)


class TogetherSource(Source):
    """Gives frames of all modalities as one stack.

    Live sources are captured each by its own thread, and their newest frames are paired when they were captured within
    half a frame interval of each other; the older of an unlike pair is dropped and counted. Recorded sources are read
    in lockstep, frame by frame, and end with the shortest.
    """

    def __init__(self, sources: Mapping[str, Source], spec: InputSpec) -> None:
        """Take over open sources.

        Args:
            sources: By modality.
            spec: The model's input.
        """
        self._sources, self._spec = dict(sources), spec
        members = list(self._sources.values())
        self.live = any(source.live for source in members)
        # sources that keep each other waiting reconnect by themselves
        self.reconnects = True
        self.fps = min(source.fps for source in members)
        self.region = members[0].region
        self.mm_per_px = members[0].mm_per_px
        self._tolerance = 0.5 / self.fps
        self._unpaired = 0
        self._stopped = False
        self._grabbers: list[Grabber] = []

    def read(self) -> NDArray[Any] | None:
        """Wait for a picture of every modality; None when one source has ended.

        Raises:
            SourceError: A source failed, or the pictures differ in size or depth.
        """
        pictures = self._read_newest() if self.live else [source.read() for source in self._sources.values()]
        if pictures is None:
            return None
        ended = [name for name, picture in zip(self._sources, pictures, strict=True) if picture is None]
        if ended:
            if len(ended) < len(pictures):
                _tell_end(ended[0])
            return None
        self.health = self._count()
        return stack_pictures([picture for picture in pictures if picture is not None], self._spec)

    def _read_newest(self) -> list[NDArray[Any]] | None:
        if not self._grabbers:
            for source in self._sources.values():
                grabber = Grabber(source)
                grabber.on_notice = self.on_notice
                self._grabbers.append(grabber)
                grabber.start()
            if self._stopped:
                self.interrupt()
        frames: list[Frame] = []
        for number in range(len(self._grabbers)):
            frame = self._take(number)
            if frame is None:
                return None
            frames.append(frame)
        while not self._belong_together(frames):
            number = min(range(len(frames)), key=lambda index: frames[index].captured_at)
            newer = self._take(number)
            if newer is None:
                return None
            frames[number] = newer
            self._unpaired += 1
        self.arrived_at = min(frame.captured_at for frame in frames)
        return [frame.image for frame in frames]

    def _take(self, number: int) -> Frame | None:
        """Wait for the newest frame of one modality, and say so where the others wait for it."""
        grabber, name = self._grabbers[number], list(self._sources)[number]
        stalled = not grabber.wait(STALL_SECONDS)
        if stalled:
            self.on_notice(Notice("lost", f"{name} gives no pictures, and the other modalities wait for it."))
        frame = grabber.newest()
        if frame is None and not self._stopped:
            _tell_end(name)
        elif stalled and frame is not None:
            self.on_notice(Notice("back", f"{name} gives pictures again."))
        return frame

    def _belong_together(self, frames: Sequence[Frame]) -> bool:
        times = [frame.captured_at for frame in frames]
        return max(times) - min(times) <= self._tolerance

    def _count(self) -> Health:
        total = Health(skipped=self._unpaired)
        for source in self._sources.values():
            total += source.health
        return dataclasses.replace(total, skipped=self._unpaired)

    def interrupt(self) -> None:
        """Wake a waiting `read`, from another thread."""
        self._stopped = True
        for grabber in self._grabbers:
            grabber.stop()
        for source in self._sources.values():
            source.interrupt()

    def close(self) -> None:
        """Close all sources; captured ones are closed by their threads."""
        for grabber in self._grabbers:
            grabber.stop()
        for grabber in self._grabbers:
            grabber.join(2.0)
        if not self._grabbers:
            for source in self._sources.values():
                source.close()


def _tell_end(name: str) -> None:
    _LOG.warning("The source of %s has ended, and with it the stream.", name)


class SplitSource(Source):
    """Cuts the modalities out of a screen that shows them beside one another, and gives them as one stack."""

    def __init__(self, source: Source, regions: Mapping[str, Region], spec: InputSpec) -> None:
        """Take over an open source.

        Args:
            source: The screen.
            regions: Where it shows each modality.
            spec: The model's input.

        Raises:
            SourceError: The regions are for other modalities.
        """
        if set(regions) != set(spec.modalities):
            raise SourceError(
                f"Expected --regions for {', '.join(spec.modalities) or 'a model of several modalities'}, got "
                f"{', '.join(regions)}.",
                "Name each modality of the model once.",
            )
        self._source, self._regions, self._spec = source, {name: regions[name] for name in spec.modalities}, spec
        self.live, self.fps, self.reconnects = source.live, source.fps, source.reconnects
        self.mm_per_px, self.announced, self.latest_slot = source.mm_per_px, source.announced, source.latest_slot

    def read(self) -> NDArray[Any] | None:
        """Read the next screen, and cut it up.

        Raises:
            SourceError: A region is not within the screen.
        """
        self._source.on_notice = self.on_notice
        screen = self._source.read()
        self.arrived_at, self.health, self.name = self._source.arrived_at, self._source.health, self._source.name
        if screen is None:
            return None
        height, width = screen.shape[:2]
        for name, one in self._regions.items():
            if one.x + one.width > width or one.y + one.height > height:
                raise SourceError(
                    f"Expected the region of {name} within {width}x{height}, got {one.x},{one.y},{one.width},"
                    f"{one.height}.",
                    "Change --regions.",
                )
        cut = [screen[one.y : one.y + one.height, one.x : one.x + one.width] for one in self._regions.values()]
        return stack_pictures(cut, self._spec)

    def interrupt(self) -> None:
        """Wake a waiting `read`, from another thread."""
        self._source.interrupt()

    def close(self) -> None:
        """Close the screen."""
        self._source.close()


def name_sources(texts: Sequence[str], spec: InputSpec) -> dict[str, str]:
    """Read NAME=SOURCE for every modality of a model, in its order.

    Raises:
        SourceError: A modality has no source, or several.
    """
    pairs = [text.split("=", 1) for text in texts if "=" in text]
    named = {pair[0]: pair[1] for pair in pairs if pair[0] in spec.modalities and pair[1]}
    if set(named) != set(spec.modalities) or len(texts) != len(named):
        example = " ".join(f"--source {name}={number}" for number, name in enumerate(spec.modalities))
        raise SourceError(
            f"Expected one source for each of the modalities {', '.join(spec.modalities)}, got "
            f"{len(texts)} of which {len(named)} name one.",
            f"Name them, for example: {example}; or one screen with --regions.",
        )
    return {name: named[name] for name in spec.modalities}
