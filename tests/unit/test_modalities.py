"""Several modalities in folders become the channels of one colour frame, and are never mixed to grey."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError
from edgeseg.core.spec import ClassSpec, InputSpec
from edgeseg.data.check import READY, check_survey
from edgeseg.data.dataset import import_dataset, open_dataset, read_case, survey_dataset, view_case
from edgeseg.data.overview import make_tile
from edgeseg.frame.images import read_image, write_image
from edgeseg.frame.preprocess import frame_to_pixels
from edgeseg.training.loading import load_data
from tests.damages import make_varied_data

SHIFT = {"doppler": 20, "elasto": 40}


@pytest.fixture
def modal_data(tmp_path: Path) -> Path:
    """Make images with two further modalities, each a little brighter."""
    root = make_varied_data(tmp_path / "modal")
    for name, shift in SHIFT.items():
        for path in (root / "images").iterdir():
            write_image(root / f"images_{name}" / path.name, read_image(path) // 2 + np.uint8(shift))
    return root


def test_three_folders_become_red_green_and_blue(modal_data: Path) -> None:
    case = open_dataset(modal_data).cases[0]
    pixels = frame_to_pixels(read_case(case, colour=True).frame, InputSpec(96, 96, "rgb", "stretch"))
    assert case.modalities == ("images", "doppler", "elasto")
    for channel, folder in enumerate(("images", "images_doppler", "images_elasto")):
        frame = read_image(modal_data / folder / f"{case.stem}.png")
        alone = frame_to_pixels(frame, InputSpec(96, 96, "grey", "stretch"))
        assert np.array_equal(pixels[:, :, channel], alone[:, :, 0])


def test_modalities_are_never_mixed_to_grey(modal_data: Path) -> None:
    with pytest.raises(DataError, match="images, doppler, elasto") as caught:
        read_case(open_dataset(modal_data).cases[0])
    assert "--colour rgb" in caught.value.hint
    with pytest.raises(DataError, match="images, doppler, elasto"):
        load_data(modal_data, SplitSpec(0, 0.2, 0.2))


def test_two_folders_are_refused(modal_data: Path) -> None:
    for path in (modal_data / "images_elasto").iterdir():
        path.unlink()
    (modal_data / "images_elasto").rmdir()
    with pytest.raises(DataError, match=r"\b2\b.*images, images_doppler"):
        open_dataset(modal_data)


def test_check_and_import_take_them(modal_data: Path, tmp_path: Path) -> None:
    report = check_survey(survey_dataset(modal_data))
    assert (report.verdict, report.to_json()["sizes"]) == (READY, {"96x72": 6})
    tile = make_tile(view_case(report.dataset.cases[0]), [ClassSpec("target", (9, 9, 9))]).picture
    assert (tile[:, :, 0].astype(int) != tile[:, :, 2]).any()
    import_dataset(report.dataset, tmp_path / "out")
    merged = open_dataset(tmp_path / "out").cases[0]
    assert merged.modalities == ()
    expected = read_case(report.dataset.cases[0], colour=True).frame
    assert np.array_equal(read_case(merged, colour=True).frame, expected)


def test_gaps_and_misfits_are_defects(modal_data: Path) -> None:
    (modal_data / "images_doppler" / "case_01.png").unlink()
    write_image(modal_data / "images_elasto" / "case_02.png", np.zeros((50, 60), np.uint8))
    kinds = [defect.kind for defect in check_survey(survey_dataset(modal_data)).defects]
    assert kinds == ["image-without-modality", "modality-size"]
