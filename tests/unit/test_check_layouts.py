"""The data check on a tiny copy of every layout, before and after its import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeseg.data.check import check_survey
from edgeseg.data.dataset import import_dataset, open_dataset, survey_dataset
from tests.layouts import MAKERS, NEEDED, make_plain

EXPECTED: dict[str, tuple[int, int, int, int, list[str]]] = {
    "plain": (4, 4, 0, 4, ["target", "vessel"]),
    "labelmap": (4, 4, 0, 0, ["class_1", "class_2"]),
    "busi": (4, 4, 1, 0, ["lesion"]),
    "hc18": (4, 3, 0, 4, ["head"]),
    "nerve": (4, 3, 0, 0, ["nerve"]),
    "camus": (4, 3, 0, 3, ["ventricle", "myocardium", "atrium"]),
    "arrays": (9, 9, 0, 0, ["target"]),
    "dicom": (4, 4, 0, 2, ["target"]),
    "nnunet": (4, 4, 0, 0, ["lesion", "vessel"]),
    "folders": (4, 4, 0, 0, ["target"]),
    "beside": (4, 3, 0, 0, ["target"]),
    **dict.fromkeys(("coco", "labelme", "yolo", "cvat"), (4, 4, 1, 0, ["target", "vessel"])),
}
"""Cases, groups, cases with nothing marked, cases of known pixel size, and classes."""
LABELS = {
    **{name: ["0", "1", "2"] for name in ("labelmap", "coco", "labelme", "yolo", "cvat")},
    "camus": ["0", "1", "2", "3"],
    "arrays": ["0", "1"],
    "nnunet": ["0", "1", "2", "3", "4"],
}
"""Label values where they are not 0 and 255."""


def check(root: Path, pattern: str | None = None) -> dict[str, Any]:
    return check_survey(survey_dataset(root, group_pattern=pattern)).to_json()


def count(table: dict[str, Any]) -> tuple[int, int, int, int, list[str]]:
    names = [entry["name"] for entry in table["classes"]]
    return table["cases"], table["groups"], table["empty"], table["pixel_size_mm"]["known"], names


@pytest.mark.parametrize("name", MAKERS)
def test_check_says_the_same_of_a_layout_and_of_its_import(tmp_path: Path, name: str) -> None:
    if name in NEEDED:
        pytest.importorskip(NEEDED[name])
    MAKERS[name](tmp_path / name)
    first = check(tmp_path / name)
    assert (first["layout"], first["defects"]) == (name, [])
    assert count(first) == EXPECTED[name]
    assert first["sizes"] == {"96x72": EXPECTED[name][0]}
    assert list(first["label_values"]) == LABELS.get(name, ["0", "255"])

    import_dataset(open_dataset(tmp_path / name), tmp_path / "out")
    again = check(tmp_path / "out")
    assert (again["layout"], again["defects"]) == ("plain", [])
    assert count(again)[:4] == count(first)[:4]
    shares = [{entry["name"]: entry["pixel_share"] for entry in table["classes"]} for table in (first, again)]
    assert shares[0] == shares[1]


def test_pattern_goes_before_the_groups_file_and_into_the_import(tmp_path: Path) -> None:
    make_plain(tmp_path / "plain")
    assert check(tmp_path / "plain", r"^(p)")["groups"] == 1
    import_dataset(open_dataset(tmp_path / "plain", group_pattern=r"^(p)"), tmp_path / "out")
    assert {case.group for case in open_dataset(tmp_path / "out").cases} == {"p"}


def test_mask_folders_without_a_plain_one(tmp_path: Path) -> None:
    make_plain(tmp_path)
    (tmp_path / "masks").rename(tmp_path / "masks_lesion")
    table = check(tmp_path)
    assert ([entry["name"] for entry in table["classes"]], table["defects"]) == (["lesion", "vessel"], [])
