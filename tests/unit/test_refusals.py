"""What a training refuses before its first step, in the very sentence that the data check says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError
from edgeseg.core.images import write_image
from edgeseg.data.check import check_survey
from edgeseg.data.dataset import LabelledImage, open_dataset, read_case, survey_dataset
from edgeseg.data.defects import DefectError
from edgeseg.train.loading import load_data
from edgeseg.train.weights import LARGEST_RATIO, weigh_by_rarity
from tests.damages import DAMAGES, make_varied_data
from tests.discs import draw_case

SPLIT = SplitSpec(seed=0, validation=0.2, test=0.2)


@pytest.fixture
def varied_data(tmp_path: Path) -> Path:
    return make_varied_data(tmp_path / "varied")


@pytest.mark.parametrize("name", DAMAGES)
def test_every_defect_is_refused_with_the_sentence_of_the_check(varied_data: Path, name: str) -> None:
    DAMAGES[name][1](varied_data)
    (defect,) = check_survey(survey_dataset(varied_data)).defects
    with pytest.raises(DataError) as caught:
        load_data(varied_data, SPLIT)
    assert defect.message == caught.value.message
    assert defect.hint == caught.value.hint


def test_fewer_groups_than_folds_are_refused(varied_data: Path) -> None:
    with pytest.raises(DefectError, match="at least 9 groups to divide into 9 folds, got 6"):
        load_data(varied_data, dataclasses.replace(SPLIT, folds=9))


def test_images_of_mixed_depth_and_colour_are_taken(varied_data: Path) -> None:
    frame = draw_case(0)[0]
    write_image(varied_data / "images" / "case_00.png", frame.astype(np.uint16) * 256)
    write_image(varied_data / "images" / "case_01.png", np.repeat(draw_case(1)[0][..., None], 3, axis=2))
    images = load_data(varied_data, SPLIT).images
    assert images["case_00"].frame.dtype.name == "uint16"
    assert images["case_01"].frame.shape == (72, 96)


def mark(image: LabelledImage, *sizes: int) -> LabelledImage:
    masks = [np.zeros((20, 20), np.uint8) for _ in sizes]
    for mask, size in zip(masks, sizes, strict=True):
        mask.ravel()[:size] = 1
    return dataclasses.replace(image, masks=tuple(masks))


def test_rare_classes_count_more_within_bounds(varied_data: Path) -> None:
    image = read_case(open_dataset(varied_data).cases[0])
    assert weigh_by_rarity([mark(image, 100)]) == ()
    assert weigh_by_rarity([mark(image, 0, 0)]) == ()
    assert weigh_by_rarity([mark(image, 40, 160), mark(image, 10, 40)]) == pytest.approx((4 / 3, 2 / 3), abs=1e-3)
    frequent, rare, absent = weigh_by_rarity([mark(image, 400, 1, 0)])
    assert rare / frequent == pytest.approx(LARGEST_RATIO, rel=1e-2)
    assert absent == rare
    assert np.mean((frequent, rare, absent)) == pytest.approx(1.0, abs=1e-3)
