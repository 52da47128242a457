"""Several modalities in folders become the channels of one colour frame, and are never mixed to grey."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError, EdgesegError, SourceError
from edgeseg.core.spec import ClassSpec, InputSpec, Region
from edgeseg.data.check import READY, check_survey
from edgeseg.data.dataset import import_dataset, open_dataset, read_case, survey_dataset, view_case
from edgeseg.data.overview import make_tile
from edgeseg.frame.images import read_image, write_image
from edgeseg.frame.modalities import stack_pictures
from edgeseg.frame.preprocess import frame_to_pixels
from edgeseg.phantom.scene import render_case
from edgeseg.phantom.second import find_appearance, render_both
from edgeseg.prediction.inputs import list_inputs, open_frames
from edgeseg.prediction.partners import join_partners
from edgeseg.streaming.options import CaptureOptions, read_regions
from edgeseg.streaming.sources import together
from edgeseg.streaming.sources.base import Notice, Source
from edgeseg.streaming.sources.together import SplitSource, TogetherSource, name_sources
from edgeseg.streaming.tracking import Picture
from edgeseg.streaming.viewer.encoding import encode_picture, read_jpeg_options
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


class Screen(Frames):
    """A screen whose left half is 1 and whose right half is 2."""

    def read(self) -> NDArray[Any] | None:
        screen = super().read()
        return None if screen is None else np.repeat(np.hstack([screen, screen + 1])[..., None], 3, axis=2)


def test_a_screen_is_cut_into_its_modalities() -> None:
    spec = InputSpec(64, 64, modalities=("b", "d"))
    regions = {"d": Region(40, 2, 30, 20), "b": Region(5, 2, 30, 20)}
    frame = SplitSource(Screen(1, 1), regions, spec).read()
    assert frame is not None
    assert (frame.shape, frame[0, 0].tolist()) == ((20, 30, 2), [1, 2])
    with pytest.raises(SourceError, match="b, d"):
        SplitSource(Screen(1, 1), {"b": regions["b"]}, spec)
    with pytest.raises(SourceError, match="80x32"):
        SplitSource(Screen(1, 1), regions | {"d": Region(60, 2, 30, 20)}, spec).read()
    assert read_regions("b=5,2,30,20+d=40,2,30,20") == regions
    for wrong in ("b", "b=1,2,3", "b=1,1,9,9+b=1,1,9,9", "=1,1,9,9", ""):
        with pytest.raises(ValueError, match="region"):
            read_regions(wrong)
    changes: list[dict[str, Any]] = [{"roi": "auto"}, {"regions": {"b": Region(0, 0, 9, 9), "d": Region(0, 0, 9, 8)}}]
    for options in changes:
        with pytest.raises(ValueError, match="regions"):
            CaptureOptions(**{"regions": regions} | options)


class Stalling(Frames):
    """A live source that gives its second picture only when it may."""

    def __init__(self) -> None:
        super().__init__(2, 2, live=True)
        self.may_go_on = threading.Event()

    def read(self) -> NDArray[Any] | None:
        if self._left == 1:
            self.may_go_on.wait(10)
        return super().read()


def test_a_source_that_stalls_or_ends_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(together, "STALL_SECONDS", 0.05)
    spec, stalling = InputSpec(64, 64, modalities=("b", "d")), Stalling()
    source = TogetherSource({"b": Frames(10**6, 1, live=True), "d": stalling}, spec)
    notices: list[Notice] = []

    def note(notice: Notice) -> None:
        notices.append(notice)
        stalling.may_go_on.set()

    source.on_notice = note
    while source.read() is not None:
        pass
    source.close()
    assert [notice.state for notice in notices][:1] == ["lost"]
    assert notices[0].sentence.startswith("d ")
    assert "source of d has ended" in caplog.text


def write_pair(root: Path, names: tuple[str, str], shape: tuple[int, int] = (40, 50)) -> None:
    for level, name in enumerate(names, start=1):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / name, np.full(shape, level, np.uint8))


@pytest.mark.parametrize(
    "names",
    [
        ("images/x.png", "images_d/x.png"),
        ("b/x.png", "d/x.png"),
        ("x_0000.png", "x_0001.png"),
    ],
)
def test_partners_are_found_beside_a_picture(tmp_path: Path, names: tuple[str, str]) -> None:
    write_pair(tmp_path, names)
    spec = InputSpec(64, 64, modalities=("b", "d"))
    # named from the folder of both, or by either file alone
    for source in (tmp_path, tmp_path / names[0], tmp_path / names[1]):
        (item,) = join_partners(list_inputs([source]), spec)
        with open_frames(item, colour=False) as reader:
            assert next(iter(reader)).image[0, 0].tolist() == [1, 2]
    alone = join_partners(list_inputs([tmp_path]), InputSpec(64, 64, modalities=("d",)))
    # only the folders images_* say which of the files is the one that a model of one modality takes
    assert len(alone) == (1 if names[0].startswith("images") else 2)
    assert len(join_partners(list_inputs([tmp_path]), InputSpec(64, 64))) == 2


def test_missing_partners_other_sizes_and_clips_are_refused(tmp_path: Path) -> None:
    spec = InputSpec(64, 64, modalities=("b", "d"))
    write_pair(tmp_path, ("images/x.png", "images_d/x.png"))
    write_image(tmp_path / "images/alone.png", np.zeros((40, 50), np.uint8))
    write_image(tmp_path / "images_d/x.png", np.zeros((30, 50), np.uint8))
    write_image(tmp_path / "nowhere.png", np.zeros((40, 50), np.uint8))
    (tmp_path / "clip.mp4").write_bytes(b"0")
    said = []
    for item in join_partners(list_inputs([tmp_path]), spec):
        with pytest.raises(EdgesegError) as caught, open_frames(item, colour=False) as reader:
            next(iter(reader))
        said.append((item.name, caught.value.message))
    assert [name for name, _ in said] == ["clip.mp4", "images/alone.png", "images/x.png", "nowhere.png"]
    for (_, message), word in zip(said, ("video", "d beside alone.png", "30", "nowhere.png"), strict=True):
        assert word in message


def test_each_elastogram_shows_what_the_b_mode_does_not() -> None:
    kinds = [find_appearance(0, index) for index in range(12)]
    assert set(kinds) == {"isoechoic", "soft", "plain"}
    for kind in ("isoechoic", "soft"):
        index = kinds.index(kind)
        frame, second = render_both(0, index, (96, 96))
        plain = render_case(0, index, (96, 96))
        assert np.array_equal(frame.labels, plain.labels)
        assert np.array_equal(frame.image, plain.image) == (kind == "soft")
        if frame.labels.any():
            inside, around = second[frame.labels == 1].mean(), second[(frame.labels == 0) & (frame.image > 0)].mean()
            assert (inside < around - 40) == (kind == "isoechoic")


def test_the_page_chooses_a_channel() -> None:
    with pytest.raises(ValueError, match="modality"):
        read_jpeg_options("modality=9")
    image = np.dstack([np.full((32, 32), level, np.uint8) for level in (50, 200)])
    picture = Picture(image, np.zeros((32, 32), np.uint8), 1, "", 1, None)
    for query, level in (("", 50), ("modality=0", 50), ("modality=1", 200), ("modality=3", 50)):
        jpeg = np.frombuffer(encode_picture(picture, (), read_jpeg_options(query)), np.uint8)
        shown = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE))
        assert abs(int(shown[16, 16]) - level) < 3


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


@pytest.mark.parametrize("given", [None, "scan.png", [None, np.zeros((4, 4), np.uint8)], ["a.png", "b.png"]])
def test_what_is_no_picture_is_refused_in_a_sentence(given: Any) -> None:
    with pytest.raises(SourceError, match="array"):
        stack_pictures(given, InputSpec(16, 16, modalities=("bmode", "doppler")))
