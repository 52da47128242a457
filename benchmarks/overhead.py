"""What everything but the net costs: a stream's whole way from a captured frame to its mask, against bare inference.

    python benchmarks/overhead.py OUT [--model FILE] [--runs 400] [--seconds 20]

Frames are 640x480 in colour, as cameras give them; one thread, no display. The bare inference is LiteRT's own
`Interpreter.invoke()` on the same file, timed in turn with the stream, in blocks. What stands behind a dash is a
function of the stage above or below, timed by itself. A second part plays 30 frames/s and compares everything but the
net without a page and with a page that a client in another process reads; caches are cold there, so that it costs more
than at full speed; and frames at full speed without a page and with four clients; --seconds 0 leaves it out. A third
part times what confidence, states and the distance from the training frames cost, each by itself, and the way from
frame to state with the card's decision and without, in turn; single findings are traced, measured and followed after
the mask was handed out, and stand by themselves.
Writes OUT/overhead.md and .json. Without --model an untrained network is made, which needs the training packages.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from trained import write_results
from untrained import pick_model
from watched import CLIENTS, FPS, Camera, compare_throughput, compare_watched

from edgeseg.backends.cpu import find_runtime
from edgeseg.bench.measure import make_frame
from edgeseg.core.modelfile import ModelFile, read_model
from edgeseg.frame.features import open_judge
from edgeseg.frame.postprocess import LabelPatch, decide_labels, scores_to_labels, tensor_to_scores
from edgeseg.frame.preprocess import frame_to_pixels, pixels_to_tensor, place_frame
from edgeseg.inference.confidence import decide_findings, measure_confidences, name_frame_classes, read_finding
from edgeseg.inference.following import FollowQueue
from edgeseg.inference.masks import FrameMask
from edgeseg.inference.segmenter import StageTimes
from edgeseg.inference.supervision import SupervisedSegmenter
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.live import StreamPipeline
from edgeseg.streaming.options import CaptureOptions, StreamOptions
from edgeseg.streaming.pipeline import FreezeDetector
from edgeseg.streaming.sources.base import Frame
from edgeseg.streaming.states import StateKeeper

BLOCK = 10
LIMIT_MS, LIMIT_SHARE, LIMIT_PAGE, LIMIT_CLIENTS, LIMIT_DECISION = 0.2, 0.1, 1.25, 0.1, 0.05
HEADER = ("what", "ms p50", "limit", "verdict")
PREPROCESS = {"colour to grey": "colour to grey", "resize to the network's grid": "from grey", "quantise": "quantise"}
POSTPROCESS = ("scores", "back to frame size", "threshold")
EVERY_FRAME = StreamOptions(capture=CaptureOptions(rate=math.inf, every_frame=True))


@dataclass(frozen=True)
class Way:
    """One frame's way through the stream, in milliseconds."""

    whole: float
    age: float
    times: StageTimes


class Bare:
    """LiteRT's interpreter on one thread, with a frame's tensor in its input."""

    def __init__(self, model: ModelFile) -> None:
        self._interpreter = find_runtime()[1].Interpreter(model_content=model.flatbuffer, num_threads=1)
        self._interpreter.allocate_tensors()
        card = model.card
        tensor = pixels_to_tensor(frame_to_pixels(make_frame(colour=True), card.input), card.input_quantisation)
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], tensor)
        self.times: list[float] = []
        outputs = self._interpreter.get_output_details()
        self._finding: int = min(outputs, key=lambda output: math.prod(output["shape"]))["index"]

    def read_finding(self) -> NDArray[Any]:
        """Copy the finding output, which is the smallest, out of the runtime."""
        return np.asarray(self._interpreter.get_tensor(self._finding))

    def run_block(self) -> None:
        """Time a block of inferences; the first is not counted."""
        self.times += take_block(self._interpreter.invoke)


def take_block(task: Callable[[], object]) -> list[float]:
    """Take the milliseconds of some calls; the first one warms the caches and is not counted."""
    taken = []
    for _ in range(BLOCK + 1):
        began = perf_counter()
        task()
        taken.append(1e3 * (perf_counter() - began))
    return taken[1:]


def time_stream(segmenter: SupervisedSegmenter, bare: Bare, runs: int) -> list[Way]:
    """Time frames at full speed from capture to the loop's body, a block of bare inferences after each block."""
    ways: list[Way] = []
    with StreamPipeline(segmenter, Camera(), LatencyRecorder(math.inf, 0.0), options=EVERY_FRAME) as live:
        for number, result in enumerate(live):
            whole = 1e3 * (monotonic() - result.frame.captured_at)
            if number % (BLOCK + 1):
                ways.append(Way(whole, result.age_ms, result.segmentation.times))
            elif len(ways) >= runs:
                break
            else:
                bare.run_block()
    return ways


def time_functions(model: ModelFile, runs: int) -> dict[str, float]:
    """Time the functions that the stream calls, each by itself; medians in milliseconds."""
    card, colour, grey = model.card, make_frame(colour=True), make_frame(colour=False)
    spec, size = card.input, (card.input.height, card.input.width)
    placement, pixels = place_frame(spec, *grey.shape), frame_to_pixels(colour, spec)
    segmenter = SupervisedSegmenter(model, "cpu")
    output = segmenter.selection.backend.invoke(pixels_to_tensor(pixels, card.input_quantisation))[0]
    scores = tensor_to_scores(output, card.output_quantisation)
    full = np.zeros((*grey.shape, scores.shape[2]), np.uint8)
    took = take_medians(
        {
            "from colour": lambda: frame_to_pixels(colour, spec),
            "from grey": lambda: frame_to_pixels(grey, spec),
            "quantise": lambda: pixels_to_tensor(pixels, card.input_quantisation),
            "scores": lambda: tensor_to_scores(output, card.output_quantisation),
            "threshold": lambda: decide_labels(full, card.output),
            "labels": lambda: scores_to_labels(scores, placement, size, card.output),
        },
        runs,
    )
    took["colour to grey"] = took["from colour"] - took["from grey"]
    took["back to frame size"] = took["labels"] - took["threshold"]
    return took


def take_medians(tasks: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Time tasks in turn, in blocks."""
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(-(-runs // BLOCK)):
        for name, task in tasks.items():
            taken[name] += take_block(task)
    return {name: median(times) for name, times in taken.items()}


def measure_full_speed(model: ModelFile, runs: int) -> list[list[str]]:
    """Make the rows of the first part."""
    segmenter, bare = SupervisedSegmenter(model, "cpu"), Bare(model)
    segmenter.warm_up()
    ways = time_stream(segmenter, bare, runs)
    net, whole, alone = median(bare.times), median(way.whole for way in ways), time_functions(model, runs)
    return [
        show("bare Interpreter.invoke()", net),
        show("from captured frame to mask", whole),
        judge("everything but the net", whole - net, max(LIMIT_MS, LIMIT_SHARE * net)),
        show("hand-over from the capturing thread", median(way.age - way.times.total for way in ways)),
        show("preprocess", median(way.times.preprocess for way in ways)),
        *(show(f"- {name}", alone[key]) for name, key in PREPROCESS.items()),
        show("tensor in and out", median(way.times.invoke for way in ways) - net),
        show("postprocess", median(way.times.postprocess for way in ways)),
        *(show(f"- {name}", alone[name]) for name in POSTPROCESS),
        show("book-keeping", median(way.whole - way.age for way in ways)),
    ]


def list_decision_parts(model: ModelFile) -> dict[str, Callable[[], object]]:
    """List what a frame costs for its confidence, its state and its distance; without what the card lacks."""
    card, colour, segmenter = model.card, make_frame(colour=True), SupervisedSegmenter(model, "cpu")
    decision, classes, spec = card.decision, card.output.classes, card.input
    placement, pixels = place_frame(spec, *colour.shape[:2]), frame_to_pixels(colour, spec)
    outputs = segmenter.selection.backend.invoke(pixels_to_tensor(pixels, card.input_quantisation))
    seen, grid = segmenter.segment(colour), draw_blob(segmenter.segment(colour).grid)
    confidences, keeper, freezes = measure_confidences(grid, card.output), StateKeeper(classes), FreezeDetector()
    # the median of the newest distances differs from frame to frame, as in a stream
    blank = FrameMask(LabelPatch(np.empty((0, 0), np.uint8), 0, 0), colour.shape[:2])
    frames = cycle([replace(seen, mask=blank, distance=distance) for distance in (0.5, 0.6, 0.4, 0.7, 0.3, 0.55)])
    temperatures = () if decision is None else decision.finding_temperatures
    probabilities: tuple[float, ...] = ()
    parts: dict[str, Callable[[], object]] = {"mask confidence": partial(measure_confidences, grid, card.output)}
    if card.finding_quantisation is not None:
        probabilities = read_finding(outputs[1], card.finding_quantisation, temperatures)
        parts["finding: out of the runtime"] = Bare(model).read_finding
        parts["finding: probabilities"] = partial(read_finding, outputs[1], card.finding_quantisation, temperatures)
        parts["finding: frame classes"] = partial(name_frame_classes, probabilities, card)
    parts["state of a frame"] = partial(decide_findings, confidences, probabilities, classes, decision)
    judge = open_judge(None if decision is None else decision.known, spec.channels)
    if judge is not None:
        parts["distance from the training frames"] = partial(judge, pixels, placement)
    parts["states of the stream, flicker, jitter"] = lambda: keeper.take(next(frames), monotonic())
    parts["picture that stands still"] = lambda: freezes.look(Frame(colour, 0, monotonic()))
    return parts


def draw_blob(grid: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw scores with a mask of every class, which costs more than none."""
    blob = cv2.circle(np.zeros(grid.shape[:2], np.uint8), (grid.shape[1] // 2, grid.shape[0] // 2), 9, 230, -1)
    return np.repeat(cv2.GaussianBlur(blob, (0, 0), 2)[:, :, None], grid.shape[2], axis=2)


def measure_decision(model: ModelFile, runs: int) -> list[list[str]]:
    """Make the rows of the third part: each part, their sum with and without the card's decision, and the whole way."""
    bare = replace(model, card=replace(model.card, decision=None))
    parts, fewer = list_decision_parts(model), list_decision_parts(bare)
    ways = {"with": follow(model), "without": follow(bare), "findings": follow_findings(model)}
    took = take_medians({**parts, **{f"{name} (none)": part for name, part in fewer.items()}, **ways}, runs)
    scores = take_medians(list_temperatures(model), runs)
    took["temperatures"] = max(0.0, scores["with"] - scores["without"])
    whole = sum(took[name] for name in (*parts, "temperatures"))
    return [
        *(show(f"- {name}", took[name], 4) for name in (*parts, "temperatures")),
        judge("confidence, states, distance: together", whole, LIMIT_DECISION),
        show("the same without a decision on the card", sum(took[f"{name} (none)"] for name in fewer)),
        show("single findings, after the mask", took["findings"]),
        show("from frame to state, with the card's decision", took["with"]),
        show("from frame to state, without it", took["without"]),
        [f"with / without: {took['with'] / took['without']:.3f}", "", "", ""],
    ]


def follow(model: ModelFile) -> Callable[[], object]:
    """Follow a frame from the camera to its state, as a stream does."""
    segmenter, frame = SupervisedSegmenter(model, "cpu"), Frame(make_frame(colour=True), 0, 0.0)
    keeper, freezes = StateKeeper(model.card.output.classes), FreezeDetector()
    return lambda: (keeper.take(segmenter.segment(frame.image), monotonic()), freezes.look(frame))


def follow_findings(model: ModelFile) -> Callable[[], object]:
    """Find, measure and follow the single findings of a frame."""
    seen, keeper = SupervisedSegmenter(model, "cpu").segment(make_frame(colour=True)), FollowQueue()

    def follow_next() -> None:
        # a copy has not found its instances yet
        one = replace(seen)
        keeper.add(lambda: one.instance_list, monotonic(), one.size, one.findings)
        keeper.settle()

    return follow_next


def list_temperatures(model: ModelFile) -> dict[str, Callable[[], object]]:
    """List the making of scores with the card's temperatures and without."""
    card, backend = model.card, SupervisedSegmenter(model, "cpu").selection.backend
    pixels = frame_to_pixels(make_frame(colour=True), card.input)
    make = partial(
        tensor_to_scores, backend.invoke(pixels_to_tensor(pixels, card.input_quantisation))[0], card.output_quantisation
    )
    return {"with": partial(make, () if card.decision is None else card.decision.temperatures), "without": make}


def show(name: str, value: float, digits: int = 3) -> list[str]:
    """Make a row."""
    return [name, f"{value:.{digits}f}", "", ""]


def judge(name: str, value: float, limit: float) -> list[str]:
    """Make a row with a verdict."""
    return [name, f"{value:.3f}", f"{limit:.3f}", "held" if value <= limit else "missed"]


def measure_page(model: ModelFile, seconds: float) -> list[list[str]]:
    """Make the rows of the second part."""
    alone, watched = (median(times) for times in compare_watched(model, seconds))
    speeds, shared = (median(rates) for rates in compare_throughput(model, seconds))
    return [
        show(f"everything but the net at {FPS:g} frames/s", alone),
        judge("the same with the page open and one client", watched, LIMIT_PAGE * alone),
        show("a frame at full speed without a page", 1e3 / speeds),
        judge(f"the same with {CLIENTS} clients of the page", 1e3 / shared, 1e3 / speeds / (1.0 - LIMIT_CLIENTS)),
    ]


def main() -> None:
    """Measure both parts and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=20.0)
    chosen = parser.parse_args()
    with TemporaryDirectory() as folder:
        model = read_model(pick_model(chosen.model, Path(folder)))
    spec, macs = model.card.input, model.card.macs / 1e6
    if spec.in_colour:
        raise SystemExit("Expected a model for grey pictures, got one for colour: there would be no grey to make.")
    cv2.setNumThreads(1)
    rows = measure_full_speed(model, chosen.runs)
    rows += measure_page(model, chosen.seconds) if chosen.seconds else []
    rows += measure_decision(model, chosen.runs)
    notes = (
        "# Everything but the net",
        "",
        "    python benchmarks/overhead.py OUT --model FILE",
        "",
        f"{model.card.name}, {spec.width}x{spec.height}, {macs:.0f} million MACs; frames of 640x480 in colour.",
        f"One thread, {chosen.runs} runs. May cost {LIMIT_MS} ms or {LIMIT_SHARE:.0%} of the bare inference, whichever "
        f"is more; with a page and one client {LIMIT_PAGE - 1:.0%} more than without, with {CLIENTS} clients "
        f"{LIMIT_CLIENTS:.0%} fewer frames at full speed; confidence, states and distance {LIMIT_DECISION} ms.",
    )
    chosen.out.mkdir(parents=True, exist_ok=True)
    write_results(chosen.out, "overhead", notes, HEADER, rows)


if __name__ == "__main__":
    main()
