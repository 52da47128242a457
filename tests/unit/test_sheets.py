"""Contact sheets: every case on some page, names or numbers under it, and no file of somebody else replaced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.errors import OutputError
from edgeseg.core.files import read_rows
from edgeseg.core.palette import PALETTE
from edgeseg.core.spec import ClassSpec
from edgeseg.data import sheets
from edgeseg.data.overview import SheetPlan, pick_evenly, write_contact_sheet
from edgeseg.data.pictures import GAP, TILE
from edgeseg.data.reading import Case, Reading
from edgeseg.data.sheets import (
    MOST_PAGES,
    PER_PAGE,
    Legend,
    Tile,
    add_legend,
    draw_page,
    fit_text,
    is_page,
    number_case,
    write_page,
)
from edgeseg.frame.images import read_image, write_image
from tests.discs import draw_case

CLASSES = (ClassSpec("disc"),)


def make_cases(count: int, stem: str = "case_{:02d}") -> tuple[Case, ...]:
    def read(case: Case, colour: bool) -> Reading:
        assert not colour
        frame, mask = draw_case(int(case.group))
        return frame, ((mask > 0).astype(np.uint8),)

    return tuple(Case(stem.format(number), Path("x"), (), str(number), read=read) for number in range(count))


def write(path: Path, cases: Sequence[Case]) -> SheetPlan:
    plan = SheetPlan(path, tuple(cases))
    write_contact_sheet(plan, "data", CLASSES)
    return plan


def test_one_page_shows_all_cases_where_they_fit(tmp_path: Path) -> None:
    plan = write(tmp_path / "s.png", make_cases(3))
    assert {path.name for path in tmp_path.iterdir()} == {"s.png", "s-names.csv"}
    assert read_image(plan.path).shape[1] == 3 * TILE + 2 * GAP
    assert [(row["number"], row["stem"], row["marked"]) for row in read_rows(plan.names)] == [
        ("1", "case_00", "disc"), ("2", "case_01", "disc"), ("3", "case_02", "disc"),
    ]  # fmt: skip


def test_more_cases_stand_on_more_pages_and_each_on_one(tmp_path: Path) -> None:
    plan = write(tmp_path / "s.png", make_cases(PER_PAGE + 2))
    assert {path.name for path in tmp_path.iterdir()} == {"s.png", "s-2.png", "s-3.png", "s-names.csv"}
    rows = read_rows(plan.names)
    assert [row["number"] for row in rows] == [str(number) for number in range(1, PER_PAGE + 3)]
    assert [row["page"] for row in rows] == ["2"] * PER_PAGE + ["3"] * 2
    assert read_image(tmp_path / "s-3.png").shape[1] == 2 * TILE + GAP


def test_pages_of_an_earlier_longer_sheet_are_removed_and_no_other_file_is(tmp_path: Path) -> None:
    write(tmp_path / "s.png", make_cases(PER_PAGE + 1))
    mine = np.zeros((4, 4), np.uint8)
    write_image(tmp_path / "s-4.png", mine)
    write(tmp_path / "s-7.png", make_cases(2))
    write(tmp_path / "s.png", make_cases(2))
    assert {path.name for path in tmp_path.glob("*.png")} == {"s.png", "s-4.png", "s-7.png"}


@pytest.mark.parametrize("name", ["s-2.png", "s-names.csv"])
def test_other_files_are_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(OutputError, match="another file"):
        write(tmp_path / "s.png", make_cases(PER_PAGE + 1))
    assert (tmp_path / name).read_bytes() == b"mine"
    assert not (tmp_path / "s.png").exists()


def test_of_too_many_cases_some_are_picked_evenly_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MOST_PAGES", 2)
    plan = SheetPlan(Path("s.png"), make_cases(3 * PER_PAGE))
    assert (len(plan.pages), len(plan.shown)) == (2, 2 * PER_PAGE)
    assert (plan.shown[0], plan.shown[-1]) == (0, 3 * PER_PAGE - 1)
    assert f"{2 * PER_PAGE:,} of them, evenly picked" in plan.describe()


def test_the_pages_of_very_many_cases_are_counted_and_not_drawn() -> None:
    plan = SheetPlan(Path("s.png"), make_cases(1) * 100_000)
    assert len(plan.pages) == MOST_PAGES


def test_a_page_is_a_picture_that_knows_its_sheet(tmp_path: Path) -> None:
    picture = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    write_page(tmp_path / "a-2.png", picture, "a.png")
    assert np.array_equal(read_image(tmp_path / "a-2.png", colour=True), picture)
    assert is_page(tmp_path / "a-2.png", "a.png")
    assert not is_page(tmp_path / "a-2.png", "b.png")
    assert not is_page(tmp_path, "a.png")


def test_names_are_shortened_in_the_middle_and_others_become_numbers() -> None:
    assert number_case(7, "case_01") == "7  case_01"
    assert number_case(7, "\u60a3\u8005_01") == "7"
    assert fit_text("short", 200) == "short"
    short = fit_text("first" + "x" * 200 + "last", 150)
    assert short.startswith("first")
    assert short.endswith("last")
    assert fit_text("anything", 3) == ""


@pytest.mark.parametrize("count", [1, 12, 127])
def test_the_legend_has_few_lines_whatever_there_is(count: int) -> None:
    names = ("\u809d\u810f", *(f"class with a long name {number}" for number in range(count - 1)))
    classes = tuple(ClassSpec(name, colour) for name, colour in zip(names, PALETTE, strict=False))
    picture = np.full((50, 700, 3), 7, np.uint8)
    page = add_legend(picture, Legend("title \u809d", classes, "truth", "prediction"), range(count))
    assert np.array_equal(page[-50:], picture)
    assert page.shape[0] < 50 + 150
    amber = np.abs(page.astype(int) - PALETTE[0][::-1]).sum(axis=2) < 9
    assert amber.any()


def test_of_many_classes_the_legend_names_those_that_are_shown() -> None:
    classes = tuple(ClassSpec(f"c{number}", colour) for number, colour in enumerate(PALETTE))
    tile = Tile(np.zeros((TILE, TILE, 3), np.uint8), ("1",), (100,))
    page = draw_page([tile], Legend("", classes, "truth"))
    seen = [(np.abs(page.astype(int) - spec.colour[::-1]).sum(axis=2) < 2).any() for spec in (classes[100], classes[3])]
    assert seen == [True, False]


def test_cases_are_picked_from_first_to_last() -> None:
    assert pick_evenly(10, 3) == [0, 4, 9]
    assert pick_evenly(2, 5) == [0, 1]
