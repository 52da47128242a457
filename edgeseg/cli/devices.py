"""`edgeseg devices`: the known boards and what was verified on each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeseg.cli.common import JsonOption, keep_inputs, save_json

if TYPE_CHECKING:
    from edgeseg.machine.boards import Board

SETUP_SCRIPT = "setup.sh"
NO_SETUP = "no setup.sh in this board's folder"


def devices(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A board's name, or the path of a profile.toml.", show_default=False)
    ] = "",
    json_out: JsonOption = None,
    grafana: Annotated[
        Path | None,
        typer.Option(
            metavar="F.json", help="Write the Grafana dashboard for the figures of many boards.", show_default=False
        ),
    ] = None,
) -> None:
    """List the known boards, or show one board's profile.

    A profile recommends settings for a board, and says what was verified there and what was not.

    Example: `edgeseg devices generic-aarch64`
    """
    from edgeseg.machine.boards import DASHBOARD, catalog_folder, find_board, list_boards, load_board, name_board

    if grafana is not None:
        from edgeseg.core.files import write_bytes

        if name or json_out is not None:
            raise typer.BadParameter("expected --grafana alone: the dashboard is the same for all boards")
        keep_inputs([], [grafana])
        write_bytes(grafana, (catalog_folder("devices") / DASHBOARD).read_bytes())
        typer.echo(f"{grafana}: import it in Grafana; the figures are those of edgeseg stream --metrics.")
        return
    boards = {name_board(known): load_board(known) for known in ([name] if name else list_boards())}
    save_json(json_out, {"boards": [describe_board(known, board) for known, board in boards.items()]})
    if name:
        print_profile(name_board(name), load_board(name), find_board(name).parent / SETUP_SCRIPT)
    else:
        print_boards(boards)


def describe_board(name: str, board: Board) -> dict[str, Any]:
    """Convert a board to JSON values."""
    from edgeseg.core.schema import to_plain

    return {"name": name, "status": judge_verification(board), **to_plain(board)}


def judge_verification(board: Board) -> str:
    """Return whether all, some or none of the profile's claims were verified on such a board."""
    if not board.verified:
        return "no"
    return "partly" if board.not_verified else "yes"


def print_boards(boards: dict[str, Board]) -> None:
    """Print one row for each board."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "title", "recipe", "backends", "budget", "verified", box=box.SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    for name, board in boards.items():
        use = board.recommended
        table.add_row(
            name,
            board.title,
            use.recipes[0],
            ", ".join(use.backends),
            f"{use.budget_ms:g} ms",
            judge_verification(board),
        )
    Console(highlight=False).print(table)
    typer.echo("Show one: edgeseg devices NAME")


def print_profile(name: str, board: Board, setup: Path) -> None:
    """Print a profile."""
    typer.echo(f"{name}: {board.title}\n")
    for label, text in {**_describe_machine(board), **_describe_use(board)}.items():
        typer.echo(f"  {label:<10} {text}")
    typer.echo(f"  {'setup':<10} {setup if setup.is_file() else NO_SETUP}")
    for mode in board.power:
        typer.echo(f"  {'power':<10} {mode.name}: {mode.command}")
    _print_list("verified", board.verified)
    _print_list("not verified", board.not_verified)
    _print_list("sources", board.sources)


def _describe_machine(board: Board) -> dict[str, str]:
    signs = (*board.device_tree, *(f"USB {name}" for name in board.usb), *(f"PCI {name}" for name in board.pci))
    system = board.system
    return {
        "machine": ", ".join(board.machine),
        "identified": ", ".join(signs) or "its processor",
        "system": f"{system.name}: Python {system.python}, glibc {system.glibc}" if system else "any",
        "python": ", ".join(board.python),
        "packages": f"{', '.join(board.runtime.packages)} ({board.runtime.wheels})",
        "memory": f"at least {board.min_memory_mb} MB",
    }


def _describe_use(board: Board) -> dict[str, str]:
    use = board.recommended
    return {
        "recipe": ", ".join(use.recipes),
        "models": ", ".join(use.models),
        "sizes": ", ".join(map(str, use.sizes)),
        "backends": ", ".join(use.backends),
        "threads": str(use.threads),
        "budget": f"{use.budget_ms:g} ms per frame (a target, not a measurement)",
        "source": use.source,
    }


def _print_list(title: str, entries: tuple[str, ...]) -> None:
    typer.echo(f"\n  {title}")
    for entry in entries or ("nothing",):
        typer.echo(f"    - {entry}")
