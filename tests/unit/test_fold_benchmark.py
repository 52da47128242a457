"""The figures by which recipes are compared, and the folders that keep the labels of a share of the groups."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.core.decision import FOUND, NOTHING
from edgeseg.core.errors import DataError
from edgeseg.core.files import write_rows
from edgeseg.data.dataset import open_dataset
from edgeseg.evaluation.operating import Outcome
from edgeseg.frame.images import write_image

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("fold_figures")


@pytest.fixture
def few_labels(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("few_labels")


def judge(figures: Any, stem: str, dice: float | None, confidence: float, **extra: Any) -> Any:
    state = FOUND if confidence > 0 else NOTHING
    outcome = Outcome("target", stem, dice, state, confidence, probability=extra.pop("probability", None))
    return figures.Judged(stem, stem, confidence > 0, (outcome,), **extra)


def test_figures_of_a_recipe(figures: Any) -> None:
    cases = [
        *(judge(figures, f"lesion{number}", 0.9, 0.8 + number / 100) for number in range(8)),
        judge(figures, "weak", 0.4, 0.3),
        judge(figures, "lost", 0.0, 0.0),
        judge(figures, "alarm", None, 0.5),
        judge(figures, "doubt", None, 0.2),
        *(judge(figures, f"normal{number}", None, 0.0) for number in range(2)),
    ]
    found = {name: estimate.mean for name, estimate in figures.measure_figures([cases]).estimate().items()}
    assert found["dice"] == pytest.approx((8 * 0.9 + 0.4) / 10)
    assert found["missed"] == pytest.approx(0.2)
    assert found["marked_empty"] == pytest.approx(0.5)
    # 8 of 10 are found above every false alarm; the ninth takes one of the four empty cases along
    assert found["false_alarms_at_80"] == 0.0
    assert found["false_alarms_at_90"] == pytest.approx(0.25)
    assert found["dice_at_80"] == pytest.approx(0.9)
    # neither operating points nor findings
    assert not {"sensitivity", "auc_finding"} & set(found)


def test_where_too_few_are_found_every_mask_is_shown(figures: Any) -> None:
    measure = figures.false_alarms_at(0.9, np.array([0.9, 0.0, 0.4, 0.0]), np.array([1.0, 0.0, 0.0, 0.0]), MASK)
    assert measure(np.ones(4)) == pytest.approx(0.5)


MASK = np.array([True, True, False, False])


def test_equal_confidences_stand_or_fall_together(figures: Any) -> None:
    measure = figures.false_alarms_at(0.5, np.full(4, 0.7), np.array([1.0, 1.0, 0.0, 0.0]), MASK)
    assert measure(np.ones(4)) == 1.0


def test_a_figure_without_cases_is_left_out(figures: Any) -> None:
    cases = [judge(figures, f"lesion{number}", 0.5, 0.5, decided=True) for number in range(6)]
    found = figures.measure_figures([cases]).estimate()
    assert "false_alarms_at_80" not in found
    assert "marked_empty" not in found
    assert found["sensitivity"].mean == 1.0


def test_differences_are_paired_and_seeds_averaged(figures: Any) -> None:
    random = np.random.default_rng(0)
    levels = random.uniform(0.1, 0.8, 30)
    one, other = (
        [judge(figures, f"case{number:02d}", level + gain, 0.5) for number, level in enumerate(levels)]
        for gain in (0.0, 0.1)
    )
    first, both = figures.measure_figures([one]), figures.measure_figures([one, other])
    change = both.compare(first)["dice"]
    # the cases differ by far more than the recipes: only paired differences have this interval
    assert change.mean == pytest.approx(0.05, abs=1e-4)
    assert change.ci95 == pytest.approx((0.05, 0.05), abs=1e-4)
    with pytest.raises(SystemExit, match="cases"):
        figures.measure_figures([one[:-1]]).compare(first)


def test_frame_classes_are_told_apart_in_pairs(figures: Any) -> None:
    cases = [
        judge(
            figures,
            f"{name}{number}",
            0.5,
            0.5,
            frame_class=name,
            frame_classes={"benign": 0.2, "malignant": 0.1 + 0.4 * (name == "malignant"), "normal": 0.9},
        )
        for name in ("benign", "malignant", "normal")
        for number in range(3)
    ]
    found = figures.measure_figures([cases]).estimate()
    assert found["auc_benign_malignant"].mean == 1.0
    assert found["auc_benign_normal"].mean == 0.5


def write_data(root: Path, groups: int, per_group: int = 2) -> None:
    rows = []
    for number in range(groups * per_group):
        image = np.full((32, 32), number, np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        # every fifth group shows nothing
        mask[4:9, 4:9] = 0 if number // per_group % 5 == 0 else 255
        write_image(root / "images" / f"s{number:03d}.png", image)
        write_image(root / "masks" / f"s{number:03d}.png", mask)
        rows.append((f"s{number:03d}", f"g{number // per_group:02d}", f"note {number}"))
    write_rows(root / "groups.csv", ("stem", "group", "remark"), rows)


def test_a_share_of_the_groups_keeps_its_labels(few_labels: Any, tmp_path: Path) -> None:
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "masks").mkdir()
    write_data(tmp_path / "data", groups=30)
    fold = few_labels.find_folds(tmp_path / "data", 3)[1]
    made = [
        few_labels.make_subset(tmp_path / "data", tmp_path / f"share-{share}", fold, share, seed=4)
        for share in (0.2, 0.5, 1.0)
    ]
    parts = [{case.stem: case.part for case in open_dataset(subset.labelled).cases} for subset in made]
    trained = [{stem for stem, part in one.items() if part == "train"} for one in parts]
    assert trained[0] < trained[1] < trained[2] == {case.stem for case in fold.train}
    for one in parts:
        assert {stem for stem, part in one.items() if part == "test"} == {case.stem for case in fold.test}
        assert {stem for stem, part in one.items() if part == "val"} == {case.stem for case in fold.validation}
    for subset, labelled in zip(made, trained, strict=True):
        left = {path.stem for path in subset.rest.iterdir()}
        assert left == trained[2] - labelled
        assert {path.stem for path in subset.frames.iterdir()} == trained[2]
        assert not left & {case.stem for case in open_dataset(subset.labelled).cases}
    groups = {case.group for case in open_dataset(made[0].labelled).cases if case.part == "train"}
    # two of eight groups that show something, and one of those that do not
    assert len(groups) == math.ceil(0.2 * 8) + math.ceil(0.2 * 2)
    assert "remark" in (made[0].labelled / "groups.csv").read_text(encoding="utf-8").splitlines()[0]


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, math.nan])
def test_shares_outside_their_range_are_refused(few_labels: Any, share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        few_labels.choose_labelled([], {}, share, 0)


def test_images_of_one_file_cannot_be_linked_one_by_one(few_labels: Any, tmp_path: Path) -> None:
    frames = np.zeros((9, 32, 32), np.uint8)
    np.save(tmp_path / "train_images.npy", frames)
    frames[:, 4:9, 4:9] = 1
    np.save(tmp_path / "train_masks.npy", frames)
    fold = few_labels.find_folds(tmp_path, 3)[0]
    with pytest.raises(DataError, match="file of its own"):
        few_labels.make_subset(tmp_path, tmp_path / "out", fold)
    assert not (tmp_path / "out").exists()
