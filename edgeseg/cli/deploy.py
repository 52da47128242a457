"""`edgeseg deploy`: one archive that installs a model on a board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.arguments import take_model
from edgeseg.cli.common import GATE_NOT_HELD, keep_inputs

if TYPE_CHECKING:
    from edgeseg.deploy.bundle import Packages, Target


def deploy(
    model: Annotated[Path, typer.Argument(help="A .tflite file, or a run folder.", metavar="MODEL|RUN")],
    device: Annotated[str, typer.Option(metavar="NAME", help="The board: a name, or a profile.toml.")],
    out: Annotated[Path, typer.Option(metavar="F.tar.gz", help="The archive to write.")],
    offline: Annotated[
        bool, typer.Option("--offline", help="Pack all that edgeseg needs, for a board without a network.")
    ] = False,
    wheel: Annotated[
        Path | None,
        typer.Option(metavar="F.whl", help="edgeseg's wheel. By default built from the checkout.", show_default=False),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY.pem", help="Sign the archive with this private key.", show_default=False),
    ] = None,
    to: Annotated[
        str, typer.Option(metavar="USER@HOST", help="Install it there, by scp and ssh.", show_default=False)
    ] = "",
) -> None:
    """Pack a model for a board: the file, edgeseg, the board's setup, a service, and scripts to manage them.

    On the board `sh install.sh` installs everything, checks masks and budget, and only then switches to the new model;
    the one before stays for a rollback. A board refuses an archive that is older than one that was in use there; with
    SOURCE_DATE_EPOCH set, the same input gives the same bytes. With --to the exit code is 3 when the model did not pass
    on the board. Not verified on hardware.

    Example: `edgeseg deploy runs/demo/int8-qat.tflite --device generic-aarch64 --out board.tar.gz`
    """
    from tempfile import TemporaryDirectory

    from edgeseg.core.files import write_bytes
    from edgeseg.core.modelfile import read_model
    from edgeseg.deploy.bundle import (
        SUFFIX,
        Target,
        find_build_time,
        gather_files,
        pack_files,
        read_public_key,
        sign_archive,
    )
    from edgeseg.deploy.remote import find_backend, send_archive
    from edgeseg.machine.boards import find_board, load_board, name_board

    model = take_model(model, f"edgeseg deploy MODEL --device {device} --out F.tar.gz")
    keep_inputs([model, wheel, sign], [out])
    target = Target(name_board(device), load_board(device), find_board(device).resolve().parent)
    file = read_model(model)
    backend = find_backend(file, target.name, target.board)
    keys = {"key.pem": read_public_key(sign)} if sign else {}
    with TemporaryDirectory() as folder:
        packages = _provide_packages(target, wheel, offline, Path(folder))
        files = gather_files(file, target, packages, keys, find_build_time())
    results = {out: pack_files(files)}
    if sign:
        results[out.with_name(out.name + SUFFIX)] = sign_archive(results[out], sign)
    for path, data in results.items():
        write_bytes(path, data)
        print(f"{path}: {len(data):,} bytes")
    if not to:
        print(f"{file.card.name} for {target.name}, on {backend}. On the board, unpack it and run: sh install.sh")
    elif send_archive(list(results), to):
        raise typer.Exit(GATE_NOT_HELD)


def _provide_packages(target: Target, wheel: Path | None, offline: bool, folder: Path) -> Packages:
    from edgeseg.deploy.bundle import Packages, fetch_needed, provide_wheel

    ours = provide_wheel(wheel, folder)
    if not offline:
        return Packages(ours)
    needed = folder / "needed"
    needed.mkdir()
    return Packages(ours, *fetch_needed(ours, target.name, target.board, needed))
