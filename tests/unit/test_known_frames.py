"""Frames unlike those of the training are told, those of other groups are not, and nothing damaged is judged."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.card import card_from_json, card_to_json
from edgeseg.core.decision import ClassDecision, Decision, KnownFrames
from edgeseg.core.errors import ModelFileError
from edgeseg.core.limits import FEATURES
from edgeseg.core.modelfile import ModelFile, read_model
from edgeseg.core.spec import InputSpec
from edgeseg.data.dataset import LabelledImage
from edgeseg.data.reading import Case
from edgeseg.evaluation.known_frames import (
    FEWEST_GROUPS,
    FEWEST_IMAGES,
    change_setting,
    describe_known_frames,
    list_settings,
)
from edgeseg.frame.features import VERSION, count_features, describe_pixels, open_judge
from edgeseg.frame.preprocess import frame_to_pixels, place_frame
from edgeseg.inference.segmenter import Segmenter
from tests.tinymodels import write_bright_model

SPEC = InputSpec(64, 64)


def draw_tissue(number: int, size: tuple[int, int] = (96, 80)) -> NDArray[np.uint8]:
    """Draw speckle that fades with depth, as a stand-in for an ultrasound image."""
    rng = np.random.default_rng(number)
    depth = np.linspace(0.0, 1.0, size[0])[:, None]
    speckle = cv2.GaussianBlur(rng.rayleigh(1.0, size), (0, 0), 1.2)
    bright = rng.uniform(50, 80) * speckle * np.exp(-rng.uniform(0.8, 1.4) * depth)
    return np.asarray(np.clip(bright, 0, 255), np.uint8)


def make_images(count: int, groups: int = 12) -> list[LabelledImage]:
    def make(number: int) -> LabelledImage:
        case = Case(f"c{number}", Path("i"), (Path("m"),), f"g{number % groups}")
        return LabelledImage(case, draw_tissue(number), ())

    return [make(number) for number in range(count)]


@pytest.fixture(scope="module")
def known() -> KnownFrames:
    found = describe_known_frames(make_images(80), SPEC)
    assert found is not None
    return found


def measure(known: KnownFrames, frame: NDArray[Any], spec: InputSpec = SPEC) -> float:
    judge = open_judge(known, spec.channels)
    assert judge is not None
    return judge(frame_to_pixels(frame, spec), place_frame(spec, *frame.shape[:2]))


def test_frames_of_other_groups_are_known(known: KnownFrames) -> None:
    distances = [measure(known, draw_tissue(1000 + number)) for number in range(40)]
    assert sum(distance > 1.0 for distance in distances) <= 2


@pytest.mark.parametrize("gain", [0.8, 1.2])
def test_ordinary_gain_is_known(known: KnownFrames, gain: float) -> None:
    distances = [measure(known, change_setting(draw_tissue(1000 + number), gain)) for number in range(20)]
    assert sum(distance > 1.0 for distance in distances) <= 2


def test_frames_of_another_shape_are_known(known: KnownFrames) -> None:
    assert measure(known, draw_tissue(1000, (96, 60))) < 1.0


OTHERS = {
    "black": np.zeros((96, 80), np.uint8),
    "white": np.full((96, 80), 255, np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (96, 80)).astype(np.uint8),
    "screen": cv2.rectangle(np.full((96, 80), 230, np.uint8), (10, 10), (60, 40), 20, -1),
    "dark": change_setting(draw_tissue(1000), 0.2),
    "saturated": change_setting(draw_tissue(1000), 6.0),
    "upside down": draw_tissue(1000)[::-1].copy(),
}


@pytest.mark.parametrize("frame", OTHERS.values(), ids=OTHERS)
def test_other_frames_are_told(known: KnownFrames, frame: NDArray[np.uint8]) -> None:
    assert measure(known, frame) > 1.0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (4, 256), (256, 4), (31, 33), (16, 16), (300, 200)])
def test_features_are_finite_and_as_many_for_every_size(size: tuple[int, int], channels: int) -> None:
    rng = np.random.default_rng(0)
    for pixels in (
        np.zeros((*size, channels), np.uint8),
        np.full((*size, channels), 255, np.uint8),
        rng.integers(0, 256, (*size, channels)).astype(np.uint8),
        rng.integers(0, 256, (2 * size[0], 2 * size[1], channels)).astype(np.uint8)[::2, ::-2],
    ):
        features = describe_pixels(pixels)
        assert features.size == count_features(channels) <= FEATURES
        assert np.isfinite(features).all()


def test_sixteen_bits_are_judged_as_eight(known: KnownFrames) -> None:
    frame = draw_tissue(1000)
    deep = dataclasses.replace(SPEC, white=65535)
    assert measure(known, frame.astype(np.uint16) * 257, deep) == pytest.approx(measure(known, frame), rel=1e-6)


def test_a_letterboxed_frame_is_judged_without_its_margins() -> None:
    frame = draw_tissue(3, (64, 32))
    pixels = frame_to_pixels(frame, SPEC)
    assert np.array_equal(describe_pixels(pixels, place_frame(SPEC, 64, 32)), describe_pixels(frame[:, :, None]))


def test_colour_frames_have_colours(known: KnownFrames) -> None:
    spec = InputSpec(64, 64, "rgb")
    grey = frame_to_pixels(np.repeat(draw_tissue(1)[:, :, None], 3, axis=2), spec)
    tinted = grey.copy()
    tinted[:, :, 0] = 0
    assert describe_pixels(grey)[-2] < describe_pixels(tinted)[-2]
    assert open_judge(known, 3) is None


@pytest.mark.parametrize(("count", "groups"), [(FEWEST_IMAGES - 1, 12), (80, FEWEST_GROUPS - 1), (0, 1)])
def test_too_few_images_describe_nothing(count: int, groups: int, caplog: pytest.LogCaptureFixture) -> None:
    assert describe_known_frames(make_images(count, groups), SPEC) is None
    assert "too few" in caplog.text


def test_equal_images_can_be_described() -> None:
    images = [dataclasses.replace(image, frame=np.full((64, 64), 90, np.uint8)) for image in make_images(60)]
    found = describe_known_frames(images, SPEC)
    assert found is not None
    assert measure(found, np.full((64, 64), 90, np.uint8)) < 1.0 < measure(found, draw_tissue(0))


def test_the_same_images_give_the_same_description(known: KnownFrames) -> None:
    assert describe_known_frames(make_images(80), SPEC) == known


def test_settings_leave_the_image_itself_first() -> None:
    pixels = draw_tissue(0)[:, :, None]
    shown = list_settings(pixels)
    assert np.array_equal(shown[0], pixels)
    assert all(one.dtype == np.uint8 and one.ndim == 3 for one in shown)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    return read_model(write_bright_model(tmp_path_factory.mktemp("model") / "bright.tflite"))


def decide(model: ModelFile, known: KnownFrames | None) -> ModelFile:
    classes = tuple(ClassDecision(spec.name) for spec in model.card.output.classes)
    card = dataclasses.replace(model.card, decision=Decision(classes, known=known))
    return dataclasses.replace(model, card=card)


def test_a_segmenter_judges_frames_by_its_card(model: ModelFile) -> None:
    described = describe_known_frames(make_images(60), model.card.input)
    segmenter = Segmenter(decide(model, described))
    ordinary, black = segmenter(draw_tissue(1000)), segmenter(np.zeros((96, 80), np.uint8))
    assert not ordinary.out_of_distribution
    assert black.out_of_distribution


def test_a_card_without_known_frames_judges_none(model: ModelFile) -> None:
    for one in (model, decide(model, None)):
        result = Segmenter(one)(np.zeros((96, 80), np.uint8))
        assert result.distance is None
        assert not result.out_of_distribution


def test_features_of_another_version_or_number_are_not_judged(known: KnownFrames) -> None:
    short = KnownFrames((0.0,), ((1.0,),), 1.0, VERSION)
    for other in (dataclasses.replace(known, features=VERSION + 1), short, None):
        assert open_judge(other, 1) is None


def test_a_card_keeps_known_frames_and_their_distances(model: ModelFile, known: KnownFrames) -> None:
    card = card_from_json(card_to_json(decide(model, known).card), "x")
    assert card.decision is not None
    assert card.decision.known == known


def test_rows_may_leave_out_their_first_zeros(known: KnownFrames) -> None:
    count = len(known.mean)
    whole = tuple((0.0,) * (count - len(row)) + row for row in known.whitening)
    frame = draw_tissue(1)
    assert [len(row) for row in known.whitening] == list(range(count, 0, -1))
    assert measure(dataclasses.replace(known, whitening=whole), frame) == measure(known, frame)


# Black, white, a tile, two borders, roughness at both scales.
EXPECTED = [0.330718913883, 0.25, 0.740958573635, 0.306785995539, 3.17184972882, 0.558112151982, 0.650507365834]


def test_features_are_the_same_numbers_on_every_machine() -> None:
    rows, columns = np.mgrid[:64, :64]
    pixels = ((rows * rows + 3 * columns + rows * columns // 8) % 251).astype(np.uint8)[:, :, None]
    pixels[:8], pixels[:, :6] = 0, 255
    features = describe_pixels(pixels)
    assert features[[0, 1, 2, 18, 22, 24, 29]] == pytest.approx(EXPECTED, rel=1e-9)


DAMAGES: dict[str, dict[str, Any]] = {
    "infinite": {"threshold": math.inf},
    "no threshold": {"threshold": 0.0},
    "negative": {"threshold": -1.0},
    "too large": {"mean": (1e300,) * 45},
    "row too long": {"whitening": ((1.0,), (1.0,) * (FEATURES + 1))},
    "row of nothing": {"whitening": ((1.0,), ())},
    "empty": {"mean": (), "whitening": ()},
    "not a number": {"mean": (math.nan,) * 45},
    "too many": {"mean": (0.0,) * (FEATURES + 1), "whitening": ((0.0,) * (FEATURES + 1),)},
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_known_frames_are_refused(known: KnownFrames, damage: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        dataclasses.replace(known, **damage)


def test_a_damaged_card_is_refused_as_a_whole(model: ModelFile, known: KnownFrames) -> None:
    text = card_to_json(decide(model, known).card).replace(f'"threshold": {known.threshold}', '"threshold": -3')
    with pytest.raises(ModelFileError, match="known frames"):
        card_from_json(text, "x")


def test_the_largest_numbers_of_a_card_give_a_finite_distance() -> None:
    features = count_features(1)
    extreme = KnownFrames((-1e9,) * features, ((1e9,) * features,) * features, 1e-9, VERSION)
    assert math.isfinite(measure(extreme, draw_tissue(0)))
