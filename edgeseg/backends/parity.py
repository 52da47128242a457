"""Parity: whether a backend gives the masks and findings of the file's golden pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeseg.backends.base import Backend
from edgeseg.core.card import Card
from edgeseg.core.errors import BackendError, ModelFileError
from edgeseg.core.modelfile import AnyFile, GoldenPair
from edgeseg.core.registration_card import AnyCard, RegistrationCard
from edgeseg.core.spec import Quantisation
from edgeseg.frame.postprocess import decide_labels, tensor_to_scores

# IoU of a backend's mask with the golden one.
LEAST_IOU = 0.99
# Difference of probabilities that is allowed whatever the IoU: pixels near the threshold may change sides, which lowers
# a small mask's IoU.
MOST_DIFFERENCE = 0.05


@dataclass(frozen=True)
class Parity:
    """The largest deviation of a backend from the golden pairs."""

    pairs: int
    iou: float
    """Of the masks; 1 if both are empty."""
    difference: float | None
    """The largest one between two output values; None if the backend gave NaN or infinity."""
    unit: Literal["quanta", "reals"]
    held: bool
    enforced: bool = True
    """Whether a backend without parity is refused."""
    finding: float | None = None
    """The largest difference between two probabilities of the finding output; None without one, and for NaN."""

    def describe(self) -> str:
        """Describe the deviation in a few words."""
        far = "what is no number" if self.difference is None else f"{self.difference:.3g} {self.unit}"
        finding = "" if self.finding is None else f", of findings {self.finding:.3g}"
        return f"mask IoU {self.iou:.4f}, largest difference {far}{finding}"


def measure_parity(backend: Backend, model: AnyFile, enforced: bool = True) -> Parity | None:
    """Run a file's golden inputs through a backend and compare; None for a file without golden pairs."""
    if not model.golden:
        return None
    masks, findings = [], []
    for pair in model.golden:
        outputs = backend.invoke(pair.input)
        _check_shapes(backend, outputs, pair)
        masks.append(_compare_masks(outputs[0], pair.output, model.card))
        findings += [_compare_findings(outputs[1], pair.finding, model.card)] if pair.finding is not None else []
    iou, difference = min(iou for iou, _, _ in masks), float(np.max([far for _, far, _ in masks]))
    finding = float(np.max(findings)) if findings else None
    return Parity(
        pairs=len(masks),
        iou=round(iou, 5),
        difference=difference if np.isfinite(difference) else None,
        unit="reals" if model.card.output_quantisation.dtype.startswith("float") else "quanta",
        held=all(held for _, _, held in masks) and (finding is None or finding <= MOST_DIFFERENCE),
        enforced=enforced,
        finding=finding if finding is not None and np.isfinite(finding) else None,
    )


def refuse_other_masks(backend: Backend, parity: Parity | None) -> None:
    """Refuse a backend without parity."""
    if parity is not None and parity.enforced and not parity.held:
        raise BackendError(
            f"Expected the file's golden masks from the backend {backend.name} ({backend.detail}), got others: "
            f"{parity.describe()}.",
            "Use another --backend, or go on at your own risk with --no-parity.",
        )


def _check_shapes(backend: Backend, outputs: tuple[NDArray[Any], ...], pair: GoldenPair) -> None:
    wanted, got = ([array.shape for array in arrays] for arrays in (pair.arrays[1:], outputs))
    if wanted != got:
        raise ModelFileError(
            f"Expected the backend {backend.name} to give {_name_shapes(wanted)}, got {_name_shapes(got)}.",
            "Write the file again with edgeseg compress.",
        )


def _name_shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(map(str, shapes))


def _compare_masks(output: NDArray[Any], wanted: NDArray[Any], card: AnyCard) -> tuple[float, float, bool]:
    difference = _measure_distance(output, wanted)
    if isinstance(card, RegistrationCard):
        # displacements have no outline that could change sides
        return 1.0, difference, difference * (card.output_quantisation.scale or 1.0) <= MOST_DIFFERENCE
    ours, golden = _to_labels(output, card), _to_labels(wanted, card)
    marked = (ours > 0) | (golden > 0)
    iou = float((ours == golden)[marked].mean()) if marked.any() else 1.0
    near = difference * (card.output_quantisation.scale or 1.0) <= MOST_DIFFERENCE
    same = bool(marked.any()) and iou >= LEAST_IOU and bool(np.isfinite(difference))
    return iou, difference, near or same


def _compare_findings(output: NDArray[Any], wanted: NDArray[Any], card: AnyCard) -> float:
    quantisation = card.finding_quantisation or Quantisation()
    return _measure_distance(output, wanted) * (quantisation.scale or 1.0)


def _measure_distance(output: NDArray[Any], wanted: NDArray[Any]) -> float:
    return float(np.abs(output.astype(np.float64) - wanted.astype(np.float64)).max())


def _to_labels(output: NDArray[Any], card: Card) -> NDArray[np.uint8]:
    scores = tensor_to_scores(np.nan_to_num(output), card.output_quantisation)
    return decide_labels(scores, card.output)
