"""`edgeseg deploy`: one archive that installs a model on a board or on many; `edgeseg fleet`: what these carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.arguments import take_model, with_options
from edgeseg.cli.common import GATE_NOT_HELD, JsonOption, keep_inputs, save_json
from edgeseg.cli.tables import print_table
from edgeseg.cli.terminal import repeatable
from edgeseg.deploy.options import PANEL, FleetOptions

if TYPE_CHECKING:
    from edgeseg.deploy.bundle import Packages, Target
    from edgeseg.deploy.fleet import Parcel, RollOut
    from edgeseg.deploy.inventory import FleetBoard

GroupsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--group", metavar="NAME", help="Only the boards of this group; may be repeated.", rich_help_panel=PANEL
    ),
]


@with_options()
def deploy(
    model: Annotated[Path, typer.Argument(help="A .tflite file, or a run folder.", metavar="MODEL|RUN")],
    device: Annotated[str, typer.Option(metavar="NAME", help="The board: a name, or a profile.toml.")],
    out: Annotated[Path, typer.Option(metavar="F.tar.gz", help="The archive to write.")],
    *,
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
    fleet: Annotated[
        Path | None,
        typer.Option(
            metavar="INVENTORY.toml",
            help="Install it on these boards: on one, on a share, then on all; back everywhere when a check fails.",
            show_default=False,
        ),
    ] = None,
    groups: GroupsOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Look at the boards and show the stages; change nothing.", rich_help_panel=PANEL
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Begin anew although another roll-out is not finished.", rich_help_panel=PANEL
        ),
    ] = False,
    json_out: JsonOption = None,
    options: FleetOptions,
) -> None:
    """Pack a model for a board: the file, edgeseg, the board's setup, a service, and scripts to manage them.

    On the board `sh install.sh` installs everything, checks masks and budget, and only then switches to the new model;
    the one before stays for a rollback. A board refuses an archive that is older than one that was in use there; with
    SOURCE_DATE_EPOCH set, the same input gives the same bytes. With --to and --fleet the exit code is 3 when the model
    did not pass on a board. The same command continues a roll-out that was interrupted. Not verified on hardware.

    Example: `edgeseg deploy runs/demo/int8-qat.tflite --device generic-aarch64 --out board.tar.gz`
    """
    from tempfile import TemporaryDirectory

    from edgeseg.core.modelfile import read_model
    from edgeseg.deploy.bundle import Target, find_build_time, find_release, gather_files, read_public_key
    from edgeseg.deploy.fleet import Parcel, state_path
    from edgeseg.deploy.inventory import read_inventory
    from edgeseg.deploy.remote import find_backend, send_archive
    from edgeseg.machine.boards import find_board, load_board, name_board

    model = take_model(model, f"edgeseg deploy MODEL --device {device} --out F.tar.gz")
    keep_inputs([model, wheel, sign, fleet, state_path(fleet) if fleet else None], [out, json_out])
    if to and fleet:
        raise typer.BadParameter("expected either --to or --fleet, got both")
    if not fleet and (groups or dry_run or overwrite or json_out):
        raise typer.BadParameter("expected --fleet beside --group, --dry-run, --overwrite and --json")
    boards = read_inventory(fleet, groups or ()) if fleet else ()
    target = Target(name_board(device), load_board(device), find_board(device).resolve().parent)
    file = read_model(model)
    backend = find_backend(file, target.name, target.board)
    keys = {"key.pem": read_public_key(sign)} if sign else {}
    with TemporaryDirectory() as folder:
        packages = _provide_packages(target, wheel, offline, Path(folder))
        files = gather_files(file, target, packages, keys, find_build_time())
        # a dry run leaves nothing behind
        written = _write_archive(files, Path(folder) / out.name if dry_run else out, sign)
        for path in written:
            print(f"{path.name if dry_run else path}: {path.stat().st_size:,} bytes")
        if fleet:
            unpacked, board = sum(map(len, files.values())), target.board
            parcel = Parcel(written, find_release(files), board.machine, unpacked, board.device_tree)
            _roll_out(fleet, boards, parcel, options, dry_run, overwrite, json_out)
        elif not to:
            print(f"{file.card.name} for {target.name}, on {backend}. On the board, unpack it and run: sh install.sh")
        elif send_archive(written, to):
            raise typer.Exit(GATE_NOT_HELD)


def _write_archive(files: Mapping[str, bytes], out: Path, key: Path | None) -> tuple[Path, ...]:
    """Write an archive and, with a key, its signature beside it."""
    from edgeseg.core.files import write_bytes
    from edgeseg.deploy.bundle import SUFFIX, pack_files, sign_archive

    results = {out: pack_files(files)}
    if key:
        results[out.with_name(out.name + SUFFIX)] = sign_archive(results[out], key)
    for path, data in results.items():
        write_bytes(path, data)
    return tuple(results)


def _roll_out(
    inventory: Path,
    boards: Sequence[FleetBoard],
    parcel: Parcel,
    options: FleetOptions,
    dry_run: bool,
    overwrite: bool,
    json_out: Path | None,
) -> None:
    from edgeseg.core.marks import held_file
    from edgeseg.deploy.fleet import GOING_BACK, Fleet, prepare

    with held_file(inventory), repeatable():
        planned = prepare(inventory, boards, parcel, options, overwrite)
        if dry_run:
            _show_roll_out(planned, "The roll-out would be", json_out)
            return
        work = Fleet(inventory, boards, options, planned)
        ended = work.go_back() if planned.outcome == GOING_BACK else work.go_on(parcel)
    _show_roll_out(ended, "Roll-out", json_out)
    _judge(inventory, ended)


def _judge(inventory: Path, ended: RollOut) -> None:
    """End with an error where the roll-out did not get to its end."""
    from edgeseg.core.errors import DeployError
    from edgeseg.deploy.fleet import DONE, GOING_BACK

    if ended.outcome == DONE:
        return
    if ended.outcome == GOING_BACK:
        raise DeployError(
            f"Expected all boards to go back from {ended.release}, got some that did not; stopped at {ended.reason}.",
            f"When they can be reached again: edgeseg fleet {inventory} --rollback",
        )
    if ended.gate_failed:
        typer.echo(f"edgeseg: Stopped, and went back, at {ended.reason}.", err=True)
        raise typer.Exit(GATE_NOT_HELD)
    raise DeployError(f"The roll-out stopped, and went back, at {ended.reason}.", "Correct that, and repeat it.")


def _show_roll_out(state: RollOut, title: str, json_out: Path | None) -> None:
    rows = [(b.name, str(b.stage or ""), b.state, b.now or "nothing", b.before or "nothing") for b in state.boards]
    columns = ("board", "stage", "state", "in use", "before")
    print_table(f"{title} of {state.release}: {state.outcome}", columns, rows)
    print("\n".join(f"{board.name}: {board.sentence}" for board in state.boards if board.sentence))
    save_json(json_out, state.to_json())


@with_options(only=("parallel", "timeout_s"))
def fleet(
    inventory: Annotated[Path, typer.Argument(metavar="INVENTORY.toml", help="The boards.")],
    *,
    groups: GroupsOption = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check masks and budget on every board; exit code 3 when one fails.")
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Bring the boards of the last roll-out back to what they had before.")
    ] = False,
    json_out: JsonOption = None,
    options: FleetOptions,
) -> None:
    """Show which board carries what, or bring the boards of the last roll-out back.

    Example: `edgeseg fleet fleet.toml`
    """
    if rollback and (verify or groups):
        raise typer.BadParameter("expected --rollback alone: it brings back all boards of the last roll-out")
    from edgeseg.deploy.fleet import state_path
    from edgeseg.deploy.inventory import read_inventory

    keep_inputs([inventory, state_path(inventory)], [json_out])
    boards = read_inventory(inventory, groups or ())
    if rollback:
        _go_back(inventory, boards, options, json_out)
    else:
        with repeatable(kept=False):
            _show_fleet(inventory, boards, verify, options, json_out)


def _go_back(inventory: Path, boards: Sequence[FleetBoard], options: FleetOptions, json_out: Path | None) -> None:
    from edgeseg.core.marks import held_file
    from edgeseg.deploy.fleet import GOING_BACK, Fleet, find_return

    with held_file(inventory), repeatable():
        ended = Fleet(inventory, boards, options, find_return(inventory, boards)).go_back()
    _show_roll_out(ended, "Roll-out", json_out)
    if ended.outcome == GOING_BACK:
        _judge(inventory, ended)


def _show_fleet(
    inventory: Path, boards: Sequence[FleetBoard], verify: bool, options: FleetOptions, json_out: Path | None
) -> None:
    from edgeseg.core.errors import DeployError
    from edgeseg.deploy.fleet import read_state, verify_all
    from edgeseg.deploy.inventory import look_at_all

    last = read_state(inventory)
    found = look_at_all(boards, options)
    verdicts = verify_all([board for board in boards if found[board.name].now], options) if verify else {}
    in_roll_out = {board.name: board.state for board in last.boards} if last else {}
    table = [
        {
            "name": board.name,
            "groups": list(board.groups),
            "reached": found[board.name].reached,
            "now": found[board.name].now,
            "before": found[board.name].before,
            "roll_out": in_roll_out.get(board.name, ""),
            "verify": verdicts.get(board.name, ""),
            "sentence": found[board.name].sentence,
        }
        for board in boards
    ]
    _print_fleet(inventory, table, last)
    save_json(json_out, {"boards": table, "roll_out": last.to_json() if last else None})
    failed = [name for name, verdict in verdicts.items() if verdict != "passed"]
    if failed:
        typer.echo(f"edgeseg: {', '.join(failed)} did not pass, see the table.", err=True)
        raise typer.Exit(GATE_NOT_HELD)
    lost = [row["name"] for row in table if not row["reached"]]
    if len(lost) == len(table):
        raise DeployError("Expected at least one board that can be reached, got none.", "Check that ssh reaches them.")


def _print_fleet(inventory: Path, table: Sequence[Mapping[str, object]], last: RollOut | None) -> None:
    rows = [
        (
            str(row["name"]),
            str(row["now"] or "nothing") if row["reached"] else "not reached",
            str(row["before"] or "nothing") if row["reached"] else "",
            str(row["roll_out"]),
            str(row["verify"]),
        )
        for row in table
    ]
    said = f"; the last roll-out, of {last.release}, is {last.outcome}" if last else ""
    print_table(f"Boards of {inventory}{said}", ("board", "in use", "before", "roll-out", "verify"), rows)
    print("\n".join(f"{row['name']}: {row['sentence']}" for row in table if row["sentence"]))


def _provide_packages(target: Target, wheel: Path | None, offline: bool, folder: Path) -> Packages:
    from edgeseg.deploy.bundle import Packages, fetch_needed, provide_wheel

    ours = provide_wheel(wheel, folder)
    if not offline:
        return Packages(ours)
    needed = folder / "needed"
    needed.mkdir()
    return Packages(ours, *fetch_needed(ours, target.name, target.board, needed))
