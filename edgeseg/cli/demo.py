"""`edgeseg demo`: everything once, on phantom data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeseg.cli.common import OverwriteOption, need_training_packages
from edgeseg.cli.tables import print_stream, print_variants, tell_notices
from edgeseg.cli.terminal import name_command, repeatable


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
        from edgeseg.demo import run_demo

        result = run_demo(out, overwrite)
    print_variants(result.compression.variants, result.compression.chosen)
    tell_notices(result.compression.notices)
    if result.compression.advice:
        typer.echo(result.compression.advice, err=True)
    print_stream(result.stream)
    command = name_command()
    print(f"Look at it:      {out / 'report.html'}")
    print(f"Watch it live:   {command} stream {out / result.chosen_file} --source phantom://")
    print(f"On your data:    {command} train DATA --out RUN, then {command} compress RUN --out DIR")
