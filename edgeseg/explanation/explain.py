"""`explain_frame`: everything that is said of one frame, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import ModelFileError, UnknownNameError
from edgeseg.core.schema import check_options, option
from edgeseg.core.spec import Region
from edgeseg.explanation.faithfulness import Faithfulness, measure_faithfulness
from edgeseg.explanation.margin import Margin, measure_margin
from edgeseg.explanation.occlusion import Method, mask_randomly, occlude
from edgeseg.explanation.targets import FINDING, MASK, OFS, Map, Probe, Target, choose_targets
from edgeseg.inference.segmenter import Segmentation, Segmenter

AUTO, RISE, OCCLUSION, GRAD_CAM, GRADIENTS = "auto", "rise", "occlusion", "grad-cam", "gradients"
ON_DEVICE: dict[str, Method] = {RISE: mask_randomly, OCCLUSION: occlude}
METHODS = (AUTO, *ON_DEVICE, GRAD_CAM, GRADIENTS)
MOST_FRAMES = 100


@dataclass(frozen=True)
class ExplainOptions:
    """What is explained, and how."""

    of: str = option(MASK, "Explain the mask, or the finding probability of its class.", choices=OFS)
    method: str = option(
        AUTO,
        "How pixels are judged: rise and occlusion cover parts of the frame and run any file; grad-cam and gradients "
        "need a run and the training packages. auto takes gradients for a run, else rise.",
        choices=METHODS,
    )
    only: str | None = option(
        None, "Explain this class alone.", metavar="CLASS", default_text="every class that is marked"
    )
    frames: int = option(3, "Frames of a clip that are explained.", minimum=1, maximum=MOST_FRAMES)
    maps: bool = option(False, "Write the maps as NumPy arrays, too.")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class LevelEffect:
    """What a target loses when one level of the network knows nothing but its average."""

    name: str
    height: int
    width: int
    channels: int
    score_drop: float
    """The target's score less its score without the level."""
    dice: float
    """Of the mask without the level with the whole network's mask."""


Levels = Callable[[Probe, Sequence[Target]], list[tuple[LevelEffect, ...]]]


@dataclass(frozen=True)
class Reason:
    """What speaks for one class."""

    target: Target
    score: float
    """The mask's confidence, or the finding probability."""
    map: Map
    """On a grid over the segmented region: positive where pixels speak for the target, negative against it."""
    faithfulness: Faithfulness
    margin: Margin | None
    """None where a finding is explained."""
    levels: tuple[LevelEffect, ...] = ()
    """Empty for a file: only a run has levels that can be left out."""

    @property
    def name(self) -> str:
        """Give the name of the class."""
        return self.target.name

    @property
    def sentence(self) -> str:
        """Say what is explained and what the map is worth."""
        if self.target.found:
            return self.faithfulness.sentence
        what = "the finding probability" if self.target.of == FINDING else "the highest scores"
        return f"Nothing is marked: this explains {what}. {self.faithfulness.sentence}"


@dataclass(frozen=True)
class Explanation:
    """What speaks for the masks of one frame."""

    method: str
    reasons: tuple[Reason, ...]
    """One for each class that is explained."""
    segmentation: Segmentation
    region: Region
    """The part of the frame that the maps cover."""
    inferences: int
    seconds: float

    def draw(self, frame: NDArray[Any]) -> NDArray[np.uint8]:
        """Draw the explanation of a frame: heat maps, margins and levels, with legend and verdict, as BGR."""
        from edgeseg.explanation.heatmap import draw_explanation

        return draw_explanation(self, frame)


def explain_frame(
    segmenter: Segmenter,
    frame: NDArray[Any],
    options: ExplainOptions,
    region: Region | None = None,
    method: Method | None = None,
    levels: Levels | None = None,
) -> Explanation:
    """Explain the masks of a frame.

    Args:
        segmenter: The model.
        frame: Grey or BGR, 8 or 16 bit.
        options: What is explained, and how.
        region: The part of the frame that shows the ultrasound picture.
        method: Makes the maps, where the device has no method of that name.
        levels: Leaves levels of a network out.

    Raises:
        SourceError: The frame has no structure.
        UnknownNameError: The model has no such class.
        ModelFileError: The model has no finding output, or the method needs a run.
    """
    began = perf_counter()
    probe = Probe(segmenter, frame, region)
    targets = choose_targets(probe, options.of, options.only)
    maps = (method or find_method(options.method))(probe, targets)
    scores = probe.ask(np.ones((1, 1), np.float32), targets)
    effects = levels(probe, targets) if levels is not None else [()] * len(targets)
    reasons = tuple(
        Reason(
            target,
            round(float(score), 5),
            found,
            measure_faithfulness(probe, target, found),
            measure_margin(probe, target) if target.of == MASK else None,
            effect,
        )
        for target, score, found, effect in zip(targets, scores, maps, effects, strict=True)
    )
    return Explanation(
        RISE if options.method == AUTO else options.method,
        reasons,
        probe.segmentation,
        probe.placement.region,
        probe.asked,
        perf_counter() - began,
    )


def find_method(name: str) -> Method:
    """Find a method that runs on the device."""
    if name in (AUTO, *ON_DEVICE):
        return ON_DEVICE[RISE if name == AUTO else name]
    if name in METHODS:
        raise ModelFileError(
            f"Expected a run for the method {name}, which needs gradients, got a model file.",
            f"Name the run folder, or use --method {RISE}.",
        )
    raise UnknownNameError("method", name, METHODS)
