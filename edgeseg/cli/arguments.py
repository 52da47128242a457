"""The command line's arguments: options built from dataclasses, ranges of numbers, misplaced arguments."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from edgeseg.core.errors import ModelFileError
from edgeseg.core.redact import redact
from edgeseg.core.schema import Option, OptionError, list_options

Given = TypeVar("Given", str, Path)
# Options of the program that every command takes as well.
EVERYWHERE = ("verbose", "quiet")
# Entries of a folder that are looked at for an image; a folder on a slow network must not hold a command.
_LOOKED_AT = 2000
# Frames, seeds and sizes end up in libraries that count with 32 bits.
LARGEST_WHOLE = 2**31 - 1
# A nanosecond: a budget below it can only be a mistake.
SHORTEST_MS = 1e-6
Command = Callable[..., None]
_CONTEXT = "context"
CONFIG = "config"

_LOG = logging.getLogger(__name__)


class SecretlessGroup(TyperGroup):
    """Hides secrets in usage errors: these may quote an argument, which may be an address with a password."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read what stands before the command."""
        with _without_secrets():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Read the command's own arguments, and run it."""
        with _without_secrets():
            return super().invoke(ctx)


@contextmanager
def _without_secrets() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # typer has brought its own copy of click's classes of late: what they share is that they can be shown
        if hasattr(error, "format_message") and isinstance(vars(error).get("message"), str):
            vars(error)["message"] = redact(vars(error)["message"])
        raise


# Of a source such as phantom://; a path keeps one of the two slashes, or none at its end.
_SCHEME = re.compile(r"[a-z+]+:(/|$)")


def take_model(path: Path, usage: str, ensembles: bool = False) -> Path:
    """Find the model file that MODEL means, or refuse an argument that is clearly something else.

    Args:
        path: A model file, or a folder that train, compress or search wrote.
        usage: The correct command, for the error message.
        ensembles: Whether the folder of a cross-validation is taken as it is, for all its networks together.

    Raises:
        typer.BadParameter: It is an image, a recording, a source or a folder of images.
        ModelFileError: The folder holds no model file, or several.
    """
    from edgeseg.core.modelfile import find_model, is_ensemble

    kind = _name_other(path)
    if kind is None:
        return path if ensembles and is_ensemble(path) else find_model(path)
    raise typer.BadParameter(f"expected a model file or a run as MODEL, got {kind}: {path}. Type: {usage}")


def take_run(path: Path, usage: str) -> Path:
    """Refuse as RUN what cannot be trained further: a model file, images, a source."""
    from edgeseg.core.modelfile import ENDINGS

    kind = f"a {path.suffix} file" if path.suffix in ENDINGS else _name_other(path)
    if kind is None:
        return path
    raise typer.BadParameter(f"expected a finished run as RUN, got {kind}: {path}. Type: {usage}")


def put_model_first(first: Given, second: Given) -> tuple[Given, Given]:
    """Swap two arguments when only the second can be the model, and warn."""
    place = Path(first)
    if is_model(place) or not is_model(Path(second)) or not (place.is_dir() or _name_other(place)):
        return first, second
    _LOG.warning("MODEL comes first: %s was taken as the model, and not %s.", second, first)
    return second, first


def is_model(path: Path) -> bool:
    """Say whether a path is a model file, or a folder of edgeseg's that holds one."""
    from edgeseg.core.modelfile import ENDINGS, find_model, is_ensemble

    if path.is_file():
        return path.suffix in ENDINGS
    if is_ensemble(path):
        return True
    try:
        return path.is_dir() and find_model(path) != path
    except ModelFileError:
        return False


def _name_other(path: Path) -> str | None:
    """Name what a path is when it is certainly no model."""
    from edgeseg.core.modelfile import PRETRAINING
    from edgeseg.frame.images import SUFFIXES
    from edgeseg.streaming.options import RECORDING
    from edgeseg.streaming.sources import files

    suffix = path.suffix.lower()
    if (path / PRETRAINING).is_file():
        return "a pretraining, which draws no masks and which train --init starts from"
    if (path / RECORDING).is_file():
        return "a recording, which edgeseg stream --play shows"
    if _SCHEME.match(str(path)) or (str(path).isdecimal() and not path.exists()):
        return "a source of frames"
    if suffix in SUFFIXES:
        return "an image"
    if suffix in (*files.VIDEO_SUFFIXES, *files.DICOM_SUFFIXES):
        return "a recording"
    if path.is_dir() and not is_model(path) and _holds_images(path):
        return "a folder of images"
    return None


def _holds_images(folder: Path) -> bool:
    """Say whether a folder or one of its subfolders holds images."""
    from edgeseg.frame.images import SUFFIXES
    from edgeseg.streaming.sources import files

    entries = (entry for pattern in ("*", "*/*") for entry in folder.glob(pattern))
    known = {*SUFFIXES, *files.DICOM_SUFFIXES}
    return any(entry.suffix.lower() in known for entry in islice(entries, _LOOKED_AT))


class NumberCommand(TyperCommand):
    """Refuses nan, infinity and overflow for every option; the range of an option is its own `min` and `max`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """List the command's own options, and those of the program that may stand behind the command, too."""
        return [*super().get_params(ctx), *(one for one in ctx.find_root().command.params if one.name in EVERYWHERE)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments and check every number."""
        rest = super().parse_args(ctx, args)
        for option in self.params:
            for value in _list_values(ctx.params.get(str(option.name))):
                check_number(value, option.opts[-1])
        return rest


def watch_numbers(app: typer.Typer) -> None:
    """Make every command of an app and of its groups a `NumberCommand`."""
    for command in app.registered_commands:
        command.cls = NumberCommand
    for group in app.registered_groups:
        if group.typer_instance is not None:
            watch_numbers(group.typer_instance)


def check_number(value: object, name: str) -> None:
    """Refuse nan, which compares with no limit, infinity, and numbers of more than 32 bits."""
    if isinstance(value, float) and not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, got {value}", param_hint=f"'{name}'")
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise typer.BadParameter(f"expected a number up to {LARGEST_WHOLE}, got {value}", param_hint=f"'{name}'")


def _list_values(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


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
    only: Collection[str] | None = None,
) -> Callable[[Command], Command]:
    """Replace every parameter of a command that is a dataclass with options by these options.

    The command still gets the dataclass, built and checked; a value that it refuses is wrong usage (exit code 2).

    Args:
        defaults: Defaults of this command that differ from those of the fields.
        panel: Take only the options under this heading.
        only: Take only the options of these fields.
        read_config: Reads the file of --config: values for options and parameters that the command line leaves out.
    """

    def decorate(function: Command) -> Command:
        # not get_type_hints: before Python 3.11 it makes Optional[Annotated[...]] of a parameter with the default None
        given_parameters = inspect.signature(function, eval_str=True).parameters
        hints = {name: parameter.annotation for name, parameter in given_parameters.items()}
        classes = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
        lines = {name: list(_list_lines(hint, defaults or {}, panel, only)) for name, hint in classes.items()}
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


def _list_lines(
    cls: Any, defaults: Mapping[str, Any], panel: str | None, only: Collection[str] | None
) -> Iterator[_Line]:
    hints = get_type_hints(cls)
    for field, spec in list_options(cls):
        if panel in (None, spec.panel) and (only is None or field.name in only):
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
