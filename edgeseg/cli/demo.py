"""`edgeseg demo`: phantom images, training, compression, timing and a live stream, once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.common import OverwriteOption, need_training_packages
from edgeseg.cli.tables import print_stream, print_variants, tell_notices
from edgeseg.cli.terminal import name_command, repeatable

if TYPE_CHECKING:
    from edgeseg.compression.compress import CompressReport
    from edgeseg.streaming.loop import StreamReport

CASES, CLIPS = 340, 1
RECIPES = ("float16", "int8-ptq", "int8-qat")
BENCH_RUNS = 200
SOURCE = "phantom://?seed=3&frames=300"
# 20 frames a second
BUDGET_MS = 50.0


def demo(
    out: Annotated[Path, typer.Option(help="The folder to make.")] = Path("runs/demo"),
    overwrite: OverwriteOption = False,
) -> None:
    """Try everything in a few minutes: phantom images, training, compression, timing and a live stream.

    Needs no download, no camera and no GPU. Leaves the model files, compress.json, bench.json, stream.json and
    report.html in the folder.

    Example: `edgeseg demo --overwrite`
    """
    need_training_packages()
    with repeatable(kept=False):
        report, stream = run_demo(out, overwrite)
    print_variants(report.variants, report.chosen)
    tell_notices(report.notices)
    if report.advice:
        typer.echo(report.advice, err=True)
    print_stream(stream)
    command = name_command()
    print(f"Look at it:      {out / 'report.html'}")
    print(f"Watch it live:   {command} stream {out / _find_chosen(report)} --source phantom://")
    print(f"On your data:    {command} train DATA --out RUN, then {command} compress RUN --out DIR")


def run_demo(out: Path, overwrite: bool = False) -> tuple[CompressReport, StreamReport]:
    """Run all stages and write their files to `out`."""
    from edgeseg.compression.compress import compress_run
    from edgeseg.compression.gate import Gate
    from edgeseg.compression.recipe import load_recipe
    from edgeseg.core.files import refuse_existing, staged_folder, write_json
    from edgeseg.core.schema import to_plain
    from edgeseg.report.compression import write_compression_report
    from edgeseg.report.training import leave_report
    from edgeseg.training.options import TrainOptions
    from edgeseg.training.trainer import train_run

    # small enough for a laptop's CPU: the demo takes minutes
    training = TrainOptions(model="small", size=128, stem="full", epochs=70, batch=16, seed=1)
    refuse_existing(out, overwrite)
    with staged_folder(out, overwrite) as folder:
        _render(folder / "phantom")
        train_run(folder / "phantom", folder / "run", training)
        leave_report(folder / "run", out / "run")
        outcome = compress_run(folder / "run", folder, [load_recipe(name) for name in RECIPES], Gate())
        report = outcome.report
        _bench(folder, [variant.file for variant in report.variants])
        stream = _stream(folder / _find_chosen(report))
        write_json(folder / "stream.json", to_plain(stream))
        write_compression_report(folder, folder / "run", outcome, stream, out)
    return report, stream


def _find_chosen(report: CompressReport) -> str:
    return next(variant.file for variant in report.variants if variant.name == report.chosen)


def _render(folder: Path) -> None:
    from edgeseg.core.progress import progress_bar
    from edgeseg.phantom.synthesis import SynthOptions, write_phantom_set

    options = SynthOptions(cases=CASES, seed=7, size=(160, 160), clips=CLIPS, clip_frames=60)
    folder.mkdir()
    with progress_bar("Rendering phantoms", CASES + CLIPS) as advance:
        write_phantom_set(folder, options, lambda _: advance(""))


def _bench(folder: Path, files: list[str]) -> None:
    from edgeseg.bench.measure import bench_models, count_blocks, load_models
    from edgeseg.core.files import write_json
    from edgeseg.core.progress import progress_bar
    from edgeseg.core.schema import to_plain

    loaded = load_models([folder / file for file in files], "cpu", threads=(1,))
    with progress_bar("Timing", count_blocks(BENCH_RUNS)) as advance:
        results = bench_models(loaded, BENCH_RUNS, advance)
    write_json(folder / "bench.json", {"results": to_plain(results)})


def _stream(path: Path) -> StreamReport:
    from edgeseg.core.modelfile import read_model
    from edgeseg.inference.segmenter import Segmenter
    from edgeseg.streaming.live import open_stream
    from edgeseg.streaming.loop import run_stream
    from edgeseg.streaming.options import StreamOptions

    return run_stream(open_stream(Segmenter(read_model(path)), SOURCE, StreamOptions(budget_ms=BUDGET_MS)))
