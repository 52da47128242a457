"""Images of 10 or 12 bits in files of 16 keep their grey levels: the training chooses what is white."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.spec import ClassSpec, InputSpec
from edgeseg.data.augment import choose_variations
from edgeseg.data.dataset import find_white, open_dataset, read_cases
from edgeseg.data.overview import draw_preview
from edgeseg.data.pictures import TILE
from edgeseg.frame.images import choose_white, read_image, to_bgr, to_grey, write_image
from edgeseg.frame.preprocess import frame_to_grid


def deepen(data: Path, factor: int) -> None:
    """Write images of 8 bits again, in files of 16."""
    for path in (data / "images").iterdir():
        write_image(path, read_image(path).astype(np.uint16) * np.uint16(factor))


@pytest.mark.parametrize(
    ("brightest", "white"),
    [
        ([], 65535),
        ([0], 255),
        ([200], 255),
        ([256], 511),
        ([1000, 4095], 4095),
        ([4096], 8191),
        ([65535, 3], 65535),
    ],
)
def test_white_is_the_highest_value_of_the_bits_in_use(brightest: list[int], white: int) -> None:
    assert choose_white(brightest) == white


def test_twelve_bits_reach_the_network_as_eight_do(disc_data: Path) -> None:
    cases = open_dataset(disc_data).cases
    shallow = list(read_cases(cases))
    assert find_white(shallow) == InputSpec(64, 64).white
    deepen(disc_data, 16)
    deep = list(read_cases(cases))
    white = find_white(deep)
    assert white == 4095
    for eight, twelve in zip(shallow, deep, strict=True):
        seen = frame_to_grid(twelve.frame, InputSpec(64, 64, white=white)).astype(int)
        assert np.abs(seen - frame_to_grid(eight.frame, InputSpec(64, 64))).max() <= 1


def test_images_of_8_bits_do_not_count(disc_data: Path) -> None:
    cases = open_dataset(disc_data).cases
    first = read_image(cases[0].image).astype(np.uint16)
    write_image(cases[0].image, first * np.uint16(4))
    assert find_white(read_cases(cases)) == 1023


def test_preview_shows_twelve_bits(disc_data: Path) -> None:
    deepen(disc_data, 16)
    dataset = open_dataset(disc_data)
    unseen = ClassSpec("target", (0, 0, 0))
    sheet = draw_preview(dataset.cases, (unseen,), InputSpec(64, 64), choose_variations("none"), seed=0)
    assert sheet[-TILE:].max() > 150


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_pictures_to_look_at_are_as_bright_whatever_bits_a_file_uses(bits: int) -> None:
    frame = np.linspace(0, 2**bits - 1, 64).reshape(8, 8).astype(np.uint8 if bits == 8 else np.uint16)
    assert to_grey(frame).max() == to_bgr(frame).max() == 255
    assert to_grey(frame).mean() == pytest.approx(127.5, abs=1)
