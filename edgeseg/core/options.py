"""Options that are defined once: a dataclass's field carries its help, its range and its names.

The command line is built from these fields (`edgeseg.cli.options`), and the dataclass checks itself by them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from edgeseg.core.spec import check_choice

_KEY = "option"


class OptionError(ValueError):
    """A value is not allowed for an option; `field` is the option's field."""

    def __init__(self, field: str, sentence: str) -> None:
        self.field = field
        super().__init__(sentence)


@dataclass(frozen=True)
class Option:
    """What a user reads about an option, and which values it allows."""

    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    """Like `minimum`, but the value itself is not allowed."""
    below: float | None = None
    multiple_of: int = 1
    panel: str | None = None
    """The heading under which --help lists it."""
    metavar: str | None = None
    short: str | None = None
    """A second name, such as --lr."""
    former: str | None = None
    """The field's name in earlier releases, which is still read."""
    default_text: str | None = None
    """What --help shows as the default where the field's is None."""
    parse: Callable[[str], Any] | None = None
    """Reads the value from the command line's text where its type is none that a command line knows."""

    def describe_range(self) -> str:
        """Describe the allowed numbers, as a sentence goes on after the option's name."""
        high = f"below {self.below:.10g}" if self.below is not None else ""
        high = f"{self.maximum:.10g}" if self.maximum is not None else high
        step = f" that {self.multiple_of} divides" if self.multiple_of > 1 else ""
        if self.minimum is not None:
            return (f"from {self.minimum:.10g} to {high}" if high else f"of at least {self.minimum:.10g}") + step
        low = f"above {self.above:.10g}" if self.above is not None else ""
        return " and ".join(part for part in (low, high) if part) + step

    def allows(self, value: float) -> bool:
        """Say whether a number is in the range; nan and infinity never are."""
        return (
            math.isfinite(value)  # nan compares with no limit
            and (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (self.multiple_of == 1 or value % self.multiple_of == 0)
        )

    @property
    def has_range(self) -> bool:
        """Say whether numbers are limited."""
        return any(limit is not None for limit in (self.minimum, self.maximum, self.above, self.below))


def option(default: Any, help: str, **more: Any) -> Any:  # noqa: A002 - the usual name
    """Define a dataclass's field that is an option.

    Args:
        default: The field's default.
        help: One sentence for --help.
        more: The other fields of `Option`.
    """
    return dataclasses.field(default=default, metadata={_KEY: Option(help, **more)})


def list_options(cls: Any) -> Iterator[tuple[dataclasses.Field[Any], Option]]:
    """List the fields of a dataclass that are options."""
    for field in dataclasses.fields(cls):
        if _KEY in field.metadata:
            yield field, field.metadata[_KEY]


def check_options(value: Any) -> None:
    """Check every option of a dataclass against its choices or its range; None means that nothing was chosen.

    Raises:
        OptionError: A value is not allowed.
    """
    for field, spec in list_options(value):
        given = getattr(value, field.name)
        if given is None:
            continue
        name = field.name.replace("_", " ")
        if spec.choices:
            _check_choice(field.name, given, spec.choices)
        elif spec.has_range and not spec.allows(given):
            raise OptionError(field.name, f"expected {name} {spec.describe_range()}, got {given}")


def _check_choice(name: str, given: object, choices: Collection[object]) -> None:
    try:
        check_choice(name, given, choices)
    except ValueError as error:
        raise OptionError(name, str(error)) from error


def rename_former(cls: Any, table: dict[str, Any]) -> dict[str, Any]:
    """Give fields that a file of an earlier release holds their present names."""
    names = {spec.former: field.name for field, spec in list_options(cls) if spec.former}
    return {names.get(key, key) if names.get(key) not in table else key: value for key, value in table.items()}
