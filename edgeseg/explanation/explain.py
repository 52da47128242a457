"""`explain_frame`: everything that is said of one frame, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import ModelFileError, UnknownNameError
from edgeseg.core.spec import Region
from edgeseg.explanation.faithfulness import Faithfulness, measure_areas, measure_faithfulness
from edgeseg.explanation.margin import Margin, measure_margin
from edgeseg.explanation.occlusion import Method, mask_randomly, occlude
from edgeseg.explanation.options import AUTO, FINDING, MASK, METHODS, OCCLUSION, RISE, ExplainOptions
from edgeseg.explanation.targets import Map, Probe, Target, choose_targets
from edgeseg.inference.segmenter import Segmentation, Segmenter

ON_DEVICE: dict[str, Method] = {RISE: mask_randomly, OCCLUSION: occlude}


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
    method: str
    """The one that made the map."""
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

    reasons: tuple[Reason, ...]
    """One for each class that is explained."""
    segmentation: Segmentation
    region: Region
    """The part of the frame that the maps cover."""
    inferences: int
    seconds: float


def explain_frame(
    segmenter: Segmenter,
    frame: NDArray[Any],
    options: ExplainOptions,
    region: Region | None = None,
    methods: Mapping[str, Method] | None = None,
    levels: Levels | None = None,
) -> Explanation:
    """Explain the masks of a frame.

    Args:
        segmenter: The model.
        frame: Grey or BGR, 8 or 16 bit.
        options: What is explained, and how.
        region: The part of the frame that shows the ultrasound picture.
        methods: Make the maps; of several the most faithful map is kept. None takes what the device has.
        levels: Leaves levels of a network out.

    Raises:
        SourceError: The frame has no structure.
        UnknownNameError: The model has no such class.
        ModelFileError: The model has no finding output, or the method needs a run.
    """
    began = perf_counter()
    probe = Probe(segmenter, frame, region)
    targets = choose_targets(probe, options.of, options.only)
    made = {name: make(probe, targets) for name, make in (methods or find_methods(options.method)).items()}
    scores = probe.ask(np.ones((1, 1), np.float32), targets)
    effects = levels(probe, targets) if levels is not None else [()] * len(targets)
    reasons = []
    for number, (target, score, effect) in enumerate(zip(targets, scores, effects, strict=True)):
        name, worth = _choose_map(probe, target, {name: maps[number] for name, maps in made.items()})
        margin = measure_margin(probe, target) if target.of == MASK else None
        reasons.append(Reason(target, round(float(score), 5), name, made[name][number], worth, margin, effect))
    region = probe.placement.region
    return Explanation(tuple(reasons), probe.segmentation, region, probe.asked, perf_counter() - began)


def _choose_map(probe: Probe, target: Target, maps: Mapping[str, Map]) -> tuple[str, Faithfulness]:
    """Choose the map with the largest gap between insertion and deletion."""
    name = max(maps, key=lambda one: measure_areas(probe, target, maps[one]).gap) if len(maps) > 1 else next(iter(maps))
    return name, measure_faithfulness(probe, target, maps[name])


def find_methods(name: str) -> dict[str, Method]:
    """Find the method that a name means on the device."""
    if name in (AUTO, *ON_DEVICE):
        chosen = RISE if name == AUTO else name
        return {chosen: ON_DEVICE[chosen]}
    if name in METHODS:
        raise ModelFileError(
            f"Expected a run for the method {name}, which needs gradients, got a model file.",
            f"Name the run folder, or use --method {RISE}.",
        )
    raise UnknownNameError("method", name, METHODS)
