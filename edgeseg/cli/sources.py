"""Options that say where frames come from and how they are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgeseg.runtime.capture import CaptureOptions
    from edgeseg.runtime.sources.base import Source

SourceOption = Annotated[
    str,
    typer.Option(
        help="phantom://, a camera's index or /dev/video0, csi://0, gst://PIPELINE, rtsp://, http:// (Motion JPEG), "
        "a video or DICOM file, a folder of images or a pattern such as 'F/*.png', - for raw frames, "
        "or browser:// for the camera of whoever has the page open."
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


def open_for_use(text: str, colour: bool, options: CaptureOptions) -> Source:
    """Open a source; a live one that should wait is wrong usage (exit code 2)."""
    from edgeseg.runtime.capture import LiveSourceError
    from edgeseg.runtime.sources.choose import open_source

    try:
        return open_source(text, colour, options)
    except LiveSourceError as error:
        raise typer.BadParameter(str(error)) from error
