"""Commands built from dataclasses: each field that is an option becomes one of the command line."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from edgeseg.core.options import Option, OptionError, list_options

Command = Callable[..., None]
_LOG = logging.getLogger(__name__)
_CONTEXT = "context"
CONFIG = "config"


@dataclass(frozen=True)
class _Line:
    """One option of the command line, and the field that it fills."""

    field: str
    type: Any
    default: Any
    spec: Option

    @property
    def is_switch(self) -> bool:
        return self.type is bool

    @property
    def names(self) -> tuple[str, ...]:
        return (_to_flag(self.field, self.default is True), *((self.spec.short,) if self.spec.short else ()))

    def parameter(self) -> inspect.Parameter:
        """Build the parameter that typer makes an option of."""
        shown: Any = self.spec.default_text or self.default is not None
        kind = (str | None) if self.spec.parse else self.type
        return _build_parameter(self.field, kind, self.default, _option(self.spec, self.names, show_default=shown))

    def former_parameter(self) -> inspect.Parameter | None:
        """Build the hidden parameter for the option's former name."""
        if self.spec.former is None:
            return None
        names = (_to_flag(self.spec.former, self.is_switch),)
        return _build_parameter(self.spec.former, self.type | None, None, _option(self.spec, names, hidden=True))


def with_options(
    defaults: Mapping[str, Any] | None = None,
    panel: str | None = None,
    read_config: Callable[[Path], Mapping[str, Any]] | None = None,
) -> Callable[[Command], Command]:
    """Replace every parameter of a command that is a dataclass with options by these options.

    The command still gets the dataclass, built and checked; a value that it refuses is wrong usage (exit code 2).

    Args:
        defaults: Defaults of this command that differ from those of the fields.
        panel: Take only the options under this heading.
        read_config: Reads the file of --config: values for options and parameters that the command line leaves out.
    """

    def decorate(function: Command) -> Command:
        hints = get_type_hints(function, include_extras=True)
        classes = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
        lines = {name: list(_list_lines(hint, defaults or {}, panel)) for name, hint in classes.items()}
        every = [line for group in lines.values() for line in group]

        @wraps(function)
        def command(**given: Any) -> None:
            chosen = _list_chosen(given.pop(_CONTEXT), given)
            _take_former(every, given, chosen)
            if read_config is not None and given[CONFIG] is not None:
                given |= {name: value for name, value in read_config(given[CONFIG]).items() if name not in chosen}
            for name, group in lines.items():
                given[name] = _build(classes[name], group, {line.field: given.pop(line.field) for line in group})
            function(**given)

        parameters = [*_list_parameters(function, hints, lines), *_list_former_parameters(every)]
        # typer reads both: the signature for names and defaults, the annotations for types
        vars(command)["__signature__"] = inspect.Signature(parameters)
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


def _list_parameters(
    function: Command, hints: Mapping[str, Any], lines: Mapping[str, list[_Line]]
) -> Iterator[inspect.Parameter]:
    """List a command's parameters, with the options in place of their dataclasses."""
    kind = inspect.Parameter.KEYWORD_ONLY
    yield inspect.Parameter(_CONTEXT, kind, annotation=typer.Context)
    for name, parameter in inspect.signature(function).parameters.items():
        if name in lines:
            yield from (line.parameter() for line in lines[name])
        else:
            yield parameter.replace(annotation=hints[name], kind=kind)


def _list_former_parameters(lines: list[_Line]) -> Iterator[inspect.Parameter]:
    yield from (former for line in lines if (former := line.former_parameter()) is not None)


def _list_lines(cls: Any, defaults: Mapping[str, Any], panel: str | None) -> Iterator[_Line]:
    hints = get_type_hints(cls)
    for field, spec in list_options(cls):
        if panel is None or spec.panel == panel:
            yield _Line(field.name, hints[field.name], defaults.get(field.name, field.default), spec)


def _option(spec: Option, names: tuple[str, ...], **more: Any) -> Any:
    low = spec.above if spec.minimum is None else spec.minimum
    high = spec.below if spec.maximum is None else spec.maximum
    metavar = spec.metavar or "|".join(spec.choices) or None
    return typer.Option(*names, help=spec.help, rich_help_panel=spec.panel, metavar=metavar, min=low, max=high, **more)


def _build_parameter(name: str, kind: Any, default: Any, option: Any) -> inspect.Parameter:
    annotation = Annotated[kind, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _to_flag(name: str, has_opposite: bool = False) -> str:
    flag = name.replace("_", "-")
    return f"--{flag}/--no-{flag}" if has_opposite else f"--{flag}"


def _list_chosen(context: typer.Context, names: Mapping[str, Any]) -> set[str]:
    """List the parameters that stand on the command line itself."""
    # compared by name: typer 0.29 brings its own copy of click, so there is no one ParameterSource to import
    sources = {name: context.get_parameter_source(name) for name in names}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def _take_former(lines: list[_Line], given: dict[str, Any], chosen: set[str]) -> None:
    """Move what was given under a former name to the present one."""
    for line in lines:
        former = line.spec.former
        if former is None or (value := given.pop(former)) is None:
            continue
        old, new = _to_flag(former), line.names[0].split("/")[0]
        if line.field in chosen:
            raise typer.BadParameter(f"expected {new} or its former name {old}, got both")
        _LOG.warning("%s is now called %s.", old, new)
        given[line.field] = value
        chosen.add(line.field)


def _build(cls: Any, lines: list[_Line], values: dict[str, Any]) -> Any:
    """Build the dataclass; what it refuses is wrong usage that names the option."""
    for line in lines:
        if line.spec.parse is not None and isinstance(values[line.field], str):
            values[line.field] = _parse(line, values[line.field])
    try:
        return cls(**values)
    except OptionError as error:
        wrong = next((line for line in lines if line.field == error.field), None)
        raise typer.BadParameter(str(error), param_hint=_name(wrong) if wrong else None) from error
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _parse(line: _Line, text: str) -> Any:
    assert line.spec.parse is not None
    try:
        return line.spec.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=_name(line)) from error


def _name(line: _Line) -> str:
    return " / ".join(f"'{name}'" for name in line.names)
