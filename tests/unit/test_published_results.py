"""The page of all results, and the comparison with what was published."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
BEFORE = {"bare": 1.0, "preprocess": 0.2, "threshold": 0.01, "gone": 0.5}


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("page")


@pytest.fixture
def regression(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("regression")


@pytest.mark.parametrize(
    ("cell", "figure"),
    [
        ("0.722 (0.692 to 0.751)", (0.722, "", 0.692, 0.751)),
        ("+0.010 (-0.004 to 0.022)", (0.01, "", -0.004, 0.022)),
        ("12%", (12.0, "%")),
        ("1,234 ms", (1234.0, "ms")),
        ("41%, 20%", None),
        ("held", None),
        ("", None),
    ],
)
def test_a_cell_is_read_with_its_interval_and_unit(cell: str, figure: Any, page: Any) -> None:
    assert page.read_figure(cell) == (figure and page.Figure(*figure))


def test_columns_of_one_unit_are_drawn_and_words_are_not(page: Any) -> None:
    drawn = page.draw_columns([["a", "1.5", "held", "3 MB"], ["b", "-2", "missed", "4%"]])
    assert [[bool(cell) for cell in row] for row in drawn] == [[False, True, False, False]] * 2


def test_the_page_holds_every_published_result_and_reaches_for_nothing_outside(page: Any) -> None:
    html = page.render_results(page.RESULTS)
    assert all(f'<section id="{path.stem}">' in html for path in page.RESULTS.glob("*.md"))
    assert "src=" in html
    assert 'src="data:image/png' in html
    assert "<script" not in html


def test_figures_are_compared_by_their_ratio_to_the_reference_of_their_own_run(regression: Any) -> None:
    # the machine is twice as slow today, and the preprocessing even more
    now = {"bare": 2.0, "preprocess": 0.6, "threshold": 0.5}
    check, here = (
        regression.Check(("none.py",), ("what",), "ms p50", "bare", smallest=0.02),
        regression.describe_place(),
    )
    rows = regression.compare_rows("overhead", check, (here, BEFORE), now, 0.15)
    assert [(row[1], row[-1]) for row in rows] == [("preprocess", regression.SLOWER), ("gone", regression.GONE)]
    assert regression.compare_rows("overhead", check, (here, BEFORE), now, 0.6)[0][-1] == regression.SAME
    started = regression.Check(("none.py",), ("what", "unit"), "median", "python, s")
    before, slow = (
        {"python, s": 1.0, "doctor, s": 2.0, "wheel, kB": 9.0},
        {"python, s": 2.0, "doctor, s": 4.0, "wheel, kB": 9.0},
    )
    verdicts = [row[-1] for row in regression.compare_rows("startup", started, (here, before), slow, 0.15)]
    assert verdicts == [regression.SAME, regression.SAME]
    elsewhere = ("2026-01-01, Other, 4 cores", BEFORE)
    assert regression.compare_rows("overhead", check, elsewhere, now, 0.15)[0][-1] == regression.ELSEWHERE


def test_a_benchmark_without_its_rows_is_an_error(
    regression: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = regression.Check(("none.py",), ("what",), "ms p50", "bare")
    monkeypatch.setattr(regression, "read_rows", lambda *_: (regression.describe_place(), BEFORE))
    monkeypatch.setattr(regression, "measure", lambda *_: {"another row": 1.0})
    with pytest.raises(SystemExit, match="got none"):
        regression.judge("overhead", check, tmp_path, tmp_path, 0.15)


def test_what_depends_on_the_drawn_masks_counts_only_for_the_published_file(regression: Any) -> None:
    check, before = regression.CHECKS["overhead"], (regression.describe_place(), {"bare Interpreter.invoke()": 1.0})
    before[1]["single findings, after the mask"] = 1.0
    now = {"bare Interpreter.invoke()": 1.0, "single findings, after the mask": 3.0}
    assert regression.compare_rows("overhead", check, before, now, 0.15)[0][-1] == regression.OTHER
    given = regression.with_model(check, Path("int8.tflite"))
    assert given.command[-2:] == ("--model", "int8.tflite")
    assert regression.compare_rows("overhead", given, before, now, 0.15)[0][-1] == regression.SLOWER
