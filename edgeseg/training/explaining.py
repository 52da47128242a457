"""`explain`: what speaks for a model's masks. Of a run, its gradients and levels can be asked as well.

TensorFlow is imported only for a run: with a model file this runs on the device.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from edgeseg.core.errors import EdgesegError, ModelFileError
from edgeseg.core.files import read_rows
from edgeseg.core.install import MissingExtraError, need_extra
from edgeseg.core.modelfile import RUN_FILE, find_model, is_ensemble
from edgeseg.core.spec import Region
from edgeseg.data.dataset import open_dataset, read_case
from edgeseg.explanation.explain import ON_DEVICE, Explanation, LevelEffect, Levels, explain_frame, find_methods
from edgeseg.explanation.occlusion import Method
from edgeseg.explanation.options import AUTO, GRAD_CAM, GRADIENTS, RISE, ExplainOptions
from edgeseg.explanation.targets import Probe, Target
from edgeseg.frame.images import read_image
from edgeseg.frame.modalities import Pictures, stack_pictures
from edgeseg.frame.preprocess import Pixels, frame_to_pixels
from edgeseg.inference.ensemble import open_segmenter
from edgeseg.inference.segmenter import Segmenter
from edgeseg.prediction.inputs import list_inputs, open_frames
from edgeseg.prediction.partners import join_partners

if TYPE_CHECKING:
    from edgeseg.training.run import RunRecord

StrPath = str | os.PathLike[str]
# Training images over which every level is averaged.
REFERENCES = 16
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Explainer:
    """A model that explains one frame after the other."""

    segmenter: Segmenter
    options: ExplainOptions
    methods: Mapping[str, Method]
    levels: Levels | None = None
    """Leaves levels out; None for a file."""

    def __call__(self, frame: NDArray[Any], region: Region | None = None) -> Explanation:
        """Explain the masks of a frame; arguments and errors are those of `explain_frame`."""
        return explain_frame(self.segmenter, frame, self.options, region, self.methods, self.levels)


def open_explainer(
    model: Segmenter | StrPath,
    options: ExplainOptions,
    backend: str = "auto",
    threads: int = 1,
    enforce_parity: bool = True,
) -> Explainer:
    """Load what explains the masks of a model.

    Args:
        model: A model file, a folder that means one, or a loaded model.
        options: What is explained, and how.
        backend: As in `open_segmenter`.
        threads: CPU threads.
        enforce_parity: Whether to refuse a backend whose masks differ from the golden pairs.

    Raises:
        ModelFileError: The model cannot be read, or the method needs a run.
        MissingExtraError: The method needs the training packages.
    """
    if isinstance(model, Segmenter):
        return Explainer(model, options, find_methods(options.method))
    place = Path(model)
    segmenter = open_segmenter(place, backend, threads, enforce_parity)
    if not _is_run(place):
        if options.method not in (AUTO, *ON_DEVICE) and is_ensemble(place):
            raise ModelFileError(
                f"Expected one run for the method {options.method}, got the networks of a cross-validation.",
                f"Name one of them, such as {place / 'fold-1'}.",
            )
        return Explainer(segmenter, options, find_methods(options.method))
    try:
        need_extra("train")
    except MissingExtraError:
        if options.method not in (AUTO, *ON_DEVICE):
            raise
        _LOG.warning("What each level contributes is left out: it needs the training packages.")
        return Explainer(segmenter, options, find_methods(options.method))
    return _open_run(place, segmenter, options)


def _is_run(place: Path) -> bool:
    return place.is_dir() and not is_ensemble(place) and find_model(place) == place / RUN_FILE


def _open_run(run: Path, segmenter: Segmenter, options: ExplainOptions) -> Explainer:
    from edgeseg.model import attribution
    from edgeseg.training.run import read_run
    from edgeseg.training.start import load_network

    record = read_run(run)
    network = load_network(run, record)
    every: dict[str, Method] = {
        **ON_DEVICE,
        GRAD_CAM: partial(attribution.seg_grad_cam, network),
        GRADIENTS: partial(attribution.integrate_gradients, network),
    }
    methods = {name: every[name] for name in ((RISE, GRADIENTS) if options.method == AUTO else (options.method,))}
    known = _read_references(run, record)
    average: Callable[[Sequence[Pixels]], list[Any]] = partial(attribution.average_levels, network)
    averages = average(known) if known else None

    def leave_out(probe: Probe, targets: Sequence[Target]) -> list[tuple[LevelEffect, ...]]:
        levels = averages if averages is not None else average([probe.grid])
        return attribution.measure_levels(network, levels, probe, targets)

    return Explainer(segmenter, options, methods, leave_out)


def _read_references(run: Path, record: RunRecord) -> list[Pixels]:
    """Read some of the run's training images; none where they are not where they were."""
    try:
        dataset = open_dataset(run / record.data, record.split.layout, record.split.group_pattern)
        cases = {case.stem: case for case in dataset.cases}
        names = [row["stem"] for row in read_rows(run / "split.csv") if row["part"] == "train"]
        chosen = names[:: max(1, len(names) // REFERENCES)][:REFERENCES]
        return [frame_to_pixels(read_case(cases[name], record.input).frame, record.input) for name in chosen]
    except (EdgesegError, KeyError, OSError):
        _LOG.warning(
            "The training images of the run are not where they were: levels are averaged over the explained image."
        )
        return []


def explain(
    model: Segmenter | StrPath,
    image: Pictures | StrPath,
    *,
    options: ExplainOptions | None = None,
    region: Region | None = None,
    backend: str = "auto",
    threads: int = 1,
    **changes: Any,
) -> Explanation:
    """Explain the masks of an image: which pixels speak for them, and whether that can be believed.

    Args:
        model: A model file, a run, the folder of a cross-validation, or a loaded model; only a run that is named by its
            folder has gradients and levels.
        image: An array (grey or BGR, 8 or 16 bit), or an image file; for several modalities as a loaded model takes
            them, or the file of one, whose partners are found beside it.
        options: What is explained, and how; None takes the defaults.
        region: The part of the image that shows the ultrasound picture; None takes what the card says.
        backend: As in `load`.
        threads: As in `load`.
        changes: Any field of the options by its name: of, method, only.

    Raises:
        SourceError: The image has no structure.
        ModelFileError: The method needs a run, or the model has no finding output.
        UnknownNameError: The model has no such class.
    """
    explainer = open_explainer(model, dataclasses.replace(options or ExplainOptions(), **changes), backend, threads)
    spec = explainer.segmenter.card.input
    if not isinstance(image, (str, os.PathLike)):
        return explainer(stack_pictures(image, spec), region)
    if not spec.modalities:
        return explainer(read_image(Path(image), spec.in_colour), region)
    (item,) = join_partners(list_inputs([Path(image)]), spec)
    with open_frames(item, spec.in_colour) as reader:
        return explainer(next(iter(reader)).image, region)
