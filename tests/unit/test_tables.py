"""groups.csv and HC18's table, as spreadsheets of any country save them and as people break them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeseg.core.errors import DataError
from edgeseg.data.dataset import Dataset, open_dataset
from tests.damages import make_varied_data
from tests.layouts import make_hc18

ROWS = [("stem", "group", "pixel_size_mm"), *((f"case_{number:02d}", f"g{number // 2}", "0.07") for number in range(6))]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_varied_data(tmp_path / "data")


def write(root: Path, text: str, encoding: str = "utf-8") -> Dataset:
    (root / "groups.csv").write_bytes(text.encode(encoding))
    return open_dataset(root)


def join(separator: str, end: str = "\n") -> str:
    return "".join(separator.join(row) + end for row in ROWS)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (join(","), "utf-8"),
        (join(";", "\r\n"), "utf-8-sig"),
        (join("\t"), "utf-16"),
        ("sep=;\r\n" + join(";", "\r\n"), "utf-8"),
        (join(",", "\r"), "utf-8"),
        (join(", "), "utf-8"),
        (join(",") + "\n,,\n", "utf-8"),
    ],
)
def test_what_spreadsheets_save_is_read(root: Path, text: str, encoding: str) -> None:
    cases = write(root, text, encoding).cases
    assert [case.group for case in cases] == ["g0", "g0", "g1", "g1", "g2", "g2"]
    assert {case.pixel_size_mm for case in cases} == {0.07}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty table"),
        ("stem,group\n", "rows"),
        ("name,patient\n", "stem.*group.* name,patient"),
        ("stem,group,group\ncase_00,a,b\n", "group twice"),
        ("stem,group\ncase_00\0,a\n", "NUL"),
        ("stem,group\ncase_00," + "a" * 200_000, "line 2,.*field larger"),
        ('stem,group\n"case_00,a\n', "line 2"),
        ("stem,group,pixel_size_mm\ncase_00,a,0,07\n", "3 values.*line 2.* 4"),
        ("stem,group\ncase_00,a\n\ncase_00,b\n", r"case_00.*lines 2, 4"),
        *(
            (f"stem,group,{column}\ncase_00,a,{value}\n", rf"{column} of case_00 in .*, line 2, got '{value}'")
            for column in ("pixel_size_mm", "head_circumference_mm", "pixel_size_mm_original")
            for value in ("nan", "inf", "-1", "0", "1e308", "1e-308")
        ),
        ("stem,group,pixel_size_mm_original,orig_width,width\ncase_00,a,90,9000,1\n", "line 2, got 810000 from"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(root: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        write(root, text)
    assert "groups.csv" in caught.value.message


def test_a_decimal_comma_is_told_what_to_type(root: Path) -> None:
    with pytest.raises(DataError, match="line 2, got '0,07'") as caught:
        write(root, join(";").replace("0.07", "0,07"))
    assert "0.07" in caught.value.hint


def test_a_row_that_stands_twice_is_told(root: Path) -> None:
    (warning,) = write(root, join(",") + "case_00,g0,0.07\n").warnings
    assert "case_00 (lines 2, 8)" in warning.message


def test_outer_spaces_and_stored_accents_of_a_name_do_not_matter(root: Path) -> None:
    for kind in ("images", "masks"):
        (root / kind / "case_00.png").rename(root / kind / "mu\u0308ller.png")
    cases = write(root, join(",").replace("case_00", " m\u00fcller")).cases
    assert {case.stem: case.group for case in cases}["mu\u0308ller"] == "g0"


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "nowhere", "misspelt"])
def test_a_groups_file_that_is_none_is_refused_and_not_passed_over(root: Path, kind: str) -> None:
    path = root / "groups.csv"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "misspelt":
        (root / "Groups.csv").write_text(join(","), encoding="utf-8")
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "nowhere.csv")
    with pytest.raises(DataError, match=r"groups\.csv"):
        open_dataset(root)


def test_the_published_table_says_one_thing_of_each_image(tmp_path: Path) -> None:
    make_hc18(tmp_path)
    table = tmp_path / "training_set_pixel_size_and_HC.csv"
    text = table.read_text(encoding="utf-8")
    table.write_text(text + text.splitlines()[1] + "\n", encoding="utf-8")
    assert open_dataset(tmp_path).cases[0].head_circumference_mm == 44.3
    table.write_text(text + "000_HC.png,0.2,44.3\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"000_HC.png \(lines 2, 6\)"):
        open_dataset(tmp_path)
