"""Turn JSON and TOML tables into frozen dataclasses, with a sentence where they do not fit."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
_HUGE = 2**1023
"""Whole numbers from here on are no float."""
_SHOWN = 120
"""How many letters of a value a message shows."""


class MisfitError(ValueError):
    """A value does not fit the field it was given for; the caller says in which file."""


def to_plain(value: Any) -> Any:
    """Turn dataclasses and tuples into what JSON can hold."""
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
        data: The table as JSON or TOML gave it.
        where: The path of this table, for messages.
        allow_unknown: Whether fields that the dataclass does not have are passed over.

    Raises:
        MisfitError: A field is missing, unknown or of the wrong type.
    """
    if not isinstance(data, Mapping):
        raise MisfitError(f"expected a table for {where or cls.__name__}, got {_show(data)}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(fields))
    if unknown and not allow_unknown:
        raise MisfitError(f"unknown field {_join(where, str(unknown[0])[:_SHOWN])} (known: {', '.join(fields)})")
    hints = typing.get_type_hints(cls)
    given = {name: _fit(hints[name], data[name], _join(where, name), allow_unknown) for name in fields if name in data}
    for name, field in fields.items():
        if name not in given and _is_required(field):
            raise MisfitError(f"missing field {_join(where, name)}")
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
            raise MisfitError(f"expected a table for {where}, got {_show(value)}")
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
        raise MisfitError(f"expected a list for {where}, got {_show(value)}")
    if args[-1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise MisfitError(f"expected {len(args)} values for {where}, got {len(value)}")
    return tuple(
        _fit(arg, item, f"{where}[{i}]", allow_unknown) for i, (arg, item) in enumerate(zip(args, value, strict=True))
    )


def _fit_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < _HUGE:
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise MisfitError(f"expected {hint.__name__} for {where}, got {_show(value)}")
    return value


def _show(value: Any) -> str:
    """Write a value down for a message; of a long one only the beginning."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**_SHOWN else "a huge number"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
