"""Data that can be trained on and look wrong: the check tells of them, and so does the start of a training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.card import SplitSpec
from edgeseg.data.check import FEW_GROUPS, READY, check_survey, describe_verdict
from edgeseg.data.dataset import survey_dataset
from edgeseg.frame.images import read_image, write_image
from edgeseg.training.loading import load_data
from tests.damages import make_varied_data
from tests.discs import draw_case, write_case
from tests.layouts import SIZE

Change = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
SPLIT = SplitSpec(seed=0, validation=0.2, test=0.2)


def fill(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mark all but a frame of two pixels."""
    filled = np.zeros_like(mask)
    filled[2:-2, 2:-2] = 255
    return filled


def make_large_organ(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mark two thirds of the image, cut by one side, as a liver may be."""
    organ = np.zeros_like(mask)
    organ[: 2 * SIZE[0] // 3] = 255
    return organ


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (lambda mask: 255 - mask, ["inverted-masks"]),
        (fill, ["filling-masks"]),
        (make_large_organ, []),
        (lambda mask: mask, []),
    ],
)
def test_masks_that_cover_what_they_should_not_are_told(
    tmp_path: Path, change: Change, kinds: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = make_varied_data(tmp_path / "data")
    for path in (root / "masks").iterdir():
        write_image(path, change(np.asarray(read_image(path), np.uint8)))
    report = check_survey(survey_dataset(root))
    assert report.verdict == READY
    assert [warning.kind for warning in report.warnings] == [*kinds, "few-groups"]
    assert all(kind in describe_verdict(report) for kind in kinds)
    loaded = load_data(root, SPLIT)
    caplog.clear()
    loaded.log_warnings()
    said = caplog.messages
    assert all(f"{warning.message}\n  {warning.hint}" in said for warning in report.warnings)


def test_many_groups_are_not_few(tmp_path: Path) -> None:
    for number in range(FEW_GROUPS):
        write_case(tmp_path, f"c{number:02d}", *draw_case(number))
    assert check_survey(survey_dataset(tmp_path)).warnings == ()
    rows = "".join(f"c{number:02d},g{number // 2}\n" for number in range(FEW_GROUPS))
    (tmp_path / "groups.csv").write_text("stem,group\n" + rows, encoding="utf-8")
    (warning,) = check_survey(survey_dataset(tmp_path)).to_json()["warnings"]
    assert warning["kind"] == "few-groups"
    assert "20 images in 10 groups" in warning["message"]
