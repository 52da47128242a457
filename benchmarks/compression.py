"""Does compression keep its promises? One data set, every promise with what was asked for and what came.

    python benchmarks/compression.py DATA OUT [--runs RUNS] [--small]

Trains `small` and `base` with their defaults, compresses them by the recipes in question, trains the pruned network's
twin from scratch and times everything that is compared in one run. RUNS is a folder that may hold `small` and `base`
already; what stands in OUT is not made again. --small leaves `base` and the twin out, which take most of the time.
Writes OUT/compression.md and .json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from trained import mean_dice, score_file, show_estimate, train_once, write_results

from edgeseg.bench.measure import load_models, time_segmenters
from edgeseg.compression.compress import make_file
from edgeseg.compression.context import CompressContext, open_run, plan_distillation
from edgeseg.compression.gate import Variant
from edgeseg.compression.pruning import NETWORKS, PrunedNetwork
from edgeseg.compression.recipe import load_recipe
from edgeseg.convert.package import build_card, make_golden
from edgeseg.convert.tflite import convert_model
from edgeseg.core.files import partial_path, write_json
from edgeseg.core.modelfile import read_model, write_model
from edgeseg.core.schema import from_plain
from edgeseg.core.stats import Percentiles
from edgeseg.evaluation.score import estimate_drop
from edgeseg.graph.operators import read_graph
from edgeseg.model.spec import UNetSpec
from edgeseg.model.unet import build_unet
from edgeseg.training.loop import TrainingSchedule, build_optimizer, fit_model
from edgeseg.training.options import EMA, TrainOptions, plan_epochs
from edgeseg.training.resume import PLAN
from edgeseg.training.run import MODEL
from edgeseg.training.trainer import choose_losses
from edgeseg.training.validation import EpochEvaluator

RUNS = 200
COST = "cost.json"
DEFAULT, PRUNED = "float16,int8-ptq,int8-qat", "int8-ptq,prune50-int8-qat,sparse50-int8-qat"
HEADER = ("promise", "asked", "got", "held")


@dataclass(frozen=True)
class Compressed:
    """A folder that compress made, and what making it took."""

    folder: Path
    variants: dict[str, Variant]
    minutes: float
    peak_memory_mb: float

    def file(self, name: str) -> Path:
        """Give a variant's file."""
        return self.folder / self.variants[name].file


@dataclass(frozen=True)
class Promise:
    """One line of the table."""

    name: str
    asked: str
    got: str
    held: bool

    def row(self) -> tuple[str, ...]:
        """Put it into the table's columns."""
        return self.name, self.asked, self.got, "yes" if self.held else "no"


def compress_once(run: Path, folder: Path, recipes: str) -> Compressed:
    """Compress with the command line and note time and memory, or take the folder that stands there."""
    if not folder.is_dir():
        command = ["compress", str(run), "--out", str(folder), "--recipe", recipes]
        command += ["--resume"] if (partial_path(folder) / PLAN).is_file() else []
        print("edgeseg", *command, flush=True)
        begin = monotonic()
        process = subprocess.Popen([sys.executable, "-m", "edgeseg", *command])
        _, status, usage = os.wait4(process.pid, 0)
        if os.waitstatus_to_exitcode(status) not in (0, 3):
            raise SystemExit(f"edgeseg compress ended with {os.waitstatus_to_exitcode(status)}")
        write_json(folder / COST, {"minutes": (monotonic() - begin) / 60, "peak_memory_mb": usage.ru_maxrss / 1024})
    report, cost = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("compress.json", COST))
    variants = [from_plain(Variant, variant) for variant in report["variants"]]
    return Compressed(folder, {variant.name: variant for variant in variants}, **cost)


def train_twin(run: Path, pruned: Path, out: Path) -> Path:
    """Train a network of the pruned one's widths from scratch, as edgeseg train would, and make its int8 file."""
    file = out / "int8-ptq.tflite"
    if file.is_file():
        return file
    context = open_run(run)
    distillation = plan_distillation(context)
    spec = from_plain(PrunedNetwork, json.loads(pruned.read_text(encoding="utf-8"))).spec
    out.mkdir(exist_ok=True)
    taught = dataclasses.replace(context, model=teach(context, spec, out))
    make_file(taught, distillation, load_recipe("int8-ptq"), out)
    return file


def teach(context: CompressContext, spec: UNetSpec, out: Path) -> Any:
    """Train a network from scratch with the defaults of edgeseg train."""
    options = TrainOptions()
    model, ema_model = build_unet(spec), build_unet(spec)
    feed = plan_distillation(context).feed(model)
    training_schedule = TrainingSchedule(plan_epochs(len(context.train), options.batch), options.learning_rate)
    model.compile(build_optimizer(training_schedule, feed.steps), **choose_losses(context.record))
    evaluator = EpochEvaluator(
        "Training from scratch",
        model,
        ema_model,
        context.validation,
        out / "weights.h5",
        EMA,
        training_schedule.window,
    )
    fit_model(model, feed, evaluator, training_schedule)
    return ema_model


def make_classic(run: Path, out: Path) -> Path:
    """Make the float file of the 31 M U-Net for the run's images; its weights do not matter for the time it takes."""
    file = out / "classic-untrained.tflite"
    if not file.is_file():
        card = read_model(run / MODEL).card
        spec = TrainOptions(model="classic", size=card.input.height).describe_network(card.output.channels)
        flatbuffer = convert_model(build_unet(spec), "float32")
        made = build_card(flatbuffer, "classic", (card.input, card.output), card.provenance)
        write_model(file, flatbuffer, made, make_golden(flatbuffer, made))
    return file


def time_files(files: Sequence[Path], runs: int = RUNS) -> list[Percentiles]:
    """Time files in turn on one thread."""
    return [
        latency["invoke"] for latency in time_segmenters([m.segmenter for m in load_models(files, "cpu", (1,))], runs)
    ]


def judge_default(default: Compressed) -> list[Promise]:
    """Judge what the default recipes promise."""
    parent = default.variants["float32"]
    int8 = max((v for v in default.variants.values() if v.precision == "int8"), key=lambda v: v.validation_dice)
    floats = {o.name for o in read_graph(read_model(default.file(int8.name)).flatbuffer).operators if o.is_float}
    drop, ratio = int8.dice_drop, parent.bytes / int8.bytes
    return [
        Promise(f"int8 ({int8.name}): Dice lost", "at most 0.006", show_estimate(drop, 4), drop.mean <= 0.006),
        Promise("int8: smaller than float", "3.8x", f"{ratio:.2f}x", ratio >= 3.8),
        Promise("int8: float operators left", "none", ", ".join(sorted(floats)) or "none", not floats),
        Promise("compress: minutes", "at most 25", f"{default.minutes:.1f}", default.minutes <= 25),
        Promise("compress: peak memory", "stated", f"{default.peak_memory_mb:.0f} MB", True),
    ]


def judge_half(small: Compressed) -> list[Promise]:
    """Judge what pruning half of the multiplications promises, and what zeros do."""
    variants = small.variants
    parent, plain, pruned, sparse = (
        variants[name] for name in ("float32", "int8-ptq", "prune50-int8-qat", "sparse50-int8-qat")
    )
    plain_ms, pruned_ms = time_files([small.file("int8-ptq"), small.file("prune50-int8-qat")])
    gone, faster = 1 - pruned.macs / parent.macs, 1 - pruned_ms.p50 / plain_ms.p50
    smaller = 1 - sparse.gzip_bytes / plain.gzip_bytes
    drop = pruned.dice_drop
    speed = f"{faster:.0%} ({plain_ms.p50:.2f} to {pruned_ms.p50:.2f} ms)"
    return [
        Promise("prune50: multiplications gone", "50%", f"{gone:.1%}", gone >= 0.5),
        Promise("prune50: Dice lost", "at most 0.01", show_estimate(drop, 4), drop.mean <= 0.01),
        Promise("prune50: faster than unpruned int8", "35%", speed, faster >= 0.35),
        Promise("sparse50: zeros in the file", "50%", f"{sparse.sparsity:.1%}", sparse.sparsity >= 0.495),
        Promise("sparse50: gzipped smaller than int8", "30%", f"{smaller:.0%}", smaller >= 0.3),
        Promise("sparse50: Dice lost", "stated", show_estimate(sparse.dice_drop, 4), True),
    ]


def judge_strong(data: Path, base: Compressed, twin: Path) -> list[Promise]:
    """Judge what pruning 85% of the parameters promises, beside a network of that size trained from scratch."""
    variants = base.variants
    parent, pruned = variants["float32"], variants["prune85-int8-qat"]
    plain_ms, pruned_ms = time_files([base.file("int8-ptq"), base.file("prune85-int8-qat")])
    scratch, cut = score_file(twin, data), score_file(base.file("prune85-int8-qat"), data)
    gain = estimate_drop(scratch, cut)
    inside = parent.dice.ci95[0] <= pruned.dice.mean
    gone, ratio = 1 - pruned.params / parent.params, parent.bytes / pruned.bytes
    figures = f"{show_estimate(pruned.dice)}, parent {show_estimate(parent.dice)}"
    against = f"{-gain.mean:+.4f} ({-gain.ci95[1]:+.4f} to {-gain.ci95[0]:+.4f})"
    slow = pruned_ms.p50 / plain_ms.p50
    return [
        Promise("prune85 of base: parameters gone", "85%", f"{gone:.1%} ({pruned.params:,} left)", gone >= 0.85),
        Promise("prune85: Dice", "inside the parent's interval", figures, inside),
        Promise("prune85: smaller than the float parent", "12x", f"{ratio:.1f}x", ratio >= 12),
        Promise("prune85: time of unpruned int8", "at most 50%", f"{slow:.0%}", slow <= 0.5),
        Promise("same widths from scratch, int8", "stated", show_estimate(mean_dice(scratch)), True),
        Promise("prune85 against it, same cases", "above 0", against, -gain.mean > 0),
    ]


def judge_classic(small: Compressed, run: Path, out: Path, fastest: Path) -> Promise:
    """Judge the chosen file against the 31 M U-Net in float."""
    chosen, classic = time_files([fastest, make_classic(run, out)], 20)
    ratio, dice = classic.p50 / chosen.p50, small.variants[fastest.stem].dice
    got = f"{ratio:.0f}x ({classic.p50:.0f} to {chosen.p50:.2f} ms); Dice {show_estimate(dice)}, classic not trained"
    return Promise(f"{fastest.stem}: faster than the 31 M U-Net in float", "150x", got, ratio >= 150)


def main() -> None:
    """Make everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=Path, help="where `small` and `base` are, or are put")
    parser.add_argument("--small", action="store_true", help="what `small` alone can tell")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    runs = asked.runs or asked.out
    small, base = runs / "small", runs / "base"
    train_once(asked.data, small, ("--model", "small"))
    default = compress_once(small, asked.out / "small-default", DEFAULT)
    pruned = compress_once(small, asked.out / "small-pruned", PRUNED)
    promises = [*judge_default(default), *judge_half(pruned)]
    if not asked.small:
        train_once(asked.data, base, ("--model", "base"))
        strong = compress_once(base, asked.out / "base-pruned", "int8-ptq,prune85-int8-qat")
        twin = train_twin(base, strong.folder / NETWORKS / "prune85-int8-qat.json", asked.out / "twin")
        promises += judge_strong(asked.data, strong, twin)
    promises.append(judge_classic(pruned, small, asked.out, pruned.file("prune50-int8-qat")))
    notes = (
        "# What compression costs and gains",
        "",
        f"    python benchmarks/compression.py DATA OUT{' --small' if asked.small else ''}",
        "",
        f"`{asked.data.name}`, networks of the defaults of edgeseg train, 256x256; Dice on test cases that no recipe",
        "saw, drops on the same cases with their intervals. Times of the bare network, one thread, all in turn.",
    )
    write_results(asked.out, "compression", notes, HEADER, [promise.row() for promise in promises])


if __name__ == "__main__":
    main()
