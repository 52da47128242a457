"""Single findings of a label map: measured, split where they touch, and bounded on hostile masks."""

from __future__ import annotations

from time import perf_counter

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.decision import DOUBTFUL, FOUND, NOTHING
from edgeseg.core.spec import ClassSpec, Region
from edgeseg.inference.confidence import ClassFinding
from edgeseg.inference.instances import MOST_INSTANCES, find_instances, measure_diameters, split_region
from edgeseg.phantom import PhantomClip

LESION = (ClassSpec("lesion", (255, 176, 0)),)


def draw_ellipse(
    center: tuple[float, float], axes: tuple[float, float], degrees: float = 0.0, size: tuple[int, int] = (240, 320)
) -> NDArray[np.uint8]:
    y, x = np.mgrid[: size[0], : size[1]]
    turn = np.deg2rad(degrees)
    along = (x - center[0]) * np.cos(turn) + (y - center[1]) * np.sin(turn)
    across = (y - center[1]) * np.cos(turn) - (x - center[0]) * np.sin(turn)
    return np.asarray((along / axes[0]) ** 2 + (across / axes[1]) ** 2 <= 1, np.uint8)


@pytest.mark.parametrize("degrees", [0, 17, 30, 45, 77, 90])
def test_diameters_of_an_ellipse_are_its_axes(degrees: float) -> None:
    long, short = measure_diameters(draw_ellipse((150.3, 119.6), (60, 30), degrees))
    assert long == pytest.approx(120, abs=0.8)
    assert short == pytest.approx(60, abs=0.8)


def test_regions_are_measured_in_pixels_and_millimetres() -> None:
    labels = draw_ellipse((100, 80), (40, 20)) | draw_ellipse((220, 180), (20, 15))
    large, small = find_instances(labels, LESION, 0.5).instances
    assert (large.number, small.number) == (1, 2)
    assert large.box == (60, 60, 81, 41)
    assert large.centroid == (100.0, 80.0)
    assert large.area_px + small.area_px == int(labels.sum())
    assert large.area_mm2 == large.area_px / 4
    assert large.long_mm == pytest.approx(large.long_px / 2, abs=0.01)
    assert find_instances(labels, LESION).instances[0].long_mm is None


@pytest.mark.parametrize("ratio", [1.0, 0.6, 0.4])
def test_touching_discs_are_split_at_their_neck(ratio: float) -> None:
    one = draw_ellipse((100, 120), (50, 50))
    other = draw_ellipse((100 + 50 * (1 + ratio) - 2, 120), (50 * ratio, 50 * ratio))
    pieces = split_region(one | other)
    assert len(pieces) == 2
    assert sum(int(piece.sum()) for piece in pieces) == int((one | other).sum())
    areas = sorted(int(piece.sum()) for piece in pieces)
    assert areas == pytest.approx(sorted([int(one.sum()), int(other.sum())]), rel=0.1)


def test_one_irregular_region_stays_one() -> None:
    bent = draw_ellipse((100, 120), (80, 40)) & (1 - draw_ellipse((100, 160), (40, 30)))
    ring = draw_ellipse((150, 120), (90, 90)) - draw_ellipse((150, 120), (60, 60))
    lobed = draw_ellipse((120, 120), (50, 40)) | draw_ellipse((160, 120), (30, 30))
    assert [len(split_region(mask)) for mask in (bent, ring, lobed)] == [1, 1, 1]


def test_what_lies_in_a_hole_is_another_region() -> None:
    island = draw_ellipse((150, 120), (20, 20))
    ring = draw_ellipse((150, 120), (90, 90)) - draw_ellipse((150, 120), (60, 60))
    found = find_instances(ring | island, LESION).instances
    assert [one.area_px for one in found] == [int(ring.sum()), int(island.sum())]


def test_phantoms_are_counted() -> None:
    for count, touching in ((0, False), (3, False), (4, True)):
        numbers = PhantomClip(7, count, lesions=count, touching=touching).frame(3).numbers
        there = set(np.unique(numbers).tolist()) - {0}
        assert len(find_instances(np.asarray(numbers > 0, np.uint8), LESION).instances) == len(there) == count


def test_each_instance_has_its_own_confidence_and_state() -> None:
    labels = draw_ellipse((80, 120), (30, 30)) | draw_ellipse((240, 120), (30, 30))
    plane = np.where(labels > 0, 250, 0).astype(np.uint8)
    plane[:, 160:] = cv2.blur(plane[:, 160:], (81, 81))
    grid = cv2.resize(plane, (80, 60), interpolation=cv2.INTER_AREA)[:, :, None]
    finding = ClassFinding("lesion", FOUND, 0.8, None, 0.8)
    sure, unsure = sorted(
        find_instances(labels, LESION, None, (finding,), np.asarray(grid, np.uint8), Region(0, 0, 320, 240)).instances,
        key=lambda one: one.centroid,
    )
    assert (sure.state, unsure.state) == (FOUND, DOUBTFUL)
    assert sure.confidence is not None
    assert unsure.confidence is not None
    assert sure.confidence > 0.9 > 0.8 > unsure.confidence


def test_one_instance_has_the_confidence_of_its_class() -> None:
    labels = draw_ellipse((80, 120), (30, 30))
    (one,) = find_instances(labels, LESION, None, (ClassFinding("lesion", DOUBTFUL, 0.31, None, 0.5),)).instances
    assert (one.state, one.confidence) == (DOUBTFUL, 0.31)
    (one,) = find_instances(labels, LESION, None, (ClassFinding("lesion", NOTHING, 0.31),)).instances
    assert one.state == NOTHING


def test_specks_are_bounded_and_said() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((480, 640), np.uint8)
    labels[rng.integers(0, 240, 10000) * 2, rng.integers(0, 320, 10000) * 2] = 1
    began = perf_counter()
    found = find_instances(labels, LESION)
    assert perf_counter() - began < 5.0
    assert len(found.instances) == MOST_INSTANCES
    assert found.left_out == int(labels.sum()) - MOST_INSTANCES


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (240, 320)])
def test_small_and_full_masks_are_one_region(shape: tuple[int, int]) -> None:
    labels = np.ones(shape, np.uint8)
    (one,) = find_instances(labels, LESION).instances
    assert (one.area_px, one.box) == (labels.size, (0, 0, shape[1], shape[0]))
    assert one.long_px >= one.short_px >= 1.0


def test_many_classes_and_empty_masks() -> None:
    classes = tuple(ClassSpec(f"c{number}", (number, 0, 0)) for number in range(1, 128))
    labels = np.zeros((128, 256), np.uint8)
    for number in range(127):
        labels[4 * (number // 4) : 4 * (number // 4) + 3, 50 * (number % 4) : 50 * (number % 4) + 9] = number + 1
    found = find_instances(labels, classes).instances
    assert [one.name for one in found] == [spec.name for spec in classes]
    assert {one.area_px for one in found} == {27}
    assert find_instances(np.zeros((9, 9), np.uint8), classes).instances == ()
