"""The options of `edgeseg stream`, apart from the command so that it can be read on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeseg.cli.numbers import SHORTEST_MS

ViewOption = Annotated[str, typer.Option(help="web shows a page on this machine, window a window; none shows nothing.")]
HostOption = Annotated[
    str,
    typer.Option(metavar="ADDRESS", help="Where the page is served, 0.0.0.0 for all networks; others need its token."),
]
PortOption = Annotated[int, typer.Option(help="Port of the page; 0 takes any free one.", min=0, max=65535)]
HoldOption = Annotated[bool, typer.Option(help="Show the newest frame, with the newest mask carried onto it.")]
SmoothOption = Annotated[bool, typer.Option("--smooth", help="Weigh each frame against the one before.")]
FillHolesOption = Annotated[bool, typer.Option("--fill-holes", help="Mark what a class encloses, too.")]
PixelSizeOption = Annotated[
    float | None,
    typer.Option(
        help="Millimetres per pixel, for areas in mm2; overrides what the source says.", min=1e-6, show_default=False
    ),
]
RecordOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write every mask and an index into this folder.", show_default=False),
]
RecordAsOption = Annotated[
    str, typer.Option(metavar="png|video", help="A PNG file per mask, or one video of them, without loss as well.")
]
RecordFramesOption = Annotated[
    bool, typer.Option("--record-frames", help="Write the frames as well: they are patients' data.")
]
RecordWaitOption = Annotated[
    bool, typer.Option("--record-wait", help="Record only while the page's button says so; it begins switched off.")
]
EmitOption = Annotated[
    bool, typer.Option("--emit", help="Write JSON lines with outlines to standard output, and nothing else.")
]
MetricsOption = Annotated[
    int | None,
    typer.Option(
        metavar="PORT", help="Serve figures for Prometheus on this machine.", min=0, max=65535, show_default=False
    ),
]
BudgetDeviceOption = Annotated[
    str,
    typer.Option("--device", help="The board whose budget counts; this machine's own without it.", show_default=False),
]
BudgetOption = Annotated[
    float | None,
    typer.Option(
        help="Milliseconds from a frame to its mask that are in time; by default the board's.",
        min=SHORTEST_MS,
        show_default=False,
    ),
]
MaxMissOption = Annotated[float, typer.Option(help="Share of frames that may be later than that.", min=0.0, max=1.0)]
FramesOption = Annotated[int | None, typer.Option(help="Stop after this many masks.", min=1, show_default=False)]
