"""Masks for many files: read, segment and write frames on several threads, and take the results in order.

OpenCV, LiteRT and zlib let other Python threads run while they work, so threads are enough (decisions/0062).
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.card import Card
from edgeseg.core.errors import BackendError, DataError, EdgesegError, OutputError
from edgeseg.core.progress import progress_bar
from edgeseg.core.spec import Region
from edgeseg.data.annotations.journal import check_name
from edgeseg.data.annotations.shapes import AnnotatedImage, Shape, trace_labels, trace_mask
from edgeseg.data.annotations.writers import AnnotationWriter, open_writer
from edgeseg.frame.modalities import list_pictures
from edgeseg.inference.following import Follower
from edgeseg.inference.instances import InstanceList, find_instances
from edgeseg.inference.masks import choose_labels, draw_overlay
from edgeseg.inference.regions import RegionFinder
from edgeseg.inference.segmenter import Segmenter
from edgeseg.prediction.inputs import FrameReader, InputFrame, Item
from edgeseg.prediction.options import LABEL_FORMATS, PredictOptions
from edgeseg.prediction.outputs import OutputNames, OverlayVideo, name_frame, write_masks, write_overlay
from edgeseg.prediction.table import Columns, Done, Ledger, find_state, list_instances
from edgeseg.streaming.sources.base import Health

# Frames under work or waiting to be taken, for each worker: more would only fill the memory.
_WAITING = 2
# Failures that end the run; all others are about one file.
_FATAL = (BackendError, OutputError)


class SegmenterPool:
    """Networks for several threads, of which each is used by one at a time."""

    def __init__(self, first: Segmenter, more: Callable[[], Segmenter] | None, limit: int) -> None:
        """Begin with one network.

        Args:
            first: It.
            more: Loads a further one; None where all threads must share the first.
            limit: The most that are loaded.
        """
        self._more, self._left = more, limit - 1 if more is not None else 0
        self._lock = Lock()
        self._free: SimpleQueue[Segmenter] = SimpleQueue()
        self._free.put(first)

    def segment(self, frame: NDArray[Any], region: Region | None) -> Any:
        """Segment a frame on a free network."""
        segmenter = self._take()
        try:
            return segmenter.segment(frame, region)
        finally:
            self._free.put(segmenter)

    def _take(self) -> Segmenter:
        with self._lock:
            loads = self._free.empty() and self._left > 0
            self._left -= loads
        if loads and self._more is not None:
            return self._more()
        return self._free.get()


@dataclass(frozen=True)
class FrameResult:
    """What one frame gave, after its files were written."""

    row: tuple[Any, ...]
    state: str = ""
    """Empty where the frame could not be segmented."""
    error: str = ""
    annotated: AnnotatedImage | None = None
    overlay: NDArray[np.uint8] | None = None
    """For the video of a clip."""
    found: InstanceList = field(default_factory=lambda: InstanceList(()))
    place: tuple[str, int | None] = ("", None)
    size: tuple[int, int] = (0, 0)


@dataclass
class _Clip:
    """A clip whose frames are under work."""

    item: Item
    stem: str
    video: OverlayVideo | None
    frames: int = 0
    states: Counter[str] = field(default_factory=Counter)
    problem: str = ""
    fps: float = 0.0
    follower: Follower = field(default_factory=Follower)


@dataclass(frozen=True)
class Failure:
    """A file of which frames could not be read, and why."""

    file: str
    reason: str


class Batch:
    """One run over a list of items, into a folder."""

    def __init__(self, folder: Path, pool: SegmenterPool, card: Card, options: PredictOptions, workers: int) -> None:
        """Prepare a run.

        Args:
            folder: Where to write.
            pool: The networks.
            card: Of the model.
            options: What is written.
            workers: How many frames are worked on at once.
        """
        self._folder, self._pool, self._options, self._workers = folder, pool, options, workers
        self._card, self._columns = card, Columns(card)
        self._classes = tuple(spec.name for spec in card.output.classes)
        self._labelled = [name for name in options.formats if name in LABEL_FORMATS]
        self._writers: list[AnnotationWriter] = []
        self._waiting: deque[tuple[Future[FrameResult], Callable[[FrameResult], None]]] = deque()
        self.failures: dict[str, str] = {}
        """What could not be read at all, in this run."""

    def run(self, items: Sequence[Item], ledger: Ledger) -> None:
        """Predict all items that the ledger does not know as done.

        Args:
            items: All items, in order.
            ledger: Takes rows and what is done.

        Raises:
            EdgesegError: The model cannot be run, or the disk is full; what is done stays in the ledger.
        """
        self._ledger = ledger
        self._writers = [open_writer(name, self._folder / name, self._classes, resume=True) for name in self._labelled]
        names = OutputNames(items, (done.stem for done in ledger.done.values()))
        pool = self._executor = ThreadPoolExecutor(self._workers, thread_name_prefix="predict")
        try:
            with progress_bar("Predicting", len(items)) as self._advance:
                for item in items:
                    if item.name in ledger.done:
                        self._advance("")
                    else:
                        self._begin(item, names)
                self._take_results(0)
        finally:
            self._waiting.clear()
            pool.shutdown(wait=True, cancel_futures=True)
        for writer in self._writers:
            writer.close()

    def _begin(self, item: Item, names: OutputNames) -> None:
        """Put an item to work; a clip is read to its end."""
        try:
            if self._labelled:
                _check_label_name(item.name)
            reader = FrameReader(item, self._card.input.in_colour)
        except _FATAL:
            raise
        except EdgesegError as error:
            self._fail(item, error.message)
            return
        stem = names.choose(item, reader.is_clip)
        if reader.is_clip:
            try:
                self._read_clip(reader, stem)
            finally:
                reader.close()
        else:
            self._submit(lambda result: self._finish_still(item, stem, result), self._read_still, reader, stem)

    def _submit(self, finish: Callable[[FrameResult], None], work: Callable[..., FrameResult], *args: Any) -> None:
        if self._workers == 1:
            # no thread waits for another one
            finish(work(*args))
            return
        self._waiting.append((self._executor.submit(work, *args), finish))
        self._take_results(self._workers * _WAITING)

    def _take_results(self, left: int) -> None:
        """Take the oldest results until so many are left under work."""
        while len(self._waiting) > left:
            future, finish = self._waiting.popleft()
            finish(future.result())

    def _read_still(self, reader: FrameReader, stem: str) -> FrameResult:
        """Read, segment and write the only frame of an item, on a worker's thread."""
        began = perf_counter()
        name = reader.item.name
        try:
            frame = next(iter(reader), None)
            if frame is None:
                raise DataError(f"Expected a picture in {name}, got none.", "Copy the file again.")
            region = RegionFinder(self._options.roi, reader.region).find(frame.image)
            return self._predict(frame, region, (name, None), stem, reader.mm_per_px, began)
        except _FATAL:
            raise
        except EdgesegError as error:
            return FrameResult((), error=error.message)
        finally:
            reader.close()

    def _finish_still(self, item: Item, stem: str, result: FrameResult) -> None:
        if result.error:
            self._fail(item, result.error)
            return
        self._annotate(result)
        self._ledger.append((result.row,), list_instances(result.place, result.found))
        self._ledger.commit(Done(item.name, stem, 1, {result.state: 1}))
        self._advance("")

    def _read_clip(self, reader: FrameReader, stem: str) -> None:
        """Read a clip frame by frame, and give each to a worker; results come back in order."""
        item = reader.item
        video = OverlayVideo(self._folder, stem, reader.fps) if self._options.overlay else None
        clip = _Clip(item, stem, video, fps=reader.fps)
        finder = RegionFinder(self._options.roi, reader.region)
        try:
            with progress_bar(f"Frames of a {item.kind}", max(1, reader.announced or 1)) as advance:
                for frame in _read_all(reader, clip):
                    region = finder.find(frame.image)
                    self._submit(
                        lambda result: self._finish_frame(clip, result, advance),
                        self._predict_frame, clip, frame, region, reader.mm_per_px,
                    )  # fmt: skip
                self._take_results(0)
            self._finish_clip(clip, reader.health)
        finally:
            if video is not None:
                video.discard()

    def _predict_frame(
        self, clip: _Clip, frame: InputFrame, region: Region | None, mm_per_px: float | None
    ) -> FrameResult:
        """Segment and write one frame of a clip, on a worker's thread."""
        began = perf_counter()
        place = clip.item.name, frame.number
        try:
            return self._predict(
                frame, region, place, name_frame(clip.stem, frame.number), mm_per_px, began, clip.video
            )
        except _FATAL:
            raise
        except EdgesegError as error:
            return FrameResult(self._columns.refuse(*place, error.message), error=error.message)

    def _finish_frame(self, clip: _Clip, result: FrameResult, advance: Callable[[str], None]) -> None:
        clip.frames += 1
        if result.error:
            clip.problem = clip.problem or result.error
        else:
            clip.states[result.state] += 1
            self._annotate(result)
        if clip.video is not None and result.overlay is not None:
            clip.video.write(result.overlay)
        self._ledger.append((result.row,), () if result.error else _follow(clip, result))
        advance("")

    def _finish_clip(self, clip: _Clip, health: Health) -> None:
        problem = clip.problem or _describe_health(health)
        if not clip.frames:
            self._fail(clip.item, problem or "Expected a clip with frames, got none.")
            return
        if clip.video is not None:
            clip.video.close()
        self._ledger.commit(Done(clip.item.name, clip.stem, clip.frames, clip.states, problem))
        self._advance("")

    def _fail(self, item: Item, reason: str) -> None:
        self.failures[item.name] = reason
        self._advance("")

    def _annotate(self, result: FrameResult) -> None:
        if result.annotated is not None:
            for writer in self._writers:
                writer.add(result.annotated)

    def _predict(
        self,
        frame: InputFrame,
        region: Region | None,
        place: tuple[str, int | None],
        stem: str,
        known_mm: float | None,
        began: float,
        video: OverlayVideo | None = None,
    ) -> FrameResult:
        """Segment a frame and write its files."""
        options = self._options
        mm_per_px = known_mm if options.mm_per_px is None else options.mm_per_px
        result = self._pool.segment(frame.image, region)
        labels = result.labels
        if any(finding.confidence is not None and finding.state not in options.states for finding in result.findings):
            labels = choose_labels(labels, result.findings, options.states)
        written = write_masks(self._folder, stem, labels, options.formats, mm_per_px)
        overlay = None
        if options.overlay:
            pictures = list_pictures(frame.image, self._card.input)
            drawn = [draw_overlay(one, labels, result.classes, findings=result.findings) for one in pictures]
            # modalities side by side, each with the mask
            overlay = drawn[0] if len(drawn) == 1 else np.hstack(drawn)
            if video is None:
                write_overlay(self._folder, stem, overlay)
        found = find_instances(labels, result.classes, mm_per_px, result.findings, result.grid, result.region)
        row = self._columns.describe(
            place, result, labels, found, mm_per_px, perf_counter() - began, written[0] if written else ""
        )
        annotated = None
        if self._labelled:
            name = place[0] if place[1] is None else f"{name_frame(place[0], place[1])}.png"
            scores = [finding.confidence for finding in result.findings]
            shapes = _trace(labels, found, self._classes, scores)
            annotated = AnnotatedImage(name, labels.shape[1], labels.shape[0], shapes)
        return FrameResult(
            row,
            find_state(result),
            annotated=annotated,
            overlay=None if video is None else overlay,
            found=found,
            place=place,
            size=(labels.shape[0], labels.shape[1]),
        )


def _follow(clip: _Clip, result: FrameResult) -> list[tuple[Any, ...]]:
    """Give the instances of the next frame the numbers that they have in the clip."""
    seconds = (result.place[1] or 0) / clip.fps
    return list_instances(result.place, clip.follower.follow(result.found, seconds, result.size))


def _trace(
    labels: NDArray[np.uint8], found: InstanceList, classes: Sequence[str], scores: Sequence[float | None]
) -> tuple[Shape, ...]:
    """Trace every instance by itself; where not all regions are instances, every region of a class."""
    if found.left_out:
        return trace_labels(labels, classes, scores)
    return tuple(
        dataclasses.replace(shape, polygons=tuple(points + one.box[:2] for points in shape.polygons))
        for one in found.instances
        for shape in trace_mask(one.mask > 0, one.name, one.confidence)
    )


def _check_label_name(name: str) -> None:
    try:
        check_name(name)
    except ValueError as error:
        raise DataError(
            "Expected a file whose name a labelling tool can keep, got one with control characters or backslashes.",
            "Rename it, or write --format png.",
        ) from error


def _read_all(reader: FrameReader, clip: _Clip) -> Iterator[InputFrame]:
    """Read all frames of a clip; an error ends it, and what was read before counts."""
    try:
        yield from reader
    except _FATAL:
        raise
    except EdgesegError as error:
        clip.problem = error.message


def _describe_health(health: Health) -> str:
    """Say in a sentence what could not be read of a clip; empty where all could."""
    parts = []
    if health.corrupt:
        parts.append(f"{health.corrupt} frames cannot be decoded")
    if health.missing:
        parts.append(f"{health.missing} frames that its header announces are not there")
    return f"Expected a whole clip, but {' and '.join(parts)}." if parts else ""


def count_workers() -> int:
    """Count the processors that this process may use, up to the default's limit."""
    return max(1, min(8, len(os.sched_getaffinity(0))))
