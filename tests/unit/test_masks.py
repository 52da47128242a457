"""What is done to masks on request: holes, flicker, small regions at any resolution, and areas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.spec import ClassSpec, InputSpec, OutputSpec
from edgeseg.frame.postprocess import scores_to_labels
from edgeseg.frame.preprocess import place_frame
from edgeseg.inference.masks import MaskOptions, ScoreSmoother, fill_holes, measure_areas
from edgeseg.inference.segmenter import Segmenter
from edgeseg.streaming.options import SinkOptions
from tests.networks import SIDE, save_network

CLASSES = (ClassSpec("lesion"), ClassSpec("vessel"))


def test_holes_are_filled_with_the_class_around_them_and_other_classes_stay() -> None:
    labels = np.zeros((12, 24), np.uint8)
    labels[1:11, 1:11] = 1
    labels[4:8, 4:8] = 0
    labels[5, 5] = 2
    labels[1:11, 13:23] = 2
    labels[3, 15] = 0
    labels[9:, 20:] = 0
    filled = fill_holes(labels, 2)
    assert filled[4, 4] == 1
    assert filled[5, 5] == 2
    assert filled[3, 15] == 2
    assert np.all(filled[10, 20:23] == 0)
    assert np.array_equal(filled[labels > 0], labels[labels > 0])


def test_smoothing_forgets_after_one_frame() -> None:
    smoother, dark = ScoreSmoother(), np.zeros((2, 2, 1), np.uint8)
    bright = np.full((2, 2, 1), 240, np.uint8)
    assert smoother.smooth(dark)[0, 0, 0] == 0
    assert smoother.smooth(bright)[0, 0, 0] == 160
    assert smoother.smooth(bright)[0, 0, 0] == 240
    assert smoother.smooth(np.full((4, 4, 1), 9, np.uint8))[0, 0, 0] == 9
    smoother.reset()
    assert smoother.smooth(dark)[0, 0, 0] == 0


def test_smoothed_stream_passes_over_a_flash_of_half_strength(tmp_path: Path) -> None:
    model = save_network(tmp_path / "tiny.tflite")
    dark, faint = np.zeros((SIDE, SIDE), np.uint8), np.full((SIDE, SIDE), 170, np.uint8)
    plain, smooth = Segmenter(model, "cpu"), Segmenter(model, "cpu", masks=MaskOptions(smooth=True))
    smooth.warm_up()
    for segmenter in (plain, smooth):
        assert not segmenter.segment(dark).labels.any()
    assert plain.segment(faint).labels.all()
    assert not smooth.segment(faint).labels.any()
    assert smooth.segment(faint).labels.all()


@pytest.mark.parametrize("factor", [1, 4])
@pytest.mark.parametrize(("smallest", "kept"), [(64, True), (65, False)])
def test_smallest_region_counts_pixels_of_the_input_whatever_the_mask_is_drawn_at(
    factor: int, smallest: int, kept: bool
) -> None:
    spec = InputSpec(32, 32)
    scores = np.zeros((32 // factor, 32 // factor, 1), np.uint8)
    scores[: 8 // factor, : 8 // factor] = 255
    labels = scores_to_labels(
        scores, place_frame(spec, 32, 32), (32, 32), OutputSpec(CLASSES[:1], smallest_region=smallest)
    )
    assert labels.any() == kept


def test_smallest_region_leaves_other_classes_and_large_regions() -> None:
    scores = np.zeros((32, 32, 3), np.uint8)
    scores[..., 0] = 200
    scores[2:4, 2:4] = (0, 255, 0)
    scores[10:20, 10:20] = (0, 255, 0)
    scores[24:26, 24:26] = (0, 0, 255)
    spec = OutputSpec(CLASSES, activation="softmax", smallest_region=10)
    labels = scores_to_labels(scores, place_frame(InputSpec(32, 32), 32, 32), (32, 32), spec)
    assert np.count_nonzero(labels == 1) == 100
    assert not (labels == 2).any()


def test_areas_in_pixels_and_square_millimetres() -> None:
    labels = np.zeros((10, 10), np.uint8)
    labels[:2] = 2
    assert [(a.name, a.area_px, a.area_mm2) for a in measure_areas(labels, CLASSES, 0.1)] == [
        ("lesion", 0, 0.0),
        ("vessel", 20, 0.2),
    ]
    assert measure_areas(labels, CLASSES)[1].area_mm2 is None


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), 100.0])
def test_impossible_pixel_size(size: float) -> None:
    with pytest.raises(ValueError, match="pixel size"):
        SinkOptions(mm_per_px=size)
