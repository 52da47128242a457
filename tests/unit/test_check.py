"""The data check: every defect is found, all of them at once, and each is the sentence a training would stop with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgeseg.data.check import DEFECTS, LEAK, READY, CheckReport, check_survey, describe_verdict
from edgeseg.data.dataset import open_dataset, read_case, survey_dataset, view_case
from edgeseg.data.duplicates import join_groups, make_thumbnail, search_duplicates
from edgeseg.data.groups import write_groups
from edgeseg.data.overview import make_tile
from edgeseg.frame.images import read_image, write_image
from tests.damages import DAMAGES, EMPTY, make_varied_data
from tests.discs import draw_case, write_case


def check(root: Path) -> CheckReport:
    return check_survey(survey_dataset(root))


@pytest.fixture
def varied_data(tmp_path: Path) -> Path:
    return make_varied_data(tmp_path / "varied")


def test_good_data_are_ready(varied_data: Path) -> None:
    write_image(varied_data / "masks" / "case_05.png", EMPTY)
    report = check(varied_data)
    table = report.to_json()
    assert (report.verdict, [warning["kind"] for warning in table["warnings"]]) == (READY, ["few-groups"])
    assert "warnings" in describe_verdict(report)
    assert "warnings" not in describe_verdict(dataclasses.replace(report, warnings=()))
    assert (table["cases"], table["groups"], table["empty"]) == (6, 6, 1)
    assert (table["sizes"], table["bits"], table["white"]) == ({"96x72": 6}, {"8": 6}, None)
    assert table["label_values"] == {"0": 6, "255": 5}
    assert 0 <= table["darkest"]["low"] <= table["brightest"]["high"] <= 255
    assert report.balance[0].cases == 5
    assert report.balance[0].case_share == pytest.approx(5 / 6, abs=1e-4)
    total = sum(read_case(case).masks[0].sum() for case in report.dataset.cases)
    assert report.balance[0].pixel_share == pytest.approx(total / (6 * 72 * 96), abs=1e-5)


@pytest.mark.parametrize("name", DAMAGES)
def test_defect_is_found(varied_data: Path, name: str) -> None:
    kind, damage = DAMAGES[name]
    damage(varied_data)
    report = check(varied_data)
    assert [defect.kind for defect in report.defects] == [kind]
    assert report.verdict == DEFECTS


def test_all_defects_are_collected(varied_data: Path) -> None:
    for name in ("image without mask", "two files of one name"):
        DAMAGES[name][1](varied_data)
    write_image(varied_data / "masks" / "case_02.png", np.zeros((50, 60), np.uint8))
    write_image(varied_data / "masks" / "case_03.png", draw_case(1)[0])
    write_image(varied_data / "masks" / "other.png", EMPTY)
    table = check(varied_data).to_json()
    assert {defect["kind"] for defect in table["defects"]} == {
        "image-without-mask",
        "mask-without-image",
        "repeated-name",
        "mask-size",
        "mask-values",
    }
    assert table["cases"] == 3
    assert "5 defects" in table["sentence"]


def test_data_that_cannot_be_read_at_all(varied_data: Path) -> None:
    for path in (varied_data / "images").iterdir():
        path.write_bytes(b"")
    report = check(varied_data)
    assert [defect.kind for defect in report.defects] == ["unreadable"] * 6
    assert report.to_json()["brightest"] is None


def test_masks_of_one_other_value_are_good(varied_data: Path) -> None:
    write_image(varied_data / "masks" / "case_01.png", draw_case(1)[1] // 255)
    assert check(varied_data).verdict == READY


def copy_case(root: Path, number: int, name: str) -> None:
    image = read_image(root / "images" / f"case_{number:02d}.png")
    brighter = np.clip(image.astype(np.float32) * 1.2 + 9, 0, 255).astype(np.uint8)
    write_case(root, name, brighter, draw_case(number)[1])


def test_near_duplicates_across_groups_leak(varied_data: Path) -> None:
    copy_case(varied_data, 2, "other")
    report = check(varied_data)
    assert [(pair.first.stem, pair.second.stem) for pair in report.leaks] == [("case_02", "other")]
    assert report.verdict == LEAK
    assert "--write-groups" in describe_verdict(report)
    write_groups(varied_data / "groups.csv", join_groups(report.dataset.cases, report.pairs))
    assert report.to_json()["near_duplicates"]["pairs"][0]["across"] is True
    again = check(varied_data)
    (pair,) = again.to_json()["near_duplicates"]["pairs"]
    assert (pair["cases"], pair["across"]) == (["case_02", "other"], False)
    assert (again.verdict, len(again.pairs), len(again.leaks)) == (READY, 1, 0)
    assert {case.group for case in again.dataset.cases if case.stem in ("case_02", "other")} == {"case_02"}


def test_near_duplicates_across_given_parts_leak(varied_data: Path) -> None:
    copy_case(varied_data, 2, "other")
    parts = {"case_00": "val", "case_01": "val", "other": "test"}
    stems = [f"case_{number:02d}" for number in range(6)] + ["other"]
    rows = "".join(f"{stem},{stem},{parts.get(stem, 'train')}\n" for stem in stems)
    (varied_data / "groups.csv").write_text("stem,group,part\n" + rows, encoding="utf-8")
    report = check(varied_data)
    assert report.verdict == LEAK
    assert "given parts" in describe_verdict(report)


def test_chains_of_near_duplicates_become_one_group(varied_data: Path) -> None:
    copy_case(varied_data, 2, "a")
    copy_case(varied_data, 2, "b")
    cases = open_dataset(varied_data).cases
    thumbnails = np.stack([make_thumbnail(read_case(case).frame) for case in cases])
    pairs = search_duplicates(cases, thumbnails).pairs
    assert len(pairs) == 3
    for some in (pairs, pairs[:2], pairs[1:], list(reversed(pairs))):
        assert len({case.group for case in join_groups(cases, some)}) == 6


def test_blocks_find_the_same_pairs(varied_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_case(varied_data, 4, "other")
    cases = open_dataset(varied_data).cases
    thumbnails = np.stack([make_thumbnail(read_case(case).frame) for case in cases])
    whole = search_duplicates(cases, thumbnails).pairs
    monkeypatch.setattr("edgeseg.data.duplicates.BLOCK", 2)
    again = search_duplicates(cases, thumbnails).pairs
    assert [(p.first, p.second) for p in again] == [(p.first, p.second) for p in whole]


def test_images_of_one_brightness_are_no_duplicates() -> None:
    assert not make_thumbnail(np.full((50, 60), 77, np.uint8)).any()


def test_cases_whose_classes_overlap_are_counted(varied_data: Path) -> None:
    for number in range(6):
        disc = draw_case(number)[1]
        write_image(varied_data / "masks_vessel" / f"case_{number:02d}.png", disc if number < 2 else 255 - disc)
    report = check(varied_data)
    assert (report.verdict, report.to_json()["overlapping"]) == (READY, 2)


def test_contact_sheet_of_16_bit(varied_data: Path) -> None:
    write_image(varied_data / "images" / "case_00.png", draw_case(0)[0].astype(np.uint16) * 16)
    dataset = open_dataset(varied_data)
    assert make_tile(view_case(dataset.cases[0]), dataset.classes).picture.max() >= 250
    table = check(varied_data).to_json()
    assert (table["bits"], table["white"]) == ({"8": 5, "16": 1}, 4095)


def test_label_values_with_a_gap_are_a_defect(tmp_path: Path) -> None:
    root = make_varied_data(tmp_path / "labels")
    (root / "masks").rename(root / "labels")
    for path in (root / "labels").iterdir():
        write_image(path, np.where(read_image(path) > 0, np.uint8(3), np.uint8(0)))
    report = check(root)
    assert "label-values" in [defect.kind for defect in report.defects]
    assert "got 0, 3" in report.defects[0].message
