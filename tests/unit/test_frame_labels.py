"""Labels of whole frames: where they come from, which are refused, and what they change."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgeseg.core.errors import DataError, LimitError
from edgeseg.core.limits import FRAME_CLASSES
from edgeseg.data.dataset import Dataset, fingerprint_dataset, fingerprint_labels, import_dataset, open_dataset
from edgeseg.data.defects import DefectError
from edgeseg.data.frame_labels import count_labels, list_labels
from tests.discs import make_disc_data
from tests.layouts import make_busi


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_disc_data(tmp_path / "discs", 4)


def label(root: Path, text: str, name: str = "labels.csv") -> Path:
    (root / name).write_text(text, encoding="utf-8")
    return root


def read_labels(dataset: Dataset) -> dict[str, str]:
    return {case.stem: case.label for case in dataset.cases}


def test_images_are_labelled_by_the_table(data: Path) -> None:
    label(data, "stem;label\ncase_00;benign\n case_01 ; malignant \ncase_02;\ncase_03;benign\n")
    dataset = open_dataset(data)
    assert read_labels(dataset) == {"case_00": "benign", "case_01": "malignant", "case_02": "", "case_03": "benign"}
    assert [(warning.kind, warning.cases) for warning in dataset.warnings] == [("missing-labels", ("case_02",))]
    assert count_labels(dataset.cases) == {"benign": 2, "malignant": 1}


def test_a_column_of_the_groups_stands_in_for_the_table(data: Path) -> None:
    label(data, "stem,group,class\n" + "".join(f"case_0{n},g{n},{'ab'[n % 2]}\n" for n in range(4)), "groups.csv")
    assert list(read_labels(open_dataset(data)).values()) == ["a", "b", "a", "b"]
    label(data, "stem,label\ncase_00,x\ncase_01,y\n")
    assert list(read_labels(open_dataset(data)).values()) == ["x", "y", "", ""]


@pytest.mark.parametrize("kinds", [1, FRAME_CLASSES + 1])
def test_a_column_that_labels_nothing_is_ignored(data: Path, kinds: int) -> None:
    rows = "".join(f"other_{n},g,k{n % kinds}\n" for n in range(FRAME_CLASSES + 1))
    label(data, "stem,group,class\n" + "".join(f"case_0{n},g{n},k0\n" for n in range(4)) + rows, "groups.csv")
    assert not list_labels(open_dataset(data).cases)


def test_the_folders_of_busi_are_labels(tmp_path: Path) -> None:
    make_busi(tmp_path)
    dataset = open_dataset(tmp_path)
    assert count_labels(dataset.cases) == {"benign": 2, "malignant": 1, "normal": 1}
    (tmp_path / "out").mkdir()
    import_dataset(dataset, tmp_path / "out")
    assert read_labels(open_dataset(tmp_path / "out")) == read_labels(dataset)


def test_one_folder_of_busi_is_no_label(tmp_path: Path) -> None:
    make_busi(tmp_path)
    for name in ("malignant", "normal"):
        (tmp_path / name).rename(tmp_path / f"no-{name}")
    assert not list_labels(open_dataset(tmp_path).cases)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("stem,label\ncase_00,a\ncase_01,b\ncase_00,b\n", r"one label for each image.*a and b for case_00 .lines 2, 4"),
        ("stem,label\ncase_00,a\ncase_01,b\nnobody,b\n", "nobody"),
        ("stem,label\ncase_00,a\ncase_01,a\n", "2 different labels.*got a"),
        ("stem,label\ncase_00,\n", "2 different labels.*got none"),
        ("stem,kind\ncase_00,a\n", "columns stem and label"),
        ("stem,label\ncase_00," + "a" * 300 + "\n", "255 printable letters"),
        ("stem,label\ncase_00,a\x1b[2J\n", "printable"),
        ("stem,label\n" + "".join(f"case_{n},k{n}\n" for n in range(FRAME_CLASSES + 1)), "at most 32 different labels"),
        ("", "columns stem and label"),
    ],
)
def test_wrong_tables_are_refused_in_one_sentence(data: Path, text: str, match: str) -> None:
    label(data, text)
    with pytest.raises(DataError, match=match) as caught:
        open_dataset(data)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_a_table_by_another_name_or_kind_is_refused(data: Path) -> None:
    label(data, "stem,label\ncase_00,a\n", "Labels.csv")
    with pytest.raises(DataError, match=r"name labels\.csv"):
        open_dataset(data)
    (data / "Labels.csv").unlink()
    (data / "labels.csv").mkdir()
    with pytest.raises((DataError, LimitError), match=r"labels\.csv"):
        open_dataset(data)


def test_unknown_names_are_a_defect_and_not_also_one_label(data: Path) -> None:
    label(data, "stem,label\nx,a\ny,b\n")
    with pytest.raises(DefectError) as caught:
        open_dataset(data)
    assert (caught.value.kind, caught.value.stems) == ("label-without-image", ("x", "y"))


def test_labels_have_a_fingerprint_of_their_own(data: Path) -> None:
    bare = open_dataset(data)
    assert fingerprint_labels(bare.cases) == ""
    first = open_dataset(label(data, "stem,label\ncase_00,a\ncase_01,b\n"))
    second = open_dataset(label(data, "stem,label\ncase_00,b\ncase_01,a\n"))
    assert len({fingerprint_labels(dataset.cases) for dataset in (bare, first, second)}) == 3
    assert len({fingerprint_dataset(dataset) for dataset in (bare, first, second)}) == 1
    turned = dataclasses.replace(first, cases=first.cases[::-1])
    assert fingerprint_labels(turned.cases) == fingerprint_labels(first.cases)
