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
    Path | None, typer.Option("--json", metavar="F", help="Write the results to this file as JSON.", show_default=False)
]
OverwriteOption = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace an existing --out; the old one stays until the new one is complete."),
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        help="Layout of the data set, such as plain, coco or nnunet; by default detected.",
        show_default=False,
    ),
]
ImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help="Folder of the images, in DATA or elsewhere, where it is not found by its name.",
        show_default=False,
    ),
]
MasksOption = Annotated[
    Path | None,
    typer.Option(
        "--masks",
        metavar="DIR",
        help="Folder of the masks, in DATA or elsewhere, where it is not found by its name.",
        show_default=False,
    ),
]
ClassNameOption = Annotated[
    list[str] | None,
    typer.Option(
        "--class-name",
        metavar="NAME",
        help="Name the class of the masks; several in the order in which `data check` lists them.",
        show_default=False,
    ),
]
GroupPatternOption = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="Regular expression whose first group is the patient in an image's name; overrides groups.csv.",
        show_default=False,
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="CLASS=NAME",
        help="Match a class of the model with another class name in the data; may be repeated.",
        show_default=False,
    ),
]
MaxDropOption = Annotated[
    float,
    typer.Option(
        help="Largest Dice loss on validation cases, at the pessimistic end of its confidence interval.",
        min=0.0,
        max=1.0,
    ),
]
# A share of the cases; fewer than one in a hundred is a slip of the pen.
_SHARE = {"min": 0.01, "max": 1.0, "show_default": False}
SensitivityOption = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        help="Operating point: the share of the validation cases with the structure in which it is found.",
        **_SHARE,
    ),
]
CoverageOption = Annotated[
    float | None,
    typer.Option(
        metavar="C",
        help="Operating point: the share of those cases in which a mask is found, wherever.",
        **_SHARE,
    ),
]
ThreadsOption = Annotated[int, typer.Option(help="Number of CPU threads.", min=1, max=THREADS)]
BackendOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="Backend: auto, cpu, gpu, gpu:float16, edgetpu, edgetpu:DEVICE or onnx."),
]
NoParityOption = Annotated[
    bool,
    typer.Option(
        "--no-parity",
        help="Run a backend even if its masks differ from the golden masks in the file, at your own risk.",
    ),
]


def need_training_packages() -> None:
    """Stop where the packages of the extra `train` are not installed."""
    need_extra("train")


def need_tune_packages() -> None:
    """Stop with a sentence where `tune` lacks a package."""
    need_training_packages()
    need_extra("tune")


def need_onnx_packages() -> None:
    """Stop where the packages of the ONNX export are not installed."""
    need_extra("onnx")


def warn_of_fallback(selection: Selection) -> None:
    """Warn when a model runs on a fallback backend, or when its masks differ from the golden masks."""
    from edgeseg.backends.select import log_fallback

    name, parity = selection.backend.name, selection.parity
    log_fallback(selection)
    if parity is not None and not parity.held:
        _LOG.warning("the masks on %s are not the file's golden ones: %s.", name, parity.describe())


def save_json(path: Path | None, value: Mapping[str, Any]) -> None:
    """Write a command's figures where the user asked for them."""
    if path is not None:
        from edgeseg.core.files import write_json

        write_json(path, value)


def keep_inputs(inputs: Sequence[Path | None], outputs: Sequence[Path | None]) -> None:
    """Refuse to write onto an input, onto a folder that holds it, or twice to the same place."""
    read = [_find_place(path) for path in inputs if path is not None]
    written: set[Path] = set()
    for path in (output for output in outputs if output is not None):
        place = _find_place(path)
        if any(place in (source, *source.parents) for source in read):
            raise typer.BadParameter(f"expected another place to write than what is read, got {path}")
        if place in written:
            raise typer.BadParameter(f"expected one place for each result, got {path} twice")
        written.add(place)


def keep_apart(source: Path, out: Path) -> None:
    """Refuse a copy of a data folder inside that folder: the next search there would find every image twice."""
    if _find_place(source) in _find_place(out).parents:
        raise typer.BadParameter(f"expected a place outside of {source}, got {out}: images would lie there twice")


def _find_place(path: Path) -> Path:
    """Follow links; unlike `Path.resolve`, one that leads to itself is taken as it is."""
    return Path(os.path.realpath(path))


def join_layout(
    data: Path,
    layout: str | None,
    images: Path | None,
    masks: Path | None,
    class_names: Sequence[str] | None,
    threshold: int | None = None,
) -> str | None:
    """Join the options that say how labelled images lie into the text that a run keeps as its layout."""
    from edgeseg.data.layouts.choice import write_layout

    with usage_errors():
        return write_layout(data, layout, images, masks, class_names or (), threshold)


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn an invalid option into wrong usage (exit code 2)."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
