"""Several modalities in folders become the channels of one colour frame, and are never mixed to grey."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError, SourceError
from edgeseg.core.spec import ClassSpec, InputSpec
from edgeseg.data.check import READY, check_survey
from edgeseg.data.dataset import import_dataset, open_dataset, read_case, survey_dataset, view_case
from edgeseg.data.overview import make_tile
from edgeseg.frame.images import read_image, write_image
from edgeseg.frame.modalities import stack_pictures
from edgeseg.frame.preprocess import frame_to_pixels
from edgeseg.streaming.sources.base import Source
from edgeseg.streaming.sources.together import TogetherSource, name_sources
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
    with pytest.raises(DataError, match="images, doppler, elasto"):
        read_case(open_dataset(modal_data).cases[0])
    with pytest.raises(DataError, match="images, doppler, elasto"):
        load_data(modal_data, SplitSpec(0, 0.2, 0.2), InputSpec(96, 96))


def test_a_network_takes_the_modalities_that_it_names_in_its_order(modal_data: Path) -> None:
    case = open_dataset(modal_data).cases[0]
    spec = InputSpec(96, 96, resize="stretch", modalities=("doppler", "images"))
    frame = read_case(case, spec).frame
    for channel, folder in enumerate(("images_doppler", "images")):
        assert np.array_equal(frame[:, :, channel], read_image(modal_data / folder / f"{case.stem}.png"))
    alone = read_case(case, InputSpec(96, 96, modalities=("elasto",))).frame
    assert np.array_equal(alone, read_image(modal_data / "images_elasto" / f"{case.stem}.png"))
    with pytest.raises(DataError, match="ct"):
        read_case(case, InputSpec(96, 96, modalities=("images", "ct")))


def test_names_are_read_and_two_folders_are_imported(modal_data: Path, tmp_path: Path) -> None:
    shutil.rmtree(modal_data / "images_elasto")
    (modal_data / "modalities.json").write_text('{"modalities": ["bmode", "doppler"]}', encoding="utf-8")
    dataset = open_dataset(modal_data)
    import_dataset(dataset, tmp_path / "out")
    again = open_dataset(tmp_path / "out")
    assert again.cases[0].modalities == ("bmode", "doppler")
    spec = InputSpec(96, 96, modalities=("bmode", "doppler"))
    assert np.array_equal(read_case(again.cases[0], spec).frame, read_case(dataset.cases[0], spec).frame)
    (modal_data / "modalities.json").write_text('["bmode"]', encoding="utf-8")
    with pytest.raises(DataError, match="modalities"):
        open_dataset(modal_data)


def test_the_same_picture_twice_is_told(modal_data: Path) -> None:
    shutil.rmtree(modal_data / "images_elasto")
    shutil.copytree(modal_data / "images", modal_data / "images_doppler", dirs_exist_ok=True)
    assert "same-modalities" in {warning.kind for warning in check_survey(survey_dataset(modal_data)).warnings}


def test_pictures_are_stacked_by_order_or_by_name() -> None:
    spec = InputSpec(64, 64, modalities=("b", "d"), signed=("d",))
    grey = np.full((40, 50), 9, np.uint8)
    flow = np.zeros((40, 50, 3), np.uint8)
    flow[:, :25, 2], flow[:, 25:, 0] = 200, 200
    stack = stack_pictures({"d": flow, "b": grey}, spec)
    assert stack.shape == (40, 50, 2)
    assert [int(value) for value in stack[0, (0, 49), 1]] == [228, 28]
    assert np.array_equal(stack, stack_pictures([grey, flow], spec))
    wrongs: list[Any] = [[grey], {"b": grey}, [grey, flow[:20]], [grey, grey], [grey, flow.astype(np.uint16)]]
    for wrong in wrongs:
        with pytest.raises(SourceError):
            stack_pictures(wrong, spec)
    with pytest.raises(SourceError, match="one picture"):
        frame_to_pixels(grey, spec)
    with pytest.raises(SourceError):
        stack_pictures([grey, grey], InputSpec(64, 64))


@pytest.mark.parametrize("denoise", ["none", "median", "speckle"])
def test_each_channel_is_preprocessed_as_if_it_were_alone(denoise: str) -> None:
    random = np.random.default_rng(0)
    frame = random.integers(0, 256, (90, 130, 2), dtype=np.uint8)
    both = frame_to_pixels(frame, InputSpec(64, 64, denoise=denoise, modalities=("a", "b")))
    for number in range(2):
        alone = frame_to_pixels(np.ascontiguousarray(frame[:, :, number]), InputSpec(64, 64, denoise=denoise))
        assert np.array_equal(both[:, :, number], alone[:, :, 0])


class Frames(Source):
    """A recorded source of equal frames."""

    def __init__(self, count: int, level: int, live: bool = False) -> None:
        self._left, self._level, self.live = count, level, live

    def read(self) -> NDArray[Any] | None:
        if not self._left:
            return None
        self._left -= 1
        return np.full((32, 40), self._level, np.uint8)


@pytest.mark.parametrize("live", [False, True])
def test_sources_run_in_step_and_end_with_the_shortest(live: bool) -> None:
    spec = InputSpec(64, 64, modalities=("b", "d"))
    source = TogetherSource({"b": Frames(3, 1, live), "d": Frames(2, 2, live)}, spec)
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    assert len(frames) == 2 if not live else len(frames) <= 2
    assert all(frame.shape == (32, 40, 2) and frame[0, 0].tolist() == [1, 2] for frame in frames)


def test_sources_are_named_by_modality() -> None:
    spec = InputSpec(64, 64, modalities=("b", "d"))
    assert list(name_sources(["d=1", "b=phantom://?seed=2"], spec).items()) == [("b", "phantom://?seed=2"), ("d", "1")]
    for wrong in (["0"], ["b=0"], ["b=0", "b=1"], ["b=0", "x=1"], ["b=0", "d=1", "2"]):
        with pytest.raises(SourceError, match="b, d"):
            name_sources(wrong, spec)


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
