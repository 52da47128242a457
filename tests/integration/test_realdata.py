"""Real ultrasound: what the data's own notes say about them is what the check finds."""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.core.spec import ClassSpec
from edgeseg.data.check import LEAK, READY, CheckReport, check_survey
from edgeseg.data.dataset import find_shape, open_dataset, read_case, survey_dataset
from edgeseg.data.duplicates import join_groups
from edgeseg.data.reading import Case
from edgeseg.data.split import fold_cases
from edgeseg.evaluation.score import score_labels, summarise_cases
from edgeseg.frame.images import write_image

pytestmark = [pytest.mark.integration, pytest.mark.realdata]

FOLDER = Path(os.environ.get("EDGESEG_REALDATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


NAMED_TWINS = (
    ("benign_433", "malignant_145"),
    ("benign_131", "malignant_051"),
    ("benign_042", "malignant_051"),
    ("benign_399", "malignant_093"),
    ("benign_269", "normal_001"),
    ("benign_437", "normal_034"),
)
"""Pairs across the findings that the data's notes name; some of them are held back."""


def real(name: str) -> Path:
    """Give the folder of a data set, or skip the test."""
    if not (FOLDER / name).is_dir():
        pytest.skip(f"no {name} in {FOLDER}; EDGESEG_REALDATA names the folder of real data")
    return FOLDER / name


def check(root: Path) -> CheckReport:
    return check_survey(survey_dataset(root))


def link_without_groups(name: str, root: Path) -> Path:
    """Link a data set's folders into another one, so that its groups are not seen."""
    root.mkdir()
    for path in real(name).iterdir():
        if path.is_dir():
            (root / path.name).symlink_to(path, target_is_directory=True)
    return root


def partition(cases: Iterable[Case]) -> set[frozenset[str]]:
    members = defaultdict(set)
    for case in cases:
        members[case.group].add(case.stem)
    return {frozenset(group) for group in members.values()}


@pytest.mark.parametrize(
    ("name", "cases", "classes", "empty"),
    [
        ("busi", 624, ["target"], 103),
        ("hc18", 799, ["target"], 0),
        ("usgra_nerve", 199, ["target", "vessel"], 0),
        ("cca_carotid", 448, ["target"], 0),
    ],
)
def test_real_data_are_as_their_notes_say(name: str, cases: int, classes: list[str], empty: int) -> None:
    report = check(real(name))
    table = report.to_json()
    assert (report.verdict, len(report.leaks)) == (READY, 0)
    assert (table["cases"], table["empty"], table["bits"]) == (cases, empty, {"8": cases})
    assert [balance.name for balance in report.balance] == classes


def test_busi_repeats_itself_within_its_groups() -> None:
    assert len(check(real("busi")).pairs) > 150


def test_busi_without_its_groups_leaks_and_is_mended(tmp_path: Path) -> None:
    report = check(link_without_groups("busi", tmp_path / "busi"))
    assert report.verdict == LEAK
    stems = {case.stem for case in report.dataset.cases}
    named = [frozenset(pair) for pair in NAMED_TWINS if set(pair) <= stems]
    assert named
    assert set(named) <= {frozenset((pair.first.stem, pair.second.stem)) for pair in report.leaks}
    joined = join_groups(report.dataset.cases, report.pairs)
    assert partition(joined) == partition(open_dataset(real("busi")).cases)


def test_carotid_frames_of_one_video_are_alike(tmp_path: Path) -> None:
    report = check(link_without_groups("cca_carotid", tmp_path / "carotid"))
    assert len(report.leaks) > 200
    by_video = open_dataset(real("cca_carotid"), group_pattern=r"^(.+)_\d+$")
    assert partition(by_video.cases) == partition(open_dataset(real("cca_carotid")).cases)
    assert len(fold_cases(by_video.cases, {case.stem: False for case in by_video.cases}, 5, seed=0)) == 5


def circumference_mm(case: Case) -> float:
    contours, _ = cv2.findContours(read_case(case).masks[0], cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    _, (a, b), _ = cv2.fitEllipse(max(contours, key=len))
    assert case.pixel_size_mm is not None
    a, b = (a + 1) / 2, (b + 1) / 2
    return float(np.pi * (3 * (a + b) - np.sqrt((3 * a + b) * (a + 3 * b))) * case.pixel_size_mm)


def test_hc18_measures_what_was_published() -> None:
    ratios = [circumference_mm(case) / (case.head_circumference_mm or 0) for case in open_dataset(real("hc18")).cases]
    assert np.median(ratios) == pytest.approx(1.0, abs=0.02)
    assert np.quantile(np.abs(np.array(ratios) - 1), 0.95) < 0.03


def test_hc18_true_masks_have_the_published_circumference() -> None:
    images = [read_case(case) for case in open_dataset(real("hc18")).cases[::20]]
    scored = [score_labels(image.labels, image, (ClassSpec("head"),)) for image in images]
    error = summarise_cases(scored, (ClassSpec("head"),)).circumference_error_mm
    assert error is not None
    assert error.mean < 2.0


@pytest.mark.parametrize(("name", "shape"), [("hc18", "ellipse"), ("cca_carotid", "free")])
def test_heads_are_ellipses_and_vessels_are_not(name: str, shape: str) -> None:
    images = [read_case(case) for case in open_dataset(real(name)).cases[::10]]
    assert find_shape(images) == shape


def test_hc18_outlines_are_filled_to_the_same_masks(tmp_path: Path) -> None:
    cases = open_dataset(real("hc18")).cases[:40]
    for case in cases:
        mask = read_case(case).masks[0]
        inner = cv2.erode(mask, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
        (tmp_path / "training_set").mkdir(exist_ok=True)
        (tmp_path / "training_set" / f"{case.stem}.png").symlink_to(case.image)
        write_image(tmp_path / "training_set" / f"{case.stem}_Annotation.png", (mask - inner) * np.uint8(255))
    published = open_dataset(tmp_path)
    assert published.layout == "hc18"
    for case, again in zip(cases, published.cases, strict=True):
        assert np.array_equal(read_case(case).masks[0], read_case(again).masks[0])


def test_busi_under_its_published_names(tmp_path: Path) -> None:
    root = real("busi")
    with (root / "groups.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        stem = re.sub(r"_0*(\d+)$", r" (\1)", row["stem"])
        (tmp_path / row["class"]).mkdir(exist_ok=True)
        (tmp_path / row["class"] / f"{stem}.png").symlink_to(root / "images" / f"{row['stem']}.png")
        (tmp_path / row["class"] / f"{stem}_mask.png").symlink_to(root / "masks" / f"{row['stem']}.png")
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, len(dataset.cases)) == ("busi", 624)
    assert sum(not read_case(case).labels.any() for case in dataset.cases) == 103
