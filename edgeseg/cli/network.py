"""The options that say what the network looks like; `train` and `model` share them."""

from __future__ import annotations

from typing import Annotated

import typer

PANEL = "Network"

ModelOption = Annotated[
    str, typer.Option(help="Size of the U-Net: nano, micro, small, base or classic.", rich_help_panel=PANEL)
]
SizeOption = Annotated[
    int, typer.Option(help="Height and width of the network's input.", min=32, max=1024, rich_help_panel=PANEL)
]
ColourOption = Annotated[str, typer.Option(help="What the network sees: grey or rgb.", rich_help_panel=PANEL)]
StemOption = Annotated[
    str | None,
    typer.Option(
        help="Where the network leaves full resolution, and draws its mask: quarter (fastest), half, depth (half, by a "
        "2x2 convolution) or full. By default quarter, for classic full.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
SkipOption = Annotated[
    str | None,
    typer.Option(
        help="How a stage up takes in its counterpart: add or concat. By default add, for classic concat.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
UpsamplingOption = Annotated[
    str | None,
    typer.Option(
        help="How a stage up is enlarged: bilinear or transpose. By default bilinear, for classic transpose.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
ConvolutionOption = Annotated[
    str, typer.Option(help="plain, or separable into depthwise 3x3 and 1x1.", rich_help_panel=PANEL)
]
ActivationOption = Annotated[
    str,
    typer.Option(help="sigmoid: each class by itself; softmax: one class for every pixel.", rich_help_panel=PANEL),
]
