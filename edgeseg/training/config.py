"""config.toml: all options of a training in one file, which `edgeseg train --config` takes to repeat it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import edgeseg
from edgeseg.core.errors import TrainingError, UnknownNameError
from edgeseg.core.files import write_text
from edgeseg.core.options import list_options
from edgeseg.core.redact import is_printable
from edgeseg.core.schema import from_plain
from edgeseg.machine.boards import read_toml
from edgeseg.training.options import TrainOptions

CONFIG = "config.toml"
_LONGEST = 255
"""Letters of a name, or of an option that is text; a message quotes both. Paths and patterns may be longer."""
_OPTIONS = tuple(field.name for field in fields(TrainOptions))
_OTHER_NAMES = {
    name.strip("-"): field.name
    for field, spec in list_options(TrainOptions)
    for name in (spec.short, spec.former)
    if name is not None
}


@dataclass(frozen=True)
class TrainInputs:
    """What a training reads, and how the cases are divided."""

    data: Path | None = None
    init: Path | None = None
    folds: int | None = None
    layout: str | None = None
    group_pattern: str | None = None


_INPUTS = tuple(field.name for field in fields(TrainInputs))


def read_config(path: Path) -> dict[str, Any]:
    """Read the options that a file names, by their fields; paths in it are relative to its folder.

    Raises:
        OSError: It is not there or may not be read.
        EdgesegError: It is no TOML file, or a name or a value in it is not allowed.
    """
    table = _name_fields(read_toml(path))
    for name in ("data", "init"):
        if isinstance(table.get(name), str):
            table[name] = path.parent / table[name]
    try:
        from_plain(TrainOptions, {name: value for name, value in table.items() if name in _OPTIONS})
        from_plain(TrainInputs, {name: value for name, value in table.items() if name in _INPUTS})
    except ValueError as error:
        raise TrainingError(
            f"Expected the options of a training in {path}, got: {error}.", "edgeseg train --help explains every one."
        ) from error
    return table


def _name_fields(table: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the names of options, as the command line writes them, into those of fields."""
    named: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        name = _OTHER_NAMES.get(name, name)
        if name not in (*_OPTIONS, *_INPUTS):
            raise UnknownNameError("training option", key[:_LONGEST], (*_OPTIONS, *_INPUTS))
        if name in _OPTIONS and isinstance(value, str) and len(value) > _LONGEST:
            raise TrainingError(f"Expected at most {_LONGEST} letters for {key}, got {len(value)}.", "Shorten it.")
        if name in named:
            raise TrainingError(f"Expected {name} once in the config, got it twice.", "Remove one of the lines.")
        named[name] = value
    return named


def write_config(folder: Path, out: Path, options: TrainOptions, inputs: TrainInputs) -> None:
    """Write config.toml.

    Args:
        folder: The folder to write it into.
        out: Where that folder will be in the end; the paths in the file are relative to it.
        options: What was chosen.
        inputs: What is read.
    """
    write_text(folder / CONFIG, "\n".join(_list_lines(out, options, inputs)) + "\n")


def _list_lines(out: Path, options: TrainOptions, inputs: TrainInputs) -> Iterator[str]:
    values: dict[str, Any] = {
        name: os.path.relpath(value, out) if isinstance(value, Path) else value for name, value in vars(inputs).items()
    }
    help_texts = {field.name: spec.help for field, spec in list_options(options)}
    yield f"# All options of a training with edgeseg {edgeseg.__version__}. Train again, from this folder:"
    yield f"#     edgeseg train --config {CONFIG} --out NEW"
    yield "# which is the same as:"
    yield f"#     {_write_command(options, values)}"
    yield ""
    for name, value in values.items():
        yield _write_line(name, value)
    yield ""
    for name in _OPTIONS:
        yield f"# {help_texts[name]}"
        yield _write_line(name, getattr(options, name))


def _write_command(options: TrainOptions, inputs: Mapping[str, Any]) -> str:
    usual = TrainOptions()
    changed = {name: getattr(options, name) for name in _OPTIONS if getattr(options, name) != getattr(usual, name)}
    words = ["edgeseg", "train", str(inputs["data"]), "--out", "NEW"]
    for name, value in {**{name: value for name, value in inputs.items() if name != "data"}, **changed}.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    command = shlex.join(words)
    return command if is_printable(command) else "(no command: a name in it cannot be written in UTF-8)"


def _write_line(name: str, value: Any) -> str:
    if value is None:
        return f"# {name} is not set"
    if isinstance(value, str):
        # TOML is UTF-8; a file name on Linux may be any bytes
        if not is_printable(value):
            return f"# {name} cannot be written in TOML: {json.dumps(value)}"
        value = json.dumps(value, ensure_ascii=False)
    return f"{name} = {value}"
