"""Options that say where frames come from and how they are taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

DEFAULT_SOURCE = "phantom://"
SourceArgument = Annotated[
    str | None, typer.Argument(metavar="SOURCE", help="Where frames come from, as --source says.", show_default=False)
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="SOURCE",
        help="phantom://, a camera's index or /dev/video0, csi://0, gst://PIPELINE, rtsp://, http:// (Motion JPEG), "
        "a video, image or DICOM file, a folder of images or a pattern such as 'F/*.png', - for raw frames, "
        "or browser:// for the camera of whoever has the page open.",
        show_default=DEFAULT_SOURCE,
    ),
]
RateOption = Annotated[
    str | None, typer.Option(metavar="N|max", help="Frames per second of a recorded source.", show_default="its own")
]
LoopOption = Annotated[bool, typer.Option("--loop", help="Begin a recorded source again at its end.")]
EveryFrameOption = Annotated[
    bool, typer.Option("--every-frame", help="Drop no frame of a recorded source; it waits for the model.")
]
RoiOption = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y,W,H|auto",
        help="Where the ultrasound picture is in the frame; auto looks for it.",
        show_default="as the source or the card says",
    ),
]


def choose_source(argument: str | None, option: str | None) -> str:
    """Take the source from the argument or from --source; two different ones are wrong usage."""
    if argument is not None and option is not None and argument != option:
        raise typer.BadParameter(f"expected one source, got {argument} and --source {option}")
    given = option if argument is None else argument
    return DEFAULT_SOURCE if given is None else given


@contextmanager
def live_source_errors() -> Iterator[None]:
    """Turn a live source that should wait into wrong usage (exit code 2)."""
    from edgeseg.runtime.capture import LiveSourceError

    try:
        yield
    except LiveSourceError as error:
        raise typer.BadParameter(str(error)) from error
