"""The one definition of a frame: every path must give the same numbers, and masks must land where the frame was."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgeseg.core.errors import SourceError
from edgeseg.core.spec import ClassSpec, InputSpec, OutputSpec, Quantisation, Region
from edgeseg.frame.postprocess import (
    LabelPatch,
    decide_labels,
    grid_to_patch,
    paste_labels,
    scores_to_labels,
    tensor_to_scores,
)
from edgeseg.frame.preprocess import (
    KeptMemory,
    frame_to_pixels,
    mask_to_grid,
    pixels_to_tensor,
    place_frame,
    quantisation_table,
)

INT8_INPUT = Quantisation("int8", 1 / 255, -128)
INT8_OUTPUT = Quantisation("int8", 1 / 256, -128)
FLOAT = Quantisation("float32")
ONE_CLASS = OutputSpec((ClassSpec("target"),))
ALL_BYTES = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)


def test_integer_path_equals_the_rounded_float_path() -> None:
    tensor = pixels_to_tensor(ALL_BYTES, INT8_INPUT)
    real = pixels_to_tensor(ALL_BYTES, FLOAT).astype(np.float64)
    rounded = np.clip(np.floor(real / INT8_INPUT.scale + 0.5) - 128, -128, 127)
    assert tensor.dtype == np.int8
    assert np.array_equal(tensor, rounded)


@pytest.mark.parametrize("scale", [1 / 255, 0.0039, 0.02, 0.001])
@pytest.mark.parametrize("zero_point", [-128, -5, 0])
def test_any_quantisation_equals_the_rounded_float_path(scale: float, zero_point: int) -> None:
    quantisation = Quantisation("int8", scale, zero_point)
    tensor = pixels_to_tensor(ALL_BYTES, quantisation)
    expected = np.clip(np.floor(ALL_BYTES / 255.0 / scale + 0.5) + zero_point, -128, 127)
    assert np.array_equal(tensor[0], expected)


def test_calibrated_input_is_one_flipped_bit() -> None:
    assert np.array_equal(quantisation_table(INT8_INPUT).view(np.uint8), np.arange(256) ^ 0x80)


def test_scores_of_int8_and_float_outputs_agree() -> None:
    numbers = np.arange(-128, 128).astype(np.int8).reshape(1, 16, 16, 1)
    real = ((numbers.astype(np.float32) + 128) / 256).astype(np.float32)
    assert np.array_equal(tensor_to_scores(numbers, INT8_OUTPUT), tensor_to_scores(real, FLOAT))


def test_half_is_not_yet_the_class() -> None:
    scores = np.full((32, 32, 1), 128, np.uint8)
    scores[:, 16:] = 129
    spec = InputSpec(32, 32)
    labels = scores_to_labels(scores, place_frame(spec, 32, 32), (32, 32), ONE_CLASS)
    assert not labels[:, :16].any()
    assert labels[:, 17:].all()


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (64, 64), (101, 333), (1080, 1920)])
@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_mask_comes_back_where_the_frame_had_it(size: tuple[int, int], resize: str) -> None:
    height, width = size
    truth = np.zeros(size, np.uint8)
    truth[height // 4 : height // 2, width // 3 : 2 * width // 3] = 255
    spec = InputSpec(128, 128, resize=resize)
    scores = mask_to_grid(truth, spec)[:, :, np.newaxis] * np.uint8(255)
    labels = scores_to_labels(scores, place_frame(spec, *size), (128, 128), ONE_CLASS)
    overlap = 2 * np.count_nonzero(labels & (truth > 0)) / (np.count_nonzero(labels) + np.count_nonzero(truth))
    assert labels.shape == size
    assert overlap > 0.93


def test_half_resolution_scores_line_up_with_the_frame() -> None:
    truth = np.zeros((96, 128), np.uint8)
    truth[24:72, 32:96] = 255
    spec = InputSpec(128, 128)
    grid = mask_to_grid(truth, spec)
    half = grid.reshape(64, 2, 64, 2).max(axis=(1, 3))[:, :, np.newaxis] * np.uint8(255)
    labels = scores_to_labels(half, place_frame(spec, 96, 128), (128, 128), ONE_CLASS)
    assert np.count_nonzero(labels != (truth > 0)) < 0.03 * truth.size


def test_region_is_cut_and_put_back() -> None:
    frame = np.zeros((100, 200), np.uint8)
    frame[20:60, 50:130] = 200
    spec = InputSpec(64, 64, resize="stretch", region=Region(50, 20, 80, 40))
    assert (frame_to_pixels(frame, spec) == 200).all()
    placement = place_frame(spec, 100, 200)
    inner = scores_to_labels(np.full((64, 64, 1), 255, np.uint8), placement, (64, 64), ONE_CLASS)
    full = paste_labels(LabelPatch(inner, placement.region.x, placement.region.y), 100, 200)
    assert np.array_equal(full > 0, frame > 0)


def test_region_outside_the_frame_is_refused() -> None:
    spec = InputSpec(64, 64, region=Region(0, 0, 300, 100))
    with pytest.raises(SourceError, match="200x100"):
        frame_to_pixels(np.zeros((100, 200), np.uint8), spec)


def test_sixteen_bit_white_is_white() -> None:
    frame = np.full((64, 64), 4095, np.uint16)
    assert (frame_to_pixels(frame, InputSpec(64, 64, white=4095)) == 255).all()
    assert frame_to_pixels(frame, InputSpec(64, 64)).max() == 16


def test_colour_frame_becomes_grey_and_rgb() -> None:
    blue = np.zeros((64, 64, 3), np.uint8)
    blue[:, :, 0] = 255
    assert frame_to_pixels(blue, InputSpec(64, 64))[0, 0, 0] == 29
    assert frame_to_pixels(blue, InputSpec(64, 64, colour="rgb"))[0, 0].tolist() == [0, 0, 255]


def test_grey_frame_for_a_colour_model_is_refused() -> None:
    with pytest.raises(SourceError, match="colour frames"):
        frame_to_pixels(np.zeros((64, 64), np.uint8), InputSpec(64, 64, colour="rgb"))


@pytest.mark.parametrize("frame", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)])
def test_what_is_no_frame_is_refused(frame: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    with pytest.raises(SourceError, match="BGR"):
        frame_to_pixels(frame, InputSpec(64, 64))


def test_shrinking_does_not_alias() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (512, 256))
    pixels = frame_to_pixels(stripes, InputSpec(128, 128))
    assert abs(int(pixels.min()) - 128) < 3
    assert abs(int(pixels.max()) - 128) < 3


def test_small_regions_are_dropped_and_large_ones_stay() -> None:
    scores = np.zeros((64, 64, 1), np.uint8)
    scores[2:4, 2:4] = 255
    scores[20:40, 20:40] = 255
    output = OutputSpec((ClassSpec("target"),), smallest_region=10)
    labels = scores_to_labels(scores, place_frame(InputSpec(64, 64), 64, 64), (64, 64), output)
    assert not labels[:10, :10].any()
    assert labels[25:35, 25:35].all()


def test_several_classes_take_the_strongest() -> None:
    scores = np.zeros((32, 32, 2), np.uint8)
    scores[:, :16] = (250, 200)
    scores[:, 16:] = (140, 220)
    output = OutputSpec((ClassSpec("a"), ClassSpec("b")))
    labels = scores_to_labels(scores, place_frame(InputSpec(32, 32), 32, 32), (32, 32), output)
    assert set(labels[:, :14].ravel()) == {1}
    assert set(labels[:, 18:].ravel()) == {2}


@pytest.mark.parametrize(("activation", "background"), [("sigmoid", 0), ("softmax", 1)])
def test_among_equals_the_first_class_is_taken(activation: str, background: int) -> None:
    scores = np.random.default_rng(1).integers(0, 5, (48, 64, 3 + background), dtype=np.uint8) * 60
    spec = OutputSpec((ClassSpec("a"), ClassSpec("b"), ClassSpec("c")), activation)
    best = scores.argmax(axis=2)
    expected = best if background else np.where(scores.max(axis=2) > 128, best + 1, 0)
    np.testing.assert_array_equal(decide_labels(scores, spec), expected)


def test_specs_check_themselves() -> None:
    with pytest.raises(ValueError, match="at least 16x16"):
        InputSpec(4, 4)
    with pytest.raises(ValueError, match="threshold"):
        OutputSpec((ClassSpec("a"),), threshold=1.0)
    with pytest.raises(ValueError, match="colour"):
        InputSpec(64, 64, colour="pink")


SIZES = [(480, 640), (600, 800), (525, 700), (389, 517), (1080, 1920), (48, 64), (31, 40)]


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("size", SIZES)
def test_a_patch_around_the_masks_is_the_same_as_the_whole_frame(size: tuple[int, int], activation: str) -> None:
    spec, rng = OutputSpec((ClassSpec("a"), ClassSpec("b")), activation), np.random.default_rng(size[1])
    placement = place_frame(InputSpec(256, 256), *size)
    rows, columns = placement.height // 4, placement.width // 4
    for _ in range(20):
        grid = np.zeros((rows, columns, spec.channels), np.uint8)
        grid[..., 0] = 90
        y, x = int(rng.integers(rows)), int(rng.integers(columns))
        blob = grid[y : y + 9, x : x + 12]
        blob[:] = rng.integers(0, 256, blob.shape)
        whole = cv2.resize(grid, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        patch = grid_to_patch(grid, placement, spec)
        assert np.array_equal(paste_labels(patch, *size), decide_labels(np.asarray(whole, np.uint8), spec))
    assert not grid_to_patch(np.zeros_like(grid), placement, spec).labels.size


def test_a_patch_is_not_larger_than_the_masks_need() -> None:
    grid = np.zeros((48, 64, 1), np.uint8)
    grid[10:14, 20:30] = 255
    patch = grid_to_patch(grid, place_frame(InputSpec(256, 256), 480, 640), ONE_CLASS)
    assert (patch.x, patch.y, patch.labels.shape) == (190, 90, (60, 120))


def test_memory_that_stays_changes_no_pixel() -> None:
    memory, rng = KeptMemory(), np.random.default_rng(3)
    for height, width in ((480, 640), (480, 640), (200, 700), (480, 640), (90, 60)):
        frame = rng.integers(0, 256, (height, width, 3), np.uint8)
        for region in (None, Region(5, 7, 50, 40)):
            spec = InputSpec(128, 128, region=region)
            kept = frame_to_pixels(frame, spec, memory)
            assert np.array_equal(kept, frame_to_pixels(frame, spec))
            assert np.array_equal(pixels_to_tensor(kept, INT8_INPUT, memory), pixels_to_tensor(kept, INT8_INPUT))
