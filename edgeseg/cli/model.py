"""`edgeseg model`: look at a network before it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.arguments import with_options
from edgeseg.cli.common import JsonOption, keep_inputs, need_training_packages, save_json
from edgeseg.cli.tables import print_table
from edgeseg.training.options import NETWORK, TrainOptions

if TYPE_CHECKING:
    from edgeseg.model.unet import StageSummary

app = typer.Typer(no_args_is_help=True, help="Look at networks.")


@app.callback()
def describe() -> None:
    """Keep `summary` as a subcommand: typer drops the name of an only command."""


@app.command()
@with_options(panel=NETWORK)
def summary(
    options: TrainOptions,
    run: Annotated[
        Path | None, typer.Argument(help="A finished run; without it the options say what to show.", show_default=False)
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="F.png", help="Draw the network into this file.", show_default=False)
    ] = None,
    json_out: JsonOption = None,
) -> None:
    """Show a network's stages: shapes, parameters and multiplications.

    Parameters are counted as Keras has them, batch normalisation included; a model file has fewer, since it is folded
    into the convolutions there. Without a run the network is shown as it would be for one class.

    Example: `edgeseg model summary --model nano --size 128 --picture nano.png`
    """
    need_training_packages()
    from edgeseg.core.schema import to_plain
    from edgeseg.core.spec import ClassSpec, OutputSpec
    from edgeseg.model.unet import build_unet, summarise_stages
    from edgeseg.training.run import read_run

    keep_inputs([run], [picture, json_out])
    if run is not None and options != TrainOptions():
        raise typer.BadParameter("expected a run or options that describe a network, got both")
    one_class = OutputSpec((ClassSpec("target"),), options.activation)
    spec = read_run(run).spec if run is not None else options.describe_network(one_class.channels)
    stages = summarise_stages(build_unet(spec))
    _print_stages(stages)
    save_json(json_out, {"spec": to_plain(spec), "stages": to_plain(stages)})
    if picture is not None:
        from edgeseg.report.network import save_network_picture

        save_network_picture(picture, spec, stages)


def _print_stages(stages: Sequence[StageSummary]) -> None:
    rows = [(s.name, f"{s.height}x{s.width}x{s.channels}", f"{s.parameters:,}", f"{s.macs / 1e6:,.2f}") for s in stages]
    rows.append(("total", "", f"{sum(s.parameters for s in stages):,}", f"{sum(s.macs for s in stages) / 1e6:,.2f}"))
    print_table("Network", ("stage", "output", "parameters", "MMACs"), rows)
