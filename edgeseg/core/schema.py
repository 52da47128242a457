"""Schemas: frozen dataclasses from JSON and TOML tables, checked by their type annotations, and strict JSON.

A few functions of our own instead of pydantic or msgspec: each would be one more package on every board.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgeseg.core.limits import TABLE_BYTES, read_regular
from edgeseg.core.spec import check_choice

T = TypeVar("T")
# Larger integers do not fit into a float of 64 bits.
_FLOAT_LIMIT = 2**1023
# Letters of a value that a message shows.
_SHOWN_LETTERS = 120
# Nesting of tables and lists; a card needs four levels.
DEPTH = 32
# Digits of an integer; more would not fit 64 bits, and Python parses them in quadratic time.
DIGITS = 18
_KEY = "option"

# A string without end is skipped as a whole: to search again from every quote in it would take hours.
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{\]}]', re.DOTALL)


class SchemaError(ValueError):
    """A value does not fit its field; the caller adds the file's name."""


def to_plain(value: Any) -> Any:
    """Turn dataclasses and tuples into the types that JSON has."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    return value


def from_plain(cls: type[T], data: Any, where: str = "", allow_unknown: bool = False) -> T:
    """Build a dataclass from a table and check every field.

    Args:
        cls: The dataclass to build.
        data: The table as JSON or TOML was parsed.
        where: The path of this table inside the file, for messages.
        allow_unknown: Whether fields that the dataclass does not have are ignored.

    Raises:
        SchemaError: A field is missing, unknown or of the wrong type.
    """
    if not isinstance(data, Mapping):
        raise SchemaError(f"expected a table for {where or cls.__name__}, got {_show(data)}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(fields))
    if unknown and not allow_unknown:
        raise SchemaError(
            f"unknown field {_join(where, str(unknown[0])[:_SHOWN_LETTERS])} (known: {', '.join(fields)})"
        )
    hints = typing.get_type_hints(cls)
    given = {name: _fit(hints[name], data[name], _join(where, name), allow_unknown) for name in fields if name in data}
    for name, field in fields.items():
        if name not in given and _is_required(field):
            raise SchemaError(f"missing field {_join(where, name)}")
    return cls(**given)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _fit(hint: Any, value: Any, where: str, allow_unknown: bool) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _fit_optional(hint, value, where, allow_unknown)
    if origin is tuple:
        return _fit_tuple(typing.get_args(hint), value, where, allow_unknown)
    if origin in (dict, Mapping):
        item = typing.get_args(hint)[1]
        if not isinstance(value, Mapping):
            raise SchemaError(f"expected a table for {where}, got {_show(value)}")
        return {key: _fit(item, entry, _join(where, key), allow_unknown) for key, entry in value.items()}
    if dataclasses.is_dataclass(hint):
        return from_plain(typing.cast("type[Any]", hint), value, where, allow_unknown)
    return _fit_scalar(hint, value, where)


def _fit_optional(hint: Any, value: Any, where: str, allow_unknown: bool) -> Any:
    if value is None:
        return None
    inner = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    return _fit(inner, value, where, allow_unknown)


def _fit_tuple(args: tuple[Any, ...], value: Any, where: str, allow_unknown: bool) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise SchemaError(f"expected a list for {where}, got {_show(value)}")
    if args[-1] is Ellipsis:
        # a card holds a thousand numbers in such lists, and to check each by itself takes longer than all the rest
        if args[0] is float and all(type(item) is float for item in value):
            return tuple(value)
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise SchemaError(f"expected {len(args)} values for {where}, got {len(value)}")
    return tuple(
        _fit(arg, item, f"{where}[{i}]", allow_unknown) for i, (arg, item) in enumerate(zip(args, value, strict=True))
    )


def _fit_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < _FLOAT_LIMIT:
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise SchemaError(f"expected {hint.__name__} for {where}, got {_show(value)}")
    return value


def _show(value: Any) -> str:
    """Write a value for a message; a long one is cut."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**_SHOWN_LETTERS else "a huge number"
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}..."


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def parse_json(text: str) -> Any:
    """Parse JSON strictly: no repeated keys, no NaN or infinity, bounded depth and numbers.

    Raises:
        ValueError: It is no JSON, or breaks one of these rules.
    """
    _check_depth(text)
    try:
        return json.loads(
            text,
            object_pairs_hook=_build_table,
            parse_int=_parse_int,
            parse_float=_parse_float,
            parse_constant=_refuse_constant,
        )
    except RecursionError as error:  # the caller's own stack may be deep already
        raise ValueError("expected JSON of a few levels, got more than can be read here") from error


def _check_depth(text: str) -> None:
    """Count brackets before the parser sees them: it recurses and would run out of stack."""
    depth = 0
    for match in _BRACKETS.finditer(text):
        character = text[match.start()]
        depth += (character in "[{") - (character in "]}")
        if depth > DEPTH:
            raise ValueError(f"expected tables and lists of at most {DEPTH} levels, got more")


def _build_table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"expected every key once, got {twice[:80]!r} twice")
    return table


def _parse_int(text: str) -> int:
    if len(text.lstrip("-")) > DIGITS:
        raise ValueError(f"expected whole numbers of at most {DIGITS} digits, got one of {len(text)}")
    return int(text)


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"expected finite numbers, got {text[:40]}")
    return value


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"expected finite numbers, got {text}")


def read_json_table(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a table.

    Raises:
        OSError: It is not there or may not be read.
        LimitError: It is no regular file, or far too large.
        SchemaError: It is no JSON table; the caller adds what was expected.
    """
    try:
        table = parse_json(read_regular(path, TABLE_BYTES).decode("utf-8"))
    except ValueError as error:
        raise SchemaError(str(error)) from error
    if not isinstance(table, dict):
        raise SchemaError(f"expected a table, got {type(table).__name__}")
    return table


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
