"""`edgeseg federate`: train with several sites that keep their images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.arguments import with_options
from edgeseg.cli.common import (
    ClassNameOption,
    GroupPatternOption,
    ImagesOption,
    LayoutOption,
    MasksOption,
    OverwriteOption,
    join_layout,
    keep_inputs,
    need_training_packages,
    usage_errors,
)
from edgeseg.cli.terminal import repeatable, resumable
from edgeseg.core.install import need_extra
from edgeseg.federation.plan import NOT_SHARED, FederationOptions
from edgeseg.training.options import TrainOptions

if TYPE_CHECKING:
    from edgeseg.federation.secure import Address

app = typer.Typer(
    no_args_is_help=True,
    help="Train one network at several sites: images stay there, and weights are averaged (Flower).",
)

TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="F",
        help="File with the token that the server and all sites share; it is proved and never sent.",
        show_default=False,
    ),
]
InsecureOption = Annotated[
    bool,
    typer.Option("--insecure", help="Allow other machines without TLS: others on the network can read and change all."),
]
# What decides the network or the training at all sites, as `train` has it.
_TAKEN = tuple(name for name in TrainOptions.__dataclass_fields__ if name not in NOT_SHARED)


@with_options(only=(*_TAKEN, *FederationOptions.__dataclass_fields__))
def serve(
    *,
    out: Annotated[Path, typer.Option(help="The run folder to make.")],
    sites: Annotated[int, typer.Option(help="Sites to wait for; at most as many are connected.", min=1, max=1000)],
    class_names: Annotated[
        list[str],
        typer.Option("--class-name", metavar="NAME", help="A class of the masks; once for each, in one order for all."),
    ],
    frame_classes: Annotated[
        list[str] | None,
        typer.Option("--frame-class", metavar="NAME", help="A label of the frame to learn; once for each."),
    ] = None,
    course: FederationOptions,
    options: TrainOptions,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to wait for sites.")] = "127.0.0.1:8440",
    certificate: Annotated[
        Path | None, typer.Option(metavar="PEM", help="The server's certificate, for TLS.", show_default=False)
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="PEM", help="The certificate's key.", show_default=False)] = None,
    token_file: TokenOption = None,
    insecure: InsecureOption = False,
    minimum: Annotated[
        int | None,
        typer.Option(help="Sites without which no round counts; by default 2.", min=1, show_default=False),
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for missing sites.", min=1.0, max=604_800.0)] = 600.0,
    round_timeout: Annotated[
        float, typer.Option(help="Seconds for a site's part of a round; then it is left out.", min=1.0, max=604_800.0)
    ] = 3600.0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last whole round, with the options it was begun with.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Wait for sites, train with them in rounds, and leave the averaged run.

    The server has no images: its run has no operating point and no test figures. Every site gets the final weights and
    makes a whole run of its own. Whoever runs the server and has images joins from the same machine.

    Example: `edgeseg federate serve --sites 3 --rounds 20 --class-name lesion --model micro --out runs/federation`
    """
    _need_packages()
    with usage_errors():
        from edgeseg.federation.secure import read_address

        address = read_address(listen)
    if (certificate is None) != (key is None):
        raise typer.BadParameter("expected --certificate and --key together")
    _demand_protection(address, certificate is not None, insecure, "--certificate and --key")
    if token_file is None and not address.is_local and not insecure:
        raise typer.BadParameter("expected --token-file: whoever reaches the port could join (or --insecure)")
    least = minimum if minimum is not None else min(2, sites)
    if least > sites:
        raise typer.BadParameter(f"expected a --minimum of at most {sites} sites, got {least}")
    with resumable(out):
        from edgeseg.federation.rounds import Terms
        from edgeseg.federation.secure import read_server_certificate, read_token
        from edgeseg.federation.server import Listener, draft_plan, serve_federation

        keep_inputs([certificate, key, token_file], [out])
        with usage_errors():
            plan = draft_plan(options, course, class_names, frame_classes or ())
        certificates = read_server_certificate(certificate, key) if certificate and key else None
        listener = Listener(address, certificates, read_token(token_file))
        record = serve_federation(plan, out, listener, Terms(sites, least, round_timeout, wait), overwrite, resume)
    federation = record.federation
    assert federation is not None
    print(f"{out}: {federation.rounds} rounds of {federation.sites} sites with {federation.cases} training cases")
    print(
        f"Best after round {record.best_epoch}, validation Dice {record.validation_dice:.3f} averaged over the sites."
    )
    print("Without images here it has no operating point; each site's own run has, and can be compressed.")


def join(
    server: Annotated[str, typer.Argument(metavar="HOST:PORT", help="The server.")],
    data: Annotated[Path, typer.Argument(help="Folder of labelled images, in any known layout; they stay here.")],
    *,
    out: Annotated[Path, typer.Option(help="The run folder to make.")],
    root_certificate: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="The certificate by which the server is known (TLS).", show_default=False),
    ] = None,
    token_file: TokenOption = None,
    insecure: InsecureOption = False,
    wait: Annotated[
        float, typer.Option(help="Seconds for which the server may be away.", min=1.0, max=604_800.0)
    ] = 60.0,
    layout: LayoutOption = None,
    images: ImagesOption = None,
    masks: MasksOption = None,
    class_name: ClassNameOption = None,
    group_pattern: GroupPatternOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Take part with the images of this site, and leave a run of the shared weights.

    Weights, numbers of cases and validation figures are sent; no image, name or folder. The run is decided and scored
    on this site's own validation and test cases. After an interruption the same command joins again.

    Example: `edgeseg federate join 127.0.0.1:8440 data/ours --out runs/ours`
    """
    _need_packages()
    with usage_errors():
        from edgeseg.federation.secure import read_address

        address = read_address(server)
    _demand_protection(address, root_certificate is not None, insecure, "--root-certificate")
    with repeatable():
        from edgeseg.federation.local import SiteData
        from edgeseg.federation.secure import read_root, read_token
        from edgeseg.federation.site import Connection, join_federation

        layout = join_layout(data, layout, images, masks, class_name)
        keep_inputs([data, root_certificate, token_file], [out])
        root = None if root_certificate is None else read_root(root_certificate)
        connection = Connection(address, root, read_token(token_file), wait)
        record = join_federation(SiteData(data, layout, group_pattern), out, connection, overwrite)
        from edgeseg.cli.train import print_run

        print_run(out, record)


def _need_packages() -> None:
    need_training_packages()
    need_extra("federated")


def _demand_protection(address: Address, has_tls: bool, insecure: bool, names: str) -> None:
    """Refuse other machines without TLS, unless that is asked for."""
    if not (has_tls or insecure or address.is_local):
        raise typer.BadParameter(f"expected {names} for {address}: without TLS only this machine (or --insecure)")


app.command("serve")(serve)
app.command("join")(join)
