"""Which model at which time budget? Dice against one-thread int8 milliseconds, for the named sizes and the stems.

    python benchmarks/front.py DATA OUT [--pairs nano/quarter,small/half] [--epochs N] [--batch N]

Trains each pair of size and stem, makes its int8 file without further training and times all files in turn on one
thread. What was trained before is not trained again, so the table names the epochs. Writes OUT/front.md, .json and
.png.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import matplotlib as mpl
from trained import add_course, list_course, mean_dice, score_file, show_estimate, train_once, write_results

from edgeseg.bench.measure import load_models, time_segmenters
from edgeseg.core.modelfile import read_model
from edgeseg.core.stats import Estimate, Percentiles, pareto_front
from edgeseg.training.validation import read_history

mpl.use("agg")
from matplotlib.figure import Figure

RUNS = 200
MODELS, STEMS = ("nano", "micro", "small", "base"), ("full", "half", "quarter")
HEADER = (
    "model",
    "stem",
    "Dice, int8 file",
    "ms p50",
    "ms p99",
    "parameters",
    "million MACs",
    "epochs, batch",
    "training, min",
)
STEM_COLOURS = {"full": "#1b2a33", "half": "#0f766e", "quarter": "#c2410c"}


@dataclass(frozen=True)
class Point:
    """A trained pair: its file and what is known of it before it is timed."""

    model: str
    stem: str
    file: Path
    dice: Estimate
    training_schedule: str
    minutes: float


def make_point(data: Path, out: Path, model: str, stem: str, training_schedule: Sequence[str]) -> Point:
    """Train a pair, make its int8 file and score it."""
    run = out / f"{model}-{stem}"
    record = train_once(data, run, ["--model", model, "--stem", stem, *training_schedule])
    folder = out / f"{model}-{stem}-int8"
    if not folder.is_dir():
        command = ["compress", str(run), "--out", str(folder), "--recipe", "int8-ptq", "--max-drop", "1"]
        subprocess.run([sys.executable, "-m", "edgeseg", *command], check=True)
    file = folder / "int8-ptq.tflite"
    epochs = len(read_history(run))
    dice, trained = mean_dice(score_file(file, data)), f"{epochs}, {record['options']['batch']}"
    return Point(model, stem, file, dice, trained, record["timing"]["seconds"] / 60)


def time_points(points: list[Point]) -> list[Percentiles]:
    """Time all files in one run, in turn, on one thread."""
    loaded = load_models([point.file for point in points], "cpu", (1,))
    return [latency["invoke"] for latency in time_segmenters([model.segmenter for model in loaded], RUNS)]


def draw_front(path: Path, points: list[Point], times: list[Percentiles]) -> None:
    """Draw Dice against milliseconds, one colour per stem, and a line through those that nothing faster beats."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for point, time in zip(points, times, strict=True):
        axes.plot(time.p50, point.dice.mean, "o", color=STEM_COLOURS[point.stem])
        axes.vlines(time.p50, *(point.dice.ci95 or (point.dice.mean,) * 2), color=STEM_COLOURS[point.stem], alpha=0.3)
        label, at = f"{point.model}, {point.stem}", (time.p50, point.dice.mean)
        axes.annotate(label, at, xytext=(4, -4), textcoords="offset points", rotation=-30, va="top")
    axes.plot(*zip(*find_front(points, times), strict=True), color="#94a3b8", zorder=0)
    axes.set(xscale="log", xlabel="int8, one thread, 256x256: milliseconds (median)", ylabel="Dice on test cases")
    axes.margins(x=0.12)
    axes.axvline(1.0, color="#94a3b8", linestyle=":")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.2)
    figure.savefig(path, dpi=130)


def find_front(points: list[Point], times: list[Percentiles]) -> list[tuple[float, float]]:
    """Find milliseconds and Dice of the points that no other one beats, the fastest first."""
    places = [(time.p50, point.dice.mean) for point, time in zip(points, times, strict=True)]
    return sorted(pareto_front([((taken, -dice), (taken, dice)) for taken, dice in places]))


def main() -> None:
    """Train every pair, time them and write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", default=",".join(f"{model}/{stem}" for model, stem in product(MODELS, STEMS)))
    add_course(parser)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    pairs = [pair.split("/") for pair in chosen.pairs.split(",")]
    points = [make_point(chosen.data, chosen.out, model, stem, list_course(chosen)) for model, stem in pairs]
    times = time_points(points)
    notes = (
        "# Dice against milliseconds",
        "",
        "    python benchmarks/front.py DATA OUT",
        "",
        f"Trained on `{chosen.data.name}`, 256x256, one seed.",
        "int8 by calibration alone; milliseconds of the bare network, one thread, all files timed in turn.",
        "",
        "![Dice against milliseconds](front.png)",
    )
    rows = [make_row(point, time) for point, time in zip(points, times, strict=True)]
    write_results(chosen.out, "front", notes, HEADER, rows)
    draw_front(chosen.out / "front.png", points, times)


def make_row(point: Point, time: Percentiles) -> list[str]:
    """Put a point's figures into a row."""
    card = read_model(point.file).card
    figures = [f"{time.p50:.2f}", f"{time.p99:.2f}", str(card.parameters), f"{card.macs / 1e6:.0f}"]
    return [
        point.model,
        point.stem,
        show_estimate(point.dice),
        *figures,
        point.training_schedule,
        f"{point.minutes:.1f}",
    ]


if __name__ == "__main__":
    main()
