"""The one rule for numbers on the command line, whatever the option: finite, and no larger than C counts with."""

from __future__ import annotations

import math
from typing import Any

import typer
from typer.core import TyperCommand

LARGEST_WHOLE = 2**31 - 1
"""Frames, seeds and sizes end up in libraries that count with 32 bits."""
SHORTEST_MS = 1e-6
"""A nanosecond: a budget below it can only be a mistake."""


class NumberCommand(TyperCommand):
    """A command that refuses numbers which no option can mean; the span of each option is its own `min` and `max`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, and look at every number among them."""
        rest = super().parse_args(ctx, args)
        for option in self.params:
            for value in _list_values(ctx.params.get(str(option.name))):
                check_number(value, option.opts[-1])
        return rest


def watch_numbers(app: typer.Typer) -> None:
    """Put every command of an app, and of the groups in it, under the rule."""
    for command in app.registered_commands:
        command.cls = NumberCommand
    for group in app.registered_groups:
        if group.typer_instance is not None:
            watch_numbers(group.typer_instance)


def check_number(value: object, name: str) -> None:
    """Refuse what compares with no limit (nan), what is endless, and what overflows."""
    if isinstance(value, float) and not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, got {value}", param_hint=f"'{name}'")
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise typer.BadParameter(f"expected a number up to {LARGEST_WHOLE}, got {value}", param_hint=f"'{name}'")


def _list_values(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
