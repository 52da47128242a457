"""What a training refuses before its first step, in the very sentence that the data check says."""

from __future__ import annotations

import csv
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError
from edgeseg.core.spec import InputSpec
from edgeseg.data.check import check_survey, describe_verdict
from edgeseg.data.dataset import LabelledImage, open_dataset, read_case, survey_dataset
from edgeseg.data.defects import DefectError
from edgeseg.frame.images import read_image, write_image
from edgeseg.training.grids import to_grid
from edgeseg.training.loading import load_data
from edgeseg.training.weak_supervision import LARGEST_RATIO, weigh_by_rarity
from tests.damages import DAMAGES, OTHERS, make_varied_data
from tests.discs import draw_case, write_case

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


@pytest.mark.parametrize("kind", OTHERS)
def test_defects_of_label_maps_and_modalities_are_refused_alike(varied_data: Path, kind: str) -> None:
    OTHERS[kind](varied_data)
    defect = check_survey(survey_dataset(varied_data)).defects[0]
    with pytest.raises(DataError) as caught:
        load_data(varied_data, SPLIT, colour=True)
    assert (defect.kind, defect.message, defect.hint) == (kind, caught.value.message, caught.value.hint)


def test_every_finding_that_is_documented_is_given_to_a_training() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "data.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([a-z-]+)` \|", page.partition("| finding |")[2], re.MULTILINE))
    assert documented == {kind for kind, _ in DAMAGES.values()} | set(OTHERS)


def test_near_duplicates_are_counted_and_told_in_the_words_of_the_check(
    varied_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for kind in ("images", "masks"):
        (varied_data / kind / "twin.png").write_bytes((varied_data / kind / "case_03.png").read_bytes())
    loaded = load_data(varied_data, SPLIT)
    caplog.clear()
    loaded.log_leaks(loaded.count_leaks())
    assert caplog.messages[0].startswith(describe_verdict(check_survey(survey_dataset(varied_data))))
    loaded.log_leaks(0)
    assert len(caplog.messages) == 1


def test_split_is_written_case_by_case(varied_data: Path, tmp_path: Path) -> None:
    load_data(varied_data, SPLIT).write_split(tmp_path)
    with (tmp_path / "split.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["stem"] for row in rows) == [f"case_{number:02d}" for number in range(6)]
    assert {row["part"] for row in rows} == {"train", "val", "test"}


@pytest.mark.parametrize("folds", [0, 4])
def test_a_class_that_no_training_case_shows_is_refused(varied_data: Path, folds: int) -> None:
    tested = load_data(varied_data, SPLIT).split.test[0].stem
    for path in (varied_data / "masks").iterdir():
        write_image(varied_data / "masks_vessel" / path.name, read_image(path) * np.uint8(path.stem == tested))
    with pytest.raises(DataError, match=r"class vessel.*training") as caught:
        load_data(varied_data, dataclasses.replace(SPLIT, folds=folds))
    assert "--seed" in caught.value.hint


def test_fewer_groups_than_folds_are_refused(varied_data: Path) -> None:
    with pytest.raises(DefectError, match=r"9 groups.*9 folds.*\b6\b"):
        load_data(varied_data, dataclasses.replace(SPLIT, folds=9))


def test_images_of_mixed_size_depth_and_colour_are_taken(varied_data: Path) -> None:
    frame = draw_case(0)[0]
    write_image(varied_data / "images" / "case_00.png", frame.astype(np.uint16) * 256)
    write_image(varied_data / "images" / "case_01.png", np.repeat(draw_case(1)[0][..., None], 3, axis=2))
    write_case(varied_data, "case_02", *draw_case(2, (50, 40)))
    images = load_data(varied_data, SPLIT).images
    grid = to_grid([images[f"case_0{number}"] for number in range(4)], InputSpec(64, 64))
    assert (grid.pixels.shape, grid.masks.shape) == ((4, 64, 64, 1), (4, 64, 64, 1))
    assert grid.masks[:].any(axis=(1, 2, 3)).all()
    np.testing.assert_allclose(grid.pixels[:3].mean(axis=(1, 2, 3)), grid.pixels[3].mean(), atol=60)
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
