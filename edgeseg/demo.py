"""The demo: phantom images, training, compression, benchmark and a live stream, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeseg.bench.measure import bench_models, count_blocks, load_models
from edgeseg.compression.compress import CompressReport, compress_run
from edgeseg.compression.gate import Gate
from edgeseg.compression.recipe import load_recipe
from edgeseg.core.files import refuse_existing, staged_folder, write_json
from edgeseg.core.modelfile import read_model
from edgeseg.core.progress import progress_bar
from edgeseg.core.schema import to_plain
from edgeseg.inference.segmenter import Segmenter
from edgeseg.phantom.synthesis import SynthOptions, write_phantom_set
from edgeseg.report.compression import write_compression_report
from edgeseg.streaming.live import open_stream
from edgeseg.streaming.loop import StreamReport, run_stream
from edgeseg.streaming.options import StreamOptions
from edgeseg.training.options import TrainOptions
from edgeseg.training.trainer import train_run

DATA = SynthOptions(cases=340, seed=7, size=(160, 160), clips=1, clip_frames=60)
# small enough for a laptop's CPU: the demo takes minutes
TRAINING = TrainOptions(model="small", size=128, stem="full", epochs=70, batch=16, seed=1)
RECIPES = ("float16", "int8-ptq", "int8-qat")
BENCH_RUNS = 200
STREAM = "phantom://?seed=3&frames=300"
# 20 frames a second
STREAM_OPTIONS = StreamOptions(budget_ms=50.0)


@dataclass(frozen=True)
class DemoResult:
    """The results of the demo."""

    compression: CompressReport
    stream: StreamReport
    chosen_file: str


def run_demo(out: Path, overwrite: bool = False) -> DemoResult:
    """Run all stages and write their files to `out`."""
    refuse_existing(out, overwrite)
    with staged_folder(out, overwrite) as folder:
        _render(folder / "phantom")
        train_run(folder / "phantom", folder / "run", TRAINING)
        outcome = compress_run(folder / "run", folder, [load_recipe(name) for name in RECIPES], Gate())
        report = outcome.report
        chosen = next(variant.file for variant in report.variants if variant.name == report.chosen)
        _bench(folder, [variant.file for variant in report.variants])
        stream = _stream(folder / chosen)
        write_json(folder / "stream.json", to_plain(stream))
        write_compression_report(folder, folder / "run", outcome, stream)
    return DemoResult(report, stream, chosen)


def _render(folder: Path) -> None:
    folder.mkdir()
    with progress_bar("Rendering phantoms", DATA.cases + DATA.clips) as advance:
        write_phantom_set(folder, DATA, lambda _: advance(""))


def _bench(folder: Path, files: list[str]) -> None:
    loaded = load_models([folder / file for file in files], "cpu", threads=(1,))
    with progress_bar("Timing", count_blocks(BENCH_RUNS)) as advance:
        results = bench_models(loaded, BENCH_RUNS, advance)
    write_json(folder / "bench.json", {"results": to_plain(results)})


def _stream(path: Path) -> StreamReport:
    return run_stream(open_stream(Segmenter(read_model(path)), STREAM, STREAM_OPTIONS))
