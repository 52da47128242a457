"""What several commands share: exit codes, common options and checks."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeseg.core.install import need_extra
from edgeseg.core.limits import THREADS

if TYPE_CHECKING:
    from edgeseg.backends.select import Selection

_LOG = logging.getLogger(__name__)
GATE_NOT_HELD = 3

JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="F", help="Write the figures to this file as JSON.", show_default=False)
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace what stands at --out; it stays until the new one is whole.")
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        help="How the files lie: plain, labelmap, busi, hc18, nerve, camus, arrays or dicom; found by itself.",
        show_default=False,
    ),
]
GroupPatternOption = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="What its first parentheses match in an image's name is the image's group; goes before groups.csv.",
        show_default=False,
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="CLASS=NAME",
        help="A class of the model that goes by another name there; once for each.",
        show_default=False,
    ),
]
AugmentOption = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help="How images are varied: all, none, some (flip,rotation) or all but some (-shadow,-elastic).",
    ),
]
DenoiseOption = Annotated[str, typer.Option(help="Filter in front of the network: none, median or speckle.")]
ThreadsOption = Annotated[int, typer.Option(help="CPU threads the model may use.", min=1, max=THREADS)]
BackendOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="auto, cpu, gpu or gpu:float16, edgetpu or edgetpu:DEVICE, onnx."),
]
NoParityOption = Annotated[
    bool,
    typer.Option("--no-parity", help="Go on, at your own risk, where the masks are not the file's golden ones."),
]


def need_training_packages() -> None:
    """Stop with a sentence where the workstation's packages are not installed."""
    need_extra("train")


def need_tune_packages() -> None:
    """Stop with a sentence where `tune` lacks a package."""
    need_training_packages()
    need_extra("tune")


def need_onnx_packages() -> None:
    """Stop with a sentence where the packages of the ONNX export are not installed."""
    need_extra("onnx")


def tell_selection(selection: Selection) -> None:
    """Warn when a model runs on something else than first wanted, or draws other masks than it should."""
    name, parity = selection.backend.name, selection.parity
    if selection.fallback_reason is not None:
        _LOG.warning("runs on %s, since: %s", name, selection.fallback_reason)
    if parity is not None and not parity.held:
        _LOG.warning("the masks on %s are not the file's golden ones: %s.", name, parity.describe())


def save_json(path: Path | None, value: Mapping[str, Any]) -> None:
    """Write a command's figures where the user asked for them."""
    if path is not None:
        from edgeseg.core.files import write_json

        write_json(path, value)


def keep_inputs(inputs: Sequence[Path | None], outputs: Sequence[Path | None]) -> None:
    """Refuse to write onto what is read, onto a folder that holds it, or twice onto the same."""
    read = [_find_place(path) for path in inputs if path is not None]
    written: set[Path] = set()
    for path in (output for output in outputs if output is not None):
        place = _find_place(path)
        if any(place in (source, *source.parents) for source in read):
            raise typer.BadParameter(f"expected another place to write than what is read, got {path}")
        if place in written:
            raise typer.BadParameter(f"expected one place for each result, got {path} twice")
        written.add(place)


def _find_place(path: Path) -> Path:
    """Follow links; unlike `Path.resolve`, one that leads to itself is taken as it is."""
    return Path(os.path.realpath(path))


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn an option that does not check out into wrong usage (exit code 2)."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
