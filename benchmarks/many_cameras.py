"""How many cameras one process serves: masks per second, fairness and frame age from 1 to 16 phantom sources.

    python benchmarks/many_cameras.py OUT [--model FILE] [--rate 120] [--seconds 10] [--sources 1 2 4 8 16]

Every camera plays frames of a phantom, 640x480 grey, at the same rate; frames are rendered before. Where the rate of
all cameras is beyond what the processors can do, frames are dropped: the table says whether every camera loses alike.
The first rows have one thread that segments, the others one for each processor. Without a model file it needs
TensorFlow, and measures an untrained network of the size `small`.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, process_time
from typing import Any

from numpy.typing import NDArray
from trained import write_results
from untrained import pick_model

from edgeseg.inference.ensemble import open_segmenter
from edgeseg.inference.segmenter import Segmenter
from edgeseg.phantom import PhantomClip
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.loop import make_report
from edgeseg.streaming.many import ManyPipeline, count_workers
from edgeseg.streaming.member import MemberPipeline, NamedSource
from edgeseg.streaming.options import StreamOptions
from edgeseg.streaming.sources.base import Source

SIZE = (480, 640)
FRAMES = 40
BUDGET_MS = 33.0
HEADER = (
    *("sources", "threads", "captured /s", "masks /s", "dropped", "smallest share", "largest share"),
    *("age p50 ms", "age p95 ms", "worst source p95 ms", "late", "cores used"),
)


class Camera(Source):
    """Plays frames again and again; cameras begin at different frames and times."""

    def __init__(self, images: list[NDArray[Any]], rate: float, number: int) -> None:
        self._images, self._position, self.fps = images, 7 * number, rate
        self._delay_s = number / rate / 16

    def read(self) -> NDArray[Any]:
        """Give the next frame."""
        if self._delay_s:
            threading.Event().wait(self._delay_s)
            self._delay_s = 0.0
        self._position += 1
        return self._images[self._position % len(self._images)]


@dataclass(frozen=True)
class Measured:
    """One row of the table."""

    sources: int
    threads: int
    captured_per_s: float
    masks_per_s: float
    dropped: float
    shares: tuple[float, float]
    age_p50_ms: float
    age_p95_ms: float
    worst_p95_ms: float
    late: float
    cores: float

    def row(self) -> tuple[str, ...]:
        """Write the row."""
        return (
            str(self.sources),
            str(self.threads),
            f"{self.captured_per_s:.0f}",
            f"{self.masks_per_s:.0f}",
            f"{self.dropped:.1%}",
            *(f"{share:.3f}" for share in self.shares),
            f"{self.age_p50_ms:.2f}",
            f"{self.age_p95_ms:.2f}",
            f"{self.worst_p95_ms:.2f}",
            f"{self.late:.1%}",
            f"{self.cores:.2f}",
        )


def measure(model: Path, images: list[NDArray[Any]], count: int, threads: int, rate: float, seconds: float) -> Measured:
    """Serve so many cameras for a while."""
    segmenters = [open_segmenter(model, "cpu", supervised=True) for _ in range(threads)]
    first = [segmenter.warm_up() for segmenter in segmenters]
    total = LatencyRecorder(BUDGET_MS, first[0])
    members = [_make_member(segmenters[0], images, number, rate, total) for number in range(1, count + 1)]
    live = ManyPipeline(segmenters, members, total, options=StreamOptions(BUDGET_MS))
    end = threading.Timer(seconds, live.stop)
    began, used = monotonic(), process_time()
    with live:
        end.start()
        live.run()
        took, used = monotonic() - began, process_time() - used
    report = make_report(live)
    mean = report.frames.processed / count
    shares = [source.processed / mean for source in report.sources]
    return Measured(
        count,
        threads,
        report.frames.captured / took,
        report.frames.processed / took,
        report.frames.dropped / report.frames.captured,
        (min(shares), max(shares)),
        report.frame_age_ms.p50,
        report.frame_age_ms.p95,
        max(source.frame_age_ms.p95 for source in report.sources),
        report.misses,
        used / took,
    )


def _make_member(
    segmenter: Segmenter, images: list[NDArray[Any]], number: int, rate: float, total: LatencyRecorder
) -> MemberPipeline:
    source = NamedSource(number, str(number), f"phantom://?seed={number}", f"phantom://?seed={number}")
    classes, recorder = segmenter.card.output.classes, total.begin_part(65536)
    return MemberPipeline(
        source, lambda: Camera(images, rate, number), classes, recorder, total, StreamOptions(BUDGET_MS)
    )


def list_threads(model: Path, count: int) -> Iterator[int]:
    """Give one thread, and as many as edgeseg takes for so many sources, where that is another number."""
    yield 1
    most = count_workers(count, 1, open_segmenter(model, "cpu"))
    if most > 1:
        yield most


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rate", type=float, default=120.0, help="frames per second of every camera")
    parser.add_argument("--seconds", type=float, default=10.0, help="of every row")
    parser.add_argument("--sources", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    asked = parser.parse_args()
    clip = PhantomClip(seed=1, size=SIZE)
    images = [clip.frame(number).image for number in range(FRAMES)]
    with TemporaryDirectory() as folder:
        model = pick_model(asked.model, Path(folder))
        pairs = [(count, threads) for count in asked.sources for threads in list_threads(model, count)]
        # rows of one thread first, so that both halves of the table can be read from top to bottom
        pairs.sort(key=lambda pair: (pair[1] > 1, pair[0]))
        found = [measure(model, images, *pair, asked.rate, asked.seconds) for pair in pairs]
    notes = [
        "# Many cameras in one process",
        "",
        "    python benchmarks/many_cameras.py OUT --model FILE",
        "",
        f"{open_name(asked.model)}; every camera gives {asked.rate:g} frames of 640x480 per second, "
        f"{asked.seconds:g} s for each row; budget {BUDGET_MS:g} ms. The share of a source is its masks over the mean "
        "of all sources; 'cores used' is the processor time of the process, captures included.",
    ]
    write_results(asked.out, "many-cameras", notes, HEADER, [one.row() for one in found])


def open_name(model: Path | None) -> str:
    """Name the network that was measured."""
    return "An untrained network of the size small" if model is None else model.name


if __name__ == "__main__":
    main()
