"""What is explained, and how: the options of `edgeseg explain` and `edgeseg.explain`."""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.core.schema import check_options, option

MASK, FINDING = "mask", "finding"
OFS = (MASK, FINDING)
AUTO, RISE, OCCLUSION, GRAD_CAM, GRADIENTS = "auto", "rise", "occlusion", "grad-cam", "gradients"
METHODS = (AUTO, RISE, OCCLUSION, GRAD_CAM, GRADIENTS)
MOST_FRAMES = 100


@dataclass(frozen=True)
class ExplainOptions:
    """What is explained, and how."""

    of: str = option(MASK, "Explain the mask, or the finding probability of its class.", choices=OFS)
    method: str = option(
        AUTO,
        "How pixels are judged: rise and occlusion cover parts of the frame and run any file; grad-cam and gradients "
        "need a run and the training packages. auto is rise; for a run, it takes rise or gradients, whichever is more "
        "faithful on the frame.",
        choices=METHODS,
    )
    only: str | None = option(
        None, "Explain this class alone.", metavar="CLASS", default_text="every class that is marked"
    )
    frames: int = option(3, "Frames of a clip that are explained.", minimum=1, maximum=MOST_FRAMES)
    maps: bool = option(False, "Write the maps as NumPy arrays, too.")

    def __post_init__(self) -> None:
        check_options(self)
