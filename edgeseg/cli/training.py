"""The options that say how a network is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

PANEL = "Training"


def _option(help_text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=PANEL, **more)


EpochsOption = Annotated[
    int | None,
    _option("Passes over the images; by default 50 to 400, for about 14,530 steps.", min=1, show_default=False),
]
BatchOption = Annotated[int, _option("Images of a step, shared by all devices.", min=1)]
LearningRateOption = Annotated[float, _option("The highest rate of the schedule.", min=0.0)]
ScheduleOption = Annotated[
    str, _option("cosine falls to zero; plateau halves the rate where the validation Dice stalls.")
]
PatienceOption = Annotated[
    int | None, _option("Stop after so many epochs without a better validation Dice.", min=1, show_default=False)
]
LossOption = Annotated[str, _option("bce, dice, bce-dice, bce-dice-all, focal-tversky, boundary or l1-gradient.")]
ClassWeightsOption = Annotated[
    str, _option("auto lets rare classes count more in the loss; none lets all count alike.")
]
DropoutOption = Annotated[float, _option("Share of the deepest stage's channels that are left out.", min=0.0, max=1.0)]
L2Option = Annotated[float, _option("Weight of the kernels' squares.", "--l2", min=0.0)]
AverageOption = Annotated[
    float, _option("Share of the weights' moving average that stays at a step; 0: none.", min=0.0, max=1.0)
]
PrecisionOption = Annotated[str, _option("float32, or mixed: 16-bit arithmetic where the hardware has it.")]
StrategyOption = Annotated[str, _option("one device, mirrored on all of this machine, or multi-worker by TF_CONFIG.")]
SeedOption = Annotated[int, _option("Divides the cases and starts the network.", min=0)]
InitOption = Annotated[Path | None, _option("Start the encoder from this finished run.", show_default=False)]
FoldsOption = Annotated[int | None, _option("Cross-validate: one run per fold, by group.", min=3, show_default=False)]
ResumeOption = Annotated[
    bool, _option("Continue an interrupted training, with the options it was begun with.", "--resume")
]
