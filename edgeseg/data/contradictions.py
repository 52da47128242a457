"""Contradictory labels: images that look the same, and whose masks or frame labels differ.

One of two such labels is wrong, or the images are too alike to be labelled by themselves: no network can learn both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.redact import show_name
from edgeseg.core.spec import ClassSpec
from edgeseg.data.defects import DataWarning
from edgeseg.data.duplicates import DuplicatePair

# Correlation above which two images should have the same masks. In BUSI, all 16 pairs above it whose masks differ show
# one frame with two labels; below it the lesion itself has moved or changed its shape.
ALIKE = 0.97
# IoU below which two masks of such a pair contradict one another; masks that two people draw of a lesion reach more.
LEAST_OVERLAP = 0.5
# Side of the common grid in pixels, on which a mask takes 2 KiB.
SIDE = 128
_FULL = 255
MASKS, PRESENCE, LABELS = "masks differ", "marked in one only", "frame labels differ"
# One mask for each class on the common grid, a pixel in a bit.
PackedMasks = NDArray[np.uint8]


def pack_masks(masks: Sequence[NDArray[np.uint8]]) -> PackedMasks:
    """Bring the masks of a case onto the common grid, and pack them into bits."""
    return np.stack([np.packbits(_shrink(mask)) for mask in masks])


def _shrink(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Shrink a mask to the grid; one that is too small for it keeps the pixel that holds most of it."""
    full = (mask > 0).astype(np.uint8) * np.uint8(_FULL)
    small = np.asarray(cv2.resize(full, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    marked = small > _FULL // 2
    if not marked.any() and full.any():
        marked.flat[int(small.argmax())] = True
    return np.asarray(marked)


def measure_overlap(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Compute the IoU of two packed masks; 1 where both are empty."""
    either = _count(first | second)
    return _count(first & second) / either if either else 1.0


def _count(bits: NDArray[np.uint8]) -> int:
    return int(np.unpackbits(bits).sum())


@dataclass(frozen=True)
class Contradiction:
    """Two near-duplicates with different labels; `overlap` is the IoU of their masks of one class."""

    pair: DuplicatePair
    kind: str
    """Masks differ, one class is marked in one image only, or the frame labels differ."""
    name: str
    """The class whose masks overlap least."""
    overlap: float
    labels: tuple[str, str] | None = None
    """The frame labels, where they differ."""

    @property
    def stems(self) -> tuple[str, str]:
        """Name the two cases."""
        return self.pair.first.stem, self.pair.second.stem

    def describe(self) -> str:
        """Name the two cases, and say in what they differ."""
        first, second = map(show_name, self.stems)
        said = [f"correlation {self.pair.correlation:.3f}"]
        if self.labels is not None:
            said.insert(0, f"labelled {' and '.join(map(show_name, self.labels))}")
        if self.kind == PRESENCE:
            said.insert(0, f"{self.name} is marked in one only")
        elif self.kind == MASKS:
            said.insert(0, f"masks of {self.name} overlap by {self.overlap:.2f}")
        return f"{first} and {second}: {', '.join(said)}"

    def to_json(self) -> dict[str, Any]:
        """Convert it to a JSON table."""
        return {
            "cases": list(self.stems),
            "kind": self.kind,
            "class": self.name,
            "overlap": round(self.overlap, 4),
            "labels": None if self.labels is None else list(self.labels),
            "correlation": round(self.pair.correlation, 4),
        }


def find_contradictions(
    pairs: Iterable[DuplicatePair], packed: Mapping[str, PackedMasks], classes: Sequence[ClassSpec]
) -> tuple[Contradiction, ...]:
    """Find the near-duplicates whose labels contradict one another, the worst first.

    Args:
        pairs: The near-duplicates.
        packed: The masks of each case by its name, on the common grid.
        classes: The classes, in the masks' order.
    """
    found = [one for pair in pairs if pair.correlation > ALIKE if (one := _judge(pair, packed, classes)) is not None]
    return tuple(sorted(found, key=lambda one: (one.overlap, one.kind != PRESENCE, -one.pair.correlation)))


def _judge(
    pair: DuplicatePair, packed: Mapping[str, PackedMasks], classes: Sequence[ClassSpec]
) -> Contradiction | None:
    """Compare the two cases by the class in which they differ most, then by their frame labels."""
    first, second = packed[pair.first.stem], packed[pair.second.stem]
    overlaps = [measure_overlap(one, other) for one, other in zip(first, second, strict=True)]
    worst = int(np.argmin(overlaps))
    labels = pair.first.label, pair.second.label
    told = labels if all(labels) and labels[0] != labels[1] else None
    if overlaps[worst] < LEAST_OVERLAP:
        kind = MASKS if first[worst].any() and second[worst].any() else PRESENCE
    elif told is not None:
        kind = LABELS
    else:
        return None
    return Contradiction(pair, kind, classes[worst].name, overlaps[worst], told)


def warn_of_contradictions(found: Sequence[Contradiction]) -> list[DataWarning]:
    """Warn of contradictory labels; nothing where there are none."""
    if not found:
        return []
    stems = tuple(dict.fromkeys(stem for one in found for stem in one.stems))
    return [
        DataWarning(
            "contradictory-labels",
            f"{len(found)} {'pair' if len(found) == 1 else 'pairs'} of near-duplicates with contradictory labels.",
            "Look at them side by side (--sheet F.png), and correct the wrong ones.",
            stems,
        )
    ]
