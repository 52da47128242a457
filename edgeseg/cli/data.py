"""`edgeseg data`: make phantom data to try everything on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeseg.cli.common import OverwriteOption

app = typer.Typer(no_args_is_help=True, help="Make labelled images to try everything on, with no patient behind them.")


@app.callback()
def data() -> None:
    """Make labelled images to try everything on, with no patient behind them."""


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="The data folder to make.")],
    cases: Annotated[int, typer.Option(help="How many still images.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed makes the same images.")] = 0,
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = 256,
    clips: Annotated[int, typer.Option(help="How many moving clips.")] = 2,
    clip_frames: Annotated[int, typer.Option(help="Frames of each clip.")] = 60,
    vessels: Annotated[bool, typer.Option("--vessels", help="Also write masks of the vessels, as a class.")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Make ultrasound phantoms: images, masks and clips.

    Speckle, time gain, shadows and fan shapes are simulated; every image and every frame of a clip has its exact mask.

    Example: `edgeseg data synth data/phantom --cases 200 --seed 1`
    """
    from edgeseg.core.files import staged_folder
    from edgeseg.core.progress import progress_bar
    from edgeseg.data.phantom.synth import SynthOptions, write_phantom_set

    options = SynthOptions(cases, seed, (size, size), clips, clip_frames, vessels)
    with staged_folder(out, overwrite) as folder, progress_bar("Rendering phantoms", cases + clips) as advance:
        write_phantom_set(folder, options, lambda _: advance(""))
    print(f"{out}: {cases} images with masks, {clips} clips of {clip_frames} frames")
