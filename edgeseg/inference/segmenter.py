"""`Segmenter`: one frame in, one label map out, with the pre- and post-processing that the model's card describes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.backends.select import BackendReport, Selection, select_backend
from edgeseg.core.card import Card
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.spec import ClassSpec, Region
from edgeseg.frame.features import open_judge
from edgeseg.frame.modalities import Pictures, stack_pictures
from edgeseg.frame.postprocess import LabelPatch, clean_scores, grid_to_patch, tensor_to_scores
from edgeseg.frame.preprocess import (
    KeptMemory,
    Pixels,
    Placement,
    frame_to_pixels,
    pixels_to_tensor,
    place_frame,
    use_region,
)
from edgeseg.inference.confidence import (
    ClassFinding,
    change,
    decide_findings,
    deny_findings,
    measure_confidences,
    name_frame_classes,
    read_finding,
)
from edgeseg.inference.instances import Instance, InstanceList, find_instances, scale_instances
from edgeseg.inference.masks import (
    DEFAULT_MASK_OPTIONS,
    ClassArea,
    ClassBand,
    FrameMask,
    MaskOptions,
    ScoreSmoother,
    as_mask,
    check_pixel_size,
    fill_holes,
    measure_areas,
    trace_bands,
)

WARM_UP_RUNS = 5
# The newest are kept: a stream may run for months.
MAX_INCIDENTS = 100


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds that each stage took on one frame."""

    preprocess: float
    invoke: float
    postprocess: float

    @property
    def total(self) -> float:
        """Sum of the stages."""
        return self.preprocess + self.invoke + self.postprocess


def _no_scores() -> NDArray[np.uint8]:
    return np.empty((0, 0, 0), np.uint8)


@dataclass(frozen=True)
class Segmentation:
    """The result for one frame."""

    mask: FrameMask | NDArray[np.uint8]
    """Where the classes are, as a mask or as a label map of the frame's size."""
    times: StageTimes
    scores: NDArray[np.uint8] = field(default_factory=_no_scores)
    """What the network gave, calibrated, in 1/256, as (height, width, channels) on its own output grid."""
    classes: tuple[ClassSpec, ...] = ()
    mm_per_px: float | None = None
    """The size of the frame's pixels, where it is known."""
    findings: tuple[ClassFinding, ...] = ()
    """For every class of the card; nothing counts as found on a frame that is out of distribution."""
    frame_classes: Mapping[str, float] = field(default_factory=dict)
    """The probability of every frame class; empty where the model has none."""
    distance: float | None = None
    """From the training frames, 1 at the card's threshold; None where the card does not describe them."""
    grid: NDArray[np.uint8] = field(default_factory=_no_scores)
    """The scores without padding and small regions, as they cover `region`."""
    region: Region | None = None
    """The part of the frame that was segmented."""
    followed: InstanceList | Callable[[], InstanceList] | None = field(default=None, compare=False, repr=False)
    """The instances with the numbers that they have in a stream, or what finds them; None outside of one."""

    def __post_init__(self) -> None:
        if not isinstance(self.mask, FrameMask):
            object.__setattr__(self, "mask", as_mask(self.mask))

    @property
    def labels(self) -> NDArray[np.uint8]:
        """A label map of the frame's size: 0 is background, k the k-th class of the card; made when it is asked for."""
        return self._frame_mask.labels

    @property
    def patch(self) -> LabelPatch:
        """The part of the label map that holds all masks."""
        return self._frame_mask.patch

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame."""
        return self._frame_mask.size

    @property
    def _frame_mask(self) -> FrameMask:
        assert isinstance(self.mask, FrameMask)
        return self.mask

    @property
    def instance_list(self) -> InstanceList:
        """Find the instances, and how many regions beyond the largest were left out."""
        # no functools.cached_property: before Python 3.12 it locks this property of all frames while it computes, and
        # a thread inside would wait for the lock of the stream's following, whose holder asks for another frame's
        kept: InstanceList | None = self.__dict__.get("_instance_list")
        if kept is None:
            kept = self._find_instances()
            object.__setattr__(self, "_instance_list", kept)
        return kept

    def change(self, **values: Any) -> Segmentation:
        """Copy it with other values; instances are looked for anew."""
        return change(self, _instance_list=None, **values)

    def _find_instances(self) -> InstanceList:
        followed = self.followed() if callable(self.followed) else self.followed
        if followed is not None:
            return scale_instances(followed, self.mm_per_px)
        patch = self.patch
        return find_instances(
            patch.labels, self.classes, self.mm_per_px, self.findings, self.grid, self.region, corner=(patch.x, patch.y)
        )

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Find the single findings: connected regions, touching ones split, each with its measures."""
        return self.instance_list.instances

    @property
    def out_of_distribution(self) -> bool:
        """Say whether the frame is none that the model was trained on, so that its masks mean nothing."""
        return is_unlike(self.distance)

    @property
    def areas(self) -> tuple[ClassArea, ...]:
        """Measure the area of every class, in mm2 too where the pixel size is known."""
        return measure_areas(self.patch.labels, self.classes, self.mm_per_px)

    @property
    def bands(self) -> tuple[ClassBand, ...]:
        """Trace where the scores of every class cross 1/4 and 3/4: between them the outline is uncertain."""
        return trace_bands(self.grid, self.region, len(self.classes))


def is_unlike(distance: float | None) -> bool:
    """Say whether a frame at this distance is none that the model was trained on."""
    return distance is not None and distance > 1.0


class Segmenter:
    """A model file loaded on a backend.

    A frame takes this way: crop to its region and resize to the model's input (`frame.preprocess`), quantise, invoke
    the backend, dequantise the scores, take the best class of every pixel and resize back to the frame
    (`frame.postprocess`). The card holds every parameter of it, so training, evaluation and the device agree.
    """

    def __init__(
        self,
        model: ModelFile,
        requested: str = "auto",
        threads: int = 1,
        enforce_parity: bool = True,
        masks: MaskOptions = DEFAULT_MASK_OPTIONS,
    ) -> None:
        """Load a model file.

        Args:
            model: The file, read and verified.
            requested: "auto", or the name of a backend, with its variant after a colon.
            threads: CPU threads the backend may use.
            enforce_parity: Whether to refuse a backend whose masks differ from the file's golden pairs.
            masks: Post-processing beyond the card; smoothing assumes that the frames belong to one stream.
        """
        self.card: Card = model.card
        self._masks, self._memory = masks, KeptMemory()
        self.smoother = ScoreSmoother()
        """Remembers the newest scores; whoever segments several sources in turn sets the one of each."""
        self._temperatures = () if self.card.decision is None else self.card.decision.temperatures
        known = None if self.card.decision is None else self.card.decision.known
        self._judge = open_judge(known, self.card.input.channels)
        self.incidents: deque[str] = deque(maxlen=MAX_INCIDENTS)
        self.selection: Selection = self._load(model, requested, threads, enforce_parity)

    def __call__(
        self, frame: Pictures, region: Region | None = None, *, mm_per_px: float | None = None
    ) -> Segmentation:
        """Segment one frame.

        Args:
            frame: Grey (height, width) or BGR (height, width, 3), 8 or 16 bit; for a model of several modalities one
                such picture for each, as a list in the order of the card or a dict by name.
            region: The part of the frame that shows the ultrasound image; None takes what the model's card says.
            mm_per_px: The size of the frame's pixels, for areas in mm2.

        Raises:
            ValueError: No pixel can have that size.
            BackendError: The model cannot be run any longer.
        """
        result = self.segment(frame, region)
        if mm_per_px is None:
            return result
        check_pixel_size(mm_per_px)
        return replace(result, mm_per_px=mm_per_px)

    def segment(self, frame: Pictures, region: Region | None = None) -> Segmentation:
        """Segment one frame, or the given region of it."""
        card = self.card
        frame = stack_pictures(frame, card.input)
        size = (frame.shape[0], frame.shape[1])
        spec = use_region(card.input, region)
        start = perf_counter()
        pixels = frame_to_pixels(frame, spec, self._memory)
        tensor = pixels_to_tensor(pixels, card.input_quantisation, self._memory)
        ready = perf_counter()
        outputs = self._invoke(tensor)
        done = perf_counter()
        placement = place_frame(spec, *size)
        distance = None if self._judge is None else self._judge(pixels, placement)
        scores, grid, mask = self._mark(outputs[0], placement, size)
        probabilities = self._read_finding(outputs)
        confidences = measure_confidences(grid, card.output)
        findings = decide_findings(confidences, probabilities, card.output.classes, card.decision)
        if is_unlike(distance):
            findings = deny_findings(findings)
        return Segmentation(
            mask,
            StageTimes(1e3 * (ready - start), 1e3 * (done - ready), 1e3 * (perf_counter() - done)),
            scores,
            card.output.classes,
            findings=findings,
            frame_classes=name_frame_classes(probabilities, card),
            distance=distance,
            grid=grid,
            region=placement.region,
        )

    def _mark(
        self, output: NDArray[Any], placement: Placement, size: tuple[int, int]
    ) -> tuple[Pixels, Pixels, FrameMask]:
        """Make scores, clean scores and the mask of the frame from the mask's tensor."""
        card = self.card
        scores = tensor_to_scores(output, card.output_quantisation, self._temperatures)
        if self._masks.smooth:
            scores = self.smoother.smooth(scores)
        # the best class is taken after resizing the scores, so that outlines are smooth
        grid = clean_scores(scores, placement, (card.input.height, card.input.width), card.output)
        patch = grid_to_patch(grid, placement, card.output)
        if self._masks.fill_holes and patch.labels.size:
            patch = patch._replace(labels=fill_holes(patch.labels, len(card.output.classes)))
        return scores, grid, FrameMask(patch, size)

    def for_case(self, stem: str) -> Segmenter:  # noqa: ARG002 - an ensemble asks which of its networks has seen it
        """Give the model that may judge a labelled case: this one."""
        return self

    def warm_up(self) -> float:
        """Segment a few blank frames: the first inferences allocate memory and compile kernels.

        Returns:
            Milliseconds of the first inference.
        """
        spec = self.card.input
        blank = np.zeros((spec.height, spec.width, spec.channels), np.uint8)
        first = self.segment(blank).times.invoke
        for _ in range(WARM_UP_RUNS):
            self.segment(blank)
        # the blank frame's scores must not be averaged into the first frame
        self.forget()
        return first

    def forget(self) -> None:
        """Forget the last frame: the next one belongs to another stream, or comes after a pause."""
        self.smoother.reset()

    def close(self) -> None:
        """Stop background threads; this class starts none."""

    def report(self) -> BackendReport:
        """Describe the backend in use at this moment."""
        return self.selection.report()

    def _read_finding(self, outputs: Sequence[NDArray[Any]]) -> tuple[float, ...]:
        quantisation, decision = self.card.finding_quantisation, self.card.decision
        if len(outputs) < 2 or quantisation is None:
            return ()
        return read_finding(outputs[1], quantisation, () if decision is None else decision.finding_temperatures)

    def _load(self, model: ModelFile, requested: str, threads: int, enforce_parity: bool) -> Selection:
        return select_backend(model, requested, threads, enforce_parity)

    def _invoke(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return self.selection.backend.invoke(tensor)
