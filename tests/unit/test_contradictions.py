"""Contradictory labels: near-duplicates whose masks or frame labels differ are listed, the worst first."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgeseg.cli.app import main
from edgeseg.core.spec import ClassSpec
from edgeseg.data.check import READY, CheckReport, check_survey
from edgeseg.data.contradictions import (
    LABELS,
    MASKS,
    PRESENCE,
    find_contradictions,
    measure_overlap,
    pack_masks,
    warn_of_contradictions,
)
from edgeseg.data.dataset import survey_dataset
from edgeseg.data.duplicates import DuplicatePair, join_groups
from edgeseg.data.groups import write_groups
from edgeseg.data.overview import PAIRS_IN_ROW, draw_pair, write_pairs
from edgeseg.data.pictures import GAP, TILE
from edgeseg.frame.images import read_image
from tests.damages import make_varied_data
from tests.discs import draw_case, write_case

CLASSES = (ClassSpec("disc"), ClassSpec("ring", (1, 2, 3)))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three copies of an image: one with the same mask, one with a mask elsewhere, one without any."""
    root = make_varied_data(tmp_path / "varied")
    image, mask = read_image(root / "images" / "case_02.png"), draw_case(2)[1]
    for name, drawn in (("same", mask), ("away", np.roll(mask, 40, axis=1)), ("none", np.zeros_like(mask))):
        write_case(root, name, image, drawn)
    return root


def check(root: Path) -> CheckReport:
    report = check_survey(survey_dataset(root))
    write_groups(root / "groups.csv", join_groups(report.dataset.cases, report.pairs))
    return check_survey(survey_dataset(root))


def test_contradictory_masks_are_listed_the_empty_ones_first(data: Path) -> None:
    report = check(data)
    assert report.verdict == READY
    found = report.to_json()["contradictory_labels"]
    assert [one["kind"] for one in found] == [PRESENCE] * 3 + [MASKS] * 2
    assert [set(one["cases"]) for one in found[:3]] == [{"none", other} for other in ("away", "case_02", "same")]
    assert all(one["overlap"] < 0.5 and one["correlation"] > 0.99 for one in found)
    assert "contradictory-labels" in [warning.kind for warning in report.warnings]


def test_data_without_contradictions_say_nothing_of_them(tmp_path: Path) -> None:
    report = check(make_varied_data(tmp_path / "varied"))
    assert not report.contradictions
    assert not warn_of_contradictions(report.contradictions)


def make_pair(correlation: float, labels: tuple[str, str] = ("", "")) -> DuplicatePair:
    first, second = (SimpleNamespace(stem=f"case_{n}", label=label) for n, label in enumerate(labels))
    return DuplicatePair(cast("Any", first), cast("Any", second), correlation)


def compare(pair: DuplicatePair, first: list[np.ndarray], second: list[np.ndarray]) -> list[tuple[str, str]]:
    packed = {"case_0": pack_masks(first), "case_1": pack_masks(second)}
    return [(one.kind, one.name) for one in find_contradictions([pair], packed, CLASSES)]


def test_the_class_that_differs_most_is_named() -> None:
    disc, none = draw_case(1)[1], np.zeros((50, 40), np.uint8)
    assert compare(make_pair(0.99), [disc, disc], [disc, none]) == [(PRESENCE, "ring")]
    assert compare(make_pair(0.99), [disc, none], [disc, none]) == []
    # frames that are less alike may show the structure elsewhere
    assert compare(make_pair(0.96), [disc, disc], [disc, none]) == []


def test_frame_labels_that_differ_contradict_where_both_are_known() -> None:
    disc = [draw_case(1)[1]] * 2
    assert compare(make_pair(0.99, ("benign", "malignant")), disc, disc) == [(LABELS, "disc")]
    assert compare(make_pair(0.99, ("benign", "benign")), disc, disc) == []
    assert compare(make_pair(0.99, ("benign", "")), disc, disc) == []
    pair = make_pair(0.99, ("benign", "malignant"))
    (both,) = find_contradictions(
        [pair], {"case_0": pack_masks(disc), "case_1": pack_masks([disc[0] * 0] * 2)}, CLASSES
    )
    assert (both.kind, both.labels) == (PRESENCE, ("benign", "malignant"))
    assert "labelled benign and malignant" in both.describe()


def test_masks_of_other_sizes_are_compared_on_one_grid() -> None:
    large = np.zeros((400, 600), np.uint8)
    large[100:200, 150:450] = 255
    assert measure_overlap(*(pack_masks([mask])[0] for mask in (large, large[::4, ::4]))) == pytest.approx(
        1.0, abs=0.05
    )
    point = np.zeros((4000, 4000), np.uint8)
    point[2000, 2000] = 1
    # too small for the grid, and still no empty mask
    assert measure_overlap(pack_masks([point])[0], pack_masks([point * 0])[0]) == 0.0
    assert measure_overlap(pack_masks([point])[0], pack_masks([point])[0]) == 1.0


def test_the_command_lists_and_draws_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check(data)
    sheet, table = tmp_path / "sheet.png", tmp_path / "check.json"
    monkeypatch.setattr("sys.argv", ["edgeseg", "data", "check", *map(str, (data, "--sheet", sheet, "--json", table))])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    assert "away and none" in capsys.readouterr().out
    assert len(json.loads(table.read_text(encoding="utf-8"))["contradictory_labels"]) == 5
    assert read_image(sheet).shape[0] >= 2 * TILE
    assert (tmp_path / "sheet-pairs.png").is_file()


def test_pairs_are_drawn_side_by_side_on_pages_of_their_own(data: Path, tmp_path: Path) -> None:
    report = check(data)
    pairs = [(one.pair.first, one.pair.second) for one in report.contradictions]
    tile = draw_pair(1, pairs[0], report.dataset.classes)
    assert tile.picture.shape[1] == 2 * TILE + GAP
    path = tmp_path / "pairs.png"
    assert write_pairs(path, pairs, report.dataset.classes, "data") == (path,)
    assert read_image(path).shape[1] == PAIRS_IN_ROW * (2 * TILE + GAP) + (PAIRS_IN_ROW - 1) * GAP
    assert write_pairs(path, (), report.dataset.classes, "data") == ()
    assert not path.exists()
