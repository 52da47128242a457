"""Test cases one by one: training leaves a sheet and a table, and `evaluate --overlays` draws each case."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.files import read_rows
from edgeseg.core.modelfile import read_model
from edgeseg.data.dataset import open_dataset, read_case
from edgeseg.data.pictures import TILE
from edgeseg.evaluation.overlays import ALL, INDEX, SHEET, rank_cases, write_overlays
from edgeseg.evaluation.score import score_cases
from edgeseg.frame.images import read_image
from edgeseg.inference.segmenter import Segmenter
from edgeseg.training.run import TEST_CASES, TEST_ROWS, read_run

pytestmark = pytest.mark.integration
AMBER = (255, 176, 0)


def count_pixels(path: Path, colour: tuple[int, int, int]) -> int:
    difference = read_image(path, colour=True).astype(int) - np.array(colour[::-1])
    return int((np.abs(difference).sum(axis=2) < 60).sum())


def test_training_leaves_a_sheet_of_test_cases(trained_run: Path) -> None:
    sheet = trained_run / TEST_CASES
    assert read_image(sheet).shape[1] % TILE < TILE / 2
    assert count_pixels(sheet, AMBER) > 200


def test_training_leaves_the_figures_of_every_test_case(trained_run: Path) -> None:
    dice = [float(row["dice"]) for row in read_rows(trained_run / TEST_ROWS) if row["dice"]]
    evaluation = read_run(trained_run).evaluation or {}
    assert len(dice) == evaluation["cases"]
    assert float(np.mean(dice)) == pytest.approx(evaluation["dice"]["mean"], abs=1e-4)


def test_every_telling_case_gets_its_picture(trained_run: Path, trained_data: Path, tmp_path: Path) -> None:
    cases = open_dataset(trained_data).cases[:10]
    segmenter = Segmenter(read_model(trained_run / "model.tflite"))
    scored = score_cases(segmenter, [read_case(case) for case in cases])
    write_overlays(tmp_path, segmenter, scored, lambda number: read_case(cases[number]))
    with (tmp_path / INDEX).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    filled = [case for case in scored if not case.empty]
    assert [row["stem"] for row in rows] == [scored[number].stem for number in rank_cases(scored)]
    assert len({row["stem"] for row in rows}) == len(rows) == len(scored)
    pictures = {row["picture"] for row in rows if row["picture"]}
    assert {path.name for path in tmp_path.iterdir()} == {INDEX, SHEET, ALL, *pictures}
    worst = next(row for row in rows if row["picture"] == "worst-1.png")
    assert worst["stem"] == min(filled, key=lambda case: case.mean("dice")).stem
    assert {row["page"] for row in rows} == {ALL}
    assert count_pixels(tmp_path / "best-1.png", AMBER) > 200
