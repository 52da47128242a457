"""What people draw and tools write wrongly: outlines that are dropped, cut off or refused, counted for a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.redact import show_name
from edgeseg.data.annotations.shapes import BOX, FARTHEST, Points, Shape
from edgeseg.data.defects import DataWarning, DefectError

# An outline that ends up to a pixel outside is drawn to the image's border, and rounded.
_ROUNDING = 1.0
# Pairs of edges that are compared for a crossing; an outline of people and models has a few for each edge.
_EDGE_PAIRS = 2_000_000
_FEWEST_POINTS = 3

_WARNINGS = {
    "few-points": (
        "{count} outlines of fewer than three points are left out",
        "Draw them again, or delete them in the labelling tool.",
    ),
    "no-area": (
        "{count} marks of a kind that says nothing of an area are left out",
        "Draw outlines, boxes, points or lines.",
    ),
    "repeated-box": (
        "{count} boxes are there twice, and are taken once",
        "Delete one of them in the labelling tool.",
    ),
    "outside-image": (
        "{count} outlines reach outside their image and are cut off at its border",
        "Check that the labels belong to these images.",
    ),
    "crossing-outline": (
        "{count} outlines cross themselves: what they enclose twice counts as outside",
        "Look at them (data check --sheet), and draw them again where that is wrong.",
    ),
    "unlabelled": (
        "{images} without labels are left out",
        "Label them (in most tools: save without a shape where there is nothing to find), or ignore this.",
    ),
    "no-label-file": (
        "{images} without a label file are taken as images that show nothing, as YOLO does",
        "Remove images that nobody has looked at.",
    ),
    "unused-class": (
        "Listed classes of which nothing is drawn are left out, since nothing could be learnt about them",
        "Ignore this, or check that the labels are complete.",
    ),
    "no-class-names": (
        "Nothing names the classes: they are called by their numbers, from class_0 on",
        "Write data.yaml with names:, or classes.txt with one name on each line.",
    ),
}
_DEFECTS = {
    "unreadable-labels": (
        "Expected readable labels in {where}, got others for {images}: {reason}.",
        "Export the labels again, or correct or remove what is named.",
    ),
    "bad-mark": (
        "Expected boxes with a width and a height, and boxes, points and lines inside their image in {where}, got "
        "others for {images}: {reason}.",
        "Correct or delete what is named in the labelling tool.",
    ),
    "unknown-class": (
        "Expected classes that {where} lists, got others for {images}: {reason}.",
        "Add the class to the list, or correct the labels.",
    ),
    "labels-without-image": (
        "Expected an image for all labels in {where}, got none for {images}.",
        "Put the images into the folder (links that leave it are not followed), or remove their labels.",
    ),
    "outside-folder": (
        "Expected images inside {where}, got names that leave it for {images}.",
        "Copy the images into the folder: edgeseg reads nothing outside of it.",
    ),
    "ambiguous-image": (
        "Expected one image for each name in the labels of {where}, got several for {images}.",
        "Write the images' folders into the labels, or keep one image of each name.",
    ),
    "repeated-image": (
        "Expected each image once in the labels of {where}, got labels twice for {images}.",
        "Keep one of the entries, or join them.",
    ),
}


@dataclass
class _Tally:
    count: int = 0
    images: dict[str, None] = field(default_factory=dict)
    reason: str = ""


class Problems:
    """Counts what is wrong with the labels of a data folder, and which images it concerns."""

    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}

    def note(self, kind: str, image: str, reason: str = "", count: int = 1) -> None:
        """Count something about an image (or a class); a reason is kept for the first image.

        Args:
            kind: What it is: a warning or a defect of the tables above.
            image: The image's name.
            reason: More about it, for the message.
            count: How many shapes it concerns.
        """
        tally = self._tallies.setdefault(kind, _Tally(reason=reason))
        tally.count += count
        tally.images[image] = None

    def counted(self, kind: str) -> int:
        """Return how often something was noted."""
        return self._tallies[kind].count if kind in self._tallies else 0

    def outline(self, values: Any, image: str, size: tuple[int, int] | None = None) -> Points | None:
        """Check the points of an outline.

        Args:
            values: The points as a file holds them: pairs of x and y, or both in turn.
            image: The image's name.
            size: The image's height and width, if the labels say so.

        Returns:
            The points; None for fewer than three, which are counted.

        Raises:
            ValueError: They are no points.
        """
        points = to_points(values)
        if len(points) < _FEWEST_POINTS:
            self.note("few-points", image)
            return None
        self.check_outline(points, image, size)
        return points

    def box(self, corners: Any, image: str, number: object, size: tuple[int, int] | None) -> Points | None:
        """Check the corners of a box.

        Args:
            corners: Four corners in turn around the box.
            image: The image's name.
            number: Of the box in its file, for the message.
            size: The image's height and width, if the labels say so.

        Returns:
            The corners, those of an upright box cut off at the image's border; None for no box, which is counted.

        Raises:
            ValueError: They are no points.
        """
        points = to_points(corners)
        right, down = points[1] - points[0], points[3] - points[0]
        if min(np.hypot(*right), np.hypot(*down)) <= 0 or right[0] * down[1] - right[1] * down[0] <= 0:
            self.note("bad-mark", image, f"{number} has no width or no height, or a negative one")
            return None
        if size is None:
            return points
        if is_outside(points, size):
            self.note("bad-mark", image, f"{number} lies outside the image of {size[1]}x{size[0]}")
            return None
        if np.any(points < -_ROUNDING) or np.any(points > (size[1] + _ROUNDING, size[0] + _ROUNDING)):
            self.note("outside-image", image)
        upright = right[1] == 0 == down[0]
        return np.clip(points, 0.0, (size[1], size[0])) if upright else points

    def marks(self, values: Any, image: str, number: object, size: tuple[int, int] | None) -> Points | None:
        """Check points, or those of a line; None for no points or some outside the image, which are counted."""
        points = to_points(values)
        if not len(points):
            self.note("few-points", image)
            return None
        if size is not None and (np.any(points < -_ROUNDING) or np.any(points > np.add(size[::-1], _ROUNDING))):
            self.note("bad-mark", image, f"{number} lies outside the image of {size[1]}x{size[0]}")
            return None
        return points

    def drop_repeated(self, shapes: Sequence[Shape], image: str) -> list[Shape]:
        """Leave out boxes of one class with the same corners."""
        seen: set[tuple[str, bytes]] = set()
        kept = []
        for shape in shapes:
            key = (shape.class_name, np.round(shape.polygons[0], 3).tobytes())
            if shape.kind == BOX and key in seen:
                self.note("repeated-box", image)
                continue
            seen.add(key)
            kept.append(shape)
        return kept

    def check_outline(self, points: Points, image: str, size: tuple[int, int] | None) -> None:
        """Count an outline that leaves its image or crosses itself."""
        if size is not None:
            low, high = points.min(axis=0), points.max(axis=0)
            if np.any(low < -_ROUNDING) or np.any(high > (size[1] + _ROUNDING, size[0] + _ROUNDING)):
                self.note("outside-image", image)
        if crosses_itself(points):
            self.note("crossing-outline", image)

    def warnings(self) -> tuple[DataWarning, ...]:
        """Describe what can be trained on nevertheless."""
        return tuple(
            DataWarning(kind, _begin(_WARNINGS[kind][0], tally), _WARNINGS[kind][1], tuple(tally.images))
            for kind, tally in self._tallies.items()
            if kind in _WARNINGS
        )

    def defects(self, where: Path) -> tuple[DefectError, ...]:
        """Describe what stops a training."""
        return tuple(
            DefectError(
                kind,
                _DEFECTS[kind][0].format(where=where, images=_name(tally.images), reason=tally.reason),
                _DEFECTS[kind][1],
                tuple(tally.images),
            )
            for kind, tally in self._tallies.items()
            if kind in _DEFECTS
        )


def _begin(text: str, tally: _Tally) -> str:
    said = text.format(count=tally.count, images=f"{len(tally.images)} images")
    if tally.count == 1:
        for many, one in (("outlines", "outline"), ("boxes", "box"), ("cross ", "crosses "), ("reach ", "reaches ")):
            said = said.replace(many, one, 1)
    said = said.replace(" are ", " is ", 1) if tally.count == 1 else said
    said = said.replace("1 images", "1 image", 1) if len(tally.images) == 1 else said
    return f"{said} ({_name(tally.images)})."


def _name(images: dict[str, None]) -> str:
    first = show_name(next(iter(images)))
    return f"{first} and {len(images) - 1} more" if len(images) > 1 else first


def to_points(values: Any) -> Points:
    """Convert pairs of x and y, or both in turn, to points.

    Raises:
        ValueError: They are no finite numbers, or far outside of any image.
    """
    try:
        # a list of lists of different lengths is refused by NumPy itself, with a ValueError
        points = np.asarray(values if len(values) else np.zeros((0, 2)), dtype=np.float64)
    except (TypeError, OverflowError) as error:
        raise ValueError("expected numbers as points") from error
    if points.ndim == 1 and len(points) % 2 == 0:
        points = points.reshape(-1, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"expected pairs of x and y, got {points.size} numbers")
    if not np.all(np.abs(points) <= FARTHEST):  # NaN fails, too
        raise ValueError(f"expected points within {FARTHEST:g} pixels")
    return points


def is_outside(points: Points, size: tuple[int, int]) -> bool:
    """Say whether points lie on no pixel of an image of this height and width."""
    low, high = points.min(axis=0), points.max(axis=0)
    return bool(np.any(high <= 0) or np.any(low >= (size[1], size[0])))


def crosses_itself(points: Points) -> bool:
    """Say whether two edges of an outline cross; edges that only touch, as seams do, are none.

    Outlines with far more edges side by side than people draw are not examined to the end.
    """
    order = np.argsort(np.minimum(points[:, 1], np.roll(points[:, 1], -1)), kind="stable")
    start, end = points[order], np.roll(points, -1, axis=0)[order]
    top, bottom = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    # in the order of their upper ends, an edge can cross only those that begin above its lower end
    after = np.searchsorted(top, bottom, side="left")
    counts = np.maximum(after - np.arange(len(top)) - 1, 0)
    if counts.sum() > _EDGE_PAIRS:
        counts = np.where(np.cumsum(counts) <= _EDGE_PAIRS, counts, 0)
    first = np.repeat(np.arange(len(top)), counts)
    second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    a, b, c, d = start[first], end[first], start[second], end[second]
    return bool(np.any((_side(a, b, c) * _side(a, b, d) < 0) & (_side(c, d, a) * _side(c, d, b) < 0)))


def _side(start: Points, end: Points, point: Points) -> NDArray[np.float64]:
    """Compute on which side of edges points lie: -1, 0 or 1."""
    along, towards = end - start, point - start
    return np.sign(along[:, 0] * towards[:, 1] - along[:, 1] * towards[:, 0])


def turn_rectangle(low: Sequence[float], high: Sequence[float], degrees: float = 0.0) -> Points:
    """Return the corners of a rectangle, turned clockwise about its centre."""
    (left, top), (right, bottom) = low, high
    corners = np.asarray([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    return _turn(corners, ((left + right) / 2, (top + bottom) / 2), degrees)


def trace_ellipse(centre: Sequence[float], radii: Sequence[float], degrees: float = 0.0) -> Points:
    """Return an ellipse as a polygon with about one corner for each pixel of its outline, turned clockwise."""
    number = int(np.clip(2 * np.pi * max(radii), 24, 4096))
    angle = np.arange(number) * (2 * np.pi / number)
    points = np.asarray(centre, np.float64) + np.stack([np.cos(angle), np.sin(angle)], axis=1) * radii
    return _turn(points, centre, degrees)


def _turn(points: Points, centre: Sequence[float], degrees: float) -> Points:
    if not degrees:
        return points
    # y points down, so this turns clockwise
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.asarray((points - centre) @ np.asarray([[cos, sin], [-sin, cos]]) + centre, np.float64)


def check_runs(counts: Any, size: tuple[int, int]) -> NDArray[np.int64]:
    """Check runs of pixels against a height and width; nothing of that size is allocated.

    Raises:
        ValueError: They are no runs, or not of this size.
    """
    try:
        runs = np.asarray(counts, dtype=np.float64)
    except (TypeError, OverflowError) as error:
        raise ValueError("expected whole numbers as runs of pixels") from error
    whole = runs.ndim == 1 and bool(np.all((runs >= 0) & (runs == np.floor(runs))))  # NaN fails, too
    if not whole or runs.sum() != size[0] * size[1]:
        raise ValueError(f"expected runs of {size[1]}x{size[0]} pixels in all, got others")
    return runs.astype(np.int64)


def decode_runs(counts: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode runs of pixels in rows, unmarked ones first.

    Raises:
        ValueError: They are no runs, or not of this size.
    """
    runs = check_runs(counts, size)
    return np.repeat((np.arange(len(runs)) % 2).astype(np.uint8), runs).reshape(size)


def encode_runs(mask: NDArray[np.uint8]) -> list[int]:
    """Encode a mask as runs of pixels in rows, unmarked ones first."""
    flat = mask.ravel() != 0
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return [0, *runs.tolist()] if flat[0] else runs.tolist()
