"""`edgeseg doctor`: check this machine, and print the command that fixes each fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.common import GATE_NOT_HELD, JsonOption, save_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeseg.doctor import Check

COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(
    device: Annotated[
        str, typer.Option(metavar="NAME", help="Hold this machine against a board's profile.", show_default=False)
    ] = "",
    json_out: JsonOption = None,
) -> None:
    """Check this machine: packages, processor, cameras, heat; with the command that fixes each fault.

    Nothing is changed and nothing is sent anywhere. The exit code is 3 when there is a problem, 0 with warnings only.

    Example: `edgeseg doctor --device generic-aarch64 --json doctor.json`
    """
    from edgeseg.core.schema import to_plain
    from edgeseg.doctor import judge_checks
    from edgeseg.doctor.run import run_checks
    from edgeseg.machine.boards import find_nearest_board, load_board, name_board
    from edgeseg.machine.host import Machine

    board = load_board(device) if device else None
    machine = Machine()
    checks = run_checks(machine, board)
    verdict = judge_checks(checks)
    print_checks(checks)
    name = name_board(device) if device else find_nearest_board(machine.read_signs())
    save_json(json_out, {"verdict": verdict, "board": name, "checks": to_plain(checks)})
    if verdict == "problems":
        raise typer.Exit(GATE_NOT_HELD)


def print_checks(checks: Sequence[Check]) -> None:
    """Print a line for each check with its fix below, and the verdict last."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    width = max(len(check.name) for check in checks)
    for check in checks:
        line = Text.assemble((f"{check.state:<8}", COLOURS[check.state]), f" {check.name:<{width}}  {check.detail}")
        console.print(line)
        if check.fix:
            console.print(Text(f"{'':{width + 9}}  -> {check.fix}", style="cyan"))
    console.print(_sum_up(checks))


def _sum_up(checks: Sequence[Check]) -> str:
    counts = {state: sum(check.state == state for check in checks) for state in COLOURS}
    found = [f"{counts[state]} {state}{'s' * (counts[state] > 1)}" for state in ("problem", "warning") if counts[state]]
    ready = "Not ready" if counts["problem"] else "Ready"
    return f"\n{ready}: {' and '.join(found)}." if found else f"\n{ready}."
