"""Registration finds a known motion, keeps to its kind, and says when there is nothing to find."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import edgeseg
from edgeseg.cli.app import app
from edgeseg.core.errors import EdgesegError
from edgeseg.frame.images import write_image
from edgeseg.phantom.pairs import PhantomPair, render_pair
from edgeseg.registration.clips import register_clip
from edgeseg.registration.displacement import Field, no_motion
from edgeseg.registration.follow_up import compare_exams, measure_size
from edgeseg.registration.preparation import find_valid, measure_structure, prepare
from edgeseg.registration.quality import measure_dice, mutual_information
from edgeseg.registration.register import KINDS, Kind, register_frames

SIZE = (160, 160)


def lesion(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(labels == 1, dtype=np.uint8)


def median_error(pair: PhantomPair, field: Field) -> float:
    return float(np.median(np.hypot(*np.moveaxis((field - pair.displacement)[pair.seen], -1, 0))))


@pytest.fixture(scope="module")
def affine() -> PhantomPair:
    return render_pair(2, 1, SIZE, "affine", 3, "linear")


@pytest.fixture(scope="module")
def deformed() -> PhantomPair:
    return render_pair(2, 1, SIZE, "deformable", 3, "linear")


def test_affine_motion_is_found(affine: PhantomPair) -> None:
    found = edgeseg.register(affine.fixed.image, affine.moving.image)
    assert found.converged
    assert median_error(affine, found.displacement) < 1 < median_error(affine, no_motion(SIZE))
    assert found.displacement.dtype == np.float32
    assert found.displacement.shape == (*SIZE, 2)
    assert found.moved.shape == SIZE


def test_deformation_is_found_without_folding(deformed: PhantomPair) -> None:
    masks = lesion(deformed.fixed.labels), lesion(deformed.moving.labels)
    found = register_frames(deformed.fixed.image, deformed.moving.image, "deformable", masks=masks, mm_per_px=0.5)
    assert found.converged
    assert median_error(deformed, found.displacement) < 1.5 < median_error(deformed, no_motion(SIZE))
    assert found.figures.folding_share < 0.001
    assert found.figures.masks is not None
    assert (found.figures.masks.dice.after or 0) > (found.figures.masks.dice.before or 0)
    assert found.figures.displacement_mm is not None
    assert found.figures.displacement_mm.max == pytest.approx(0.5 * found.figures.displacement_px.max)


def test_bsplines_find_the_deformation(deformed: PhantomPair) -> None:
    pytest.importorskip("SimpleITK")
    found = register_frames(deformed.fixed.image, deformed.moving.image, "deformable", "bspline")
    assert found.converged
    assert median_error(deformed, found.displacement) < 1.5


@pytest.mark.parametrize("kind", ["rigid", "similarity"])
def test_kind_limits_the_matrix(affine: PhantomPair, kind: Kind) -> None:
    linear = register_frames(affine.fixed.image, affine.moving.image, kind).matrix[:, :2]
    scale = np.sqrt(np.linalg.det(linear))
    np.testing.assert_allclose(linear @ linear.T, scale**2 * np.eye(2), atol=1e-6)
    if kind == "rigid":
        assert scale == pytest.approx(1)


def test_masks_alone_drive(affine: PhantomPair) -> None:
    masks = lesion(affine.fixed.labels), lesion(affine.moving.labels)
    found = register_frames(affine.fixed.image, affine.moving.image, "rigid", masks=masks, drive="mask")
    assert found.figures.masks is not None
    assert (found.figures.masks.dice.after or 0) > (found.figures.masks.dice.before or 0)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_images_do_not_move(affine: PhantomPair, kind: Kind) -> None:
    found = register_frames(affine.fixed.image, affine.fixed.image, kind)
    assert found.converged
    assert found.figures.displacement_px.p95 < 0.1


def test_moving_image_of_another_size(deformed: PhantomPair) -> None:
    double = np.asarray(cv2.resize(deformed.moving.image, (SIZE[1] * 2, SIZE[0] * 2)), np.uint8)
    found = register_frames(deformed.fixed.image, double, "affine")
    assert found.converged
    assert found.displacement.shape == (*SIZE, 2)
    assert np.sqrt(np.linalg.det(found.matrix[:, :2])) == pytest.approx(2, rel=0.1)


def test_known_pixel_sizes_give_the_scale_and_leave_it_out_of_the_motion(affine: PhantomPair) -> None:
    double = np.asarray(cv2.resize(affine.fixed.image, (SIZE[1] * 2, SIZE[0] * 2)), np.uint8)
    found = register_frames(affine.fixed.image, double, "rigid", mm_per_px=0.2, ratio=0.5)
    assert found.converged
    assert np.sqrt(np.linalg.det(found.matrix[:, :2])) == pytest.approx(2)
    assert found.figures.displacement_px.max < 0.2


@pytest.mark.parametrize("level", [0, 90, 255])
def test_constant_images_have_no_structure(affine: PhantomPair, level: int) -> None:
    with pytest.raises(EdgesegError, match="structure"):
        register_frames(affine.fixed.image, np.full(SIZE, level, np.uint8))


def test_noise_has_no_structure(affine: PhantomPair) -> None:
    noise = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
    assert measure_structure(prepare(noise)) < 0.05 < 0.25 < measure_structure(prepare(affine.fixed.image))
    with pytest.raises(EdgesegError, match="structure"):
        register_frames(noise, affine.fixed.image)


@pytest.mark.parametrize("kind", ["affine", "deformable"])
def test_another_patient_does_not_converge(affine: PhantomPair, kind: Kind) -> None:
    other = render_pair(77, 5, SIZE, geometry="convex").fixed.image
    assert not register_frames(affine.fixed.image, other, kind).converged


@pytest.mark.parametrize(
    "more", [{"kind": "bent"}, {"method": "dis"}, {"kind": "deformable", "method": "ecc"}, {"drive": "mask"}]
)
def test_choices_that_do_not_fit_are_refused(affine: PhantomPair, more: dict[str, Any]) -> None:
    with pytest.raises(EdgesegError):
        edgeseg.register(affine.fixed.image, affine.moving.image, **more)


def test_black_around_a_fan_is_not_valid() -> None:
    image = render_pair(3, 0, SIZE, geometry="sector").fixed.image
    valid = find_valid(image)
    assert not valid[0, 0]
    assert valid[SIZE[0] // 2, SIZE[1] // 2]


def test_mutual_information_is_two_for_equal_images(affine: PhantomPair) -> None:
    image, everywhere = affine.fixed.image, np.ones(SIZE, np.uint8)
    assert mutual_information(image, image, everywhere) == pytest.approx(2)
    assert mutual_information(image, image, np.zeros(SIZE, np.uint8)) is None
    assert measure_dice(np.zeros(SIZE), np.zeros(SIZE)) is None


def test_clip_goes_on_behind_a_dark_frame(affine: PhantomPair) -> None:
    frames = [affine.fixed.image, np.zeros(SIZE, np.uint8), affine.fixed.image]
    found = list(register_clip(frames, to="first"))
    assert [one.registration is None for one in found] == [True, False]
    assert [one.reference for one in found] == [0, 0]


def test_a_network_that_finds_nothing_has_not_converged(affine: PhantomPair) -> None:
    images = affine.fixed.image, affine.moving.image
    known = register_frames(*images, "deformable").displacement
    for field, expected in ((np.zeros_like(known), False), (known, True)):
        network: Any = lambda *_, field=field: field  # noqa: E731
        assert register_frames(*images, "deformable", "learned", network=network).converged is expected


def test_size_of_a_rectangle() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 10:50] = 1
    size = measure_size(mask, 0.5)
    assert size.area == pytest.approx(100)
    assert size.long == pytest.approx(0.5 * (np.hypot(39, 9) + 1))
    assert size.short < size.long


def test_follow_up_sees_growth() -> None:
    pair = render_pair(4, 2, SIZE, "rigid", 2, "linear")
    first = lesion(pair.fixed.labels)
    grown = np.asarray(cv2.dilate(lesion(pair.moving.labels), np.ones((9, 9), np.uint8)), np.uint8)
    compared = compare_exams(pair.fixed.image, pair.moving.image, (first, grown), mm_per_px=(0.2, 0.2))
    assert compared.unit == "mm"
    assert 0 < compared.area_change.low <= compared.area_change.value <= compared.area_change.high
    assert "larger" in compared.describe()
    same = compare_exams(pair.fixed.image, pair.moving.image, (first, lesion(pair.moving.labels)))
    assert same.unit == "px"
    assert "no clear change" in same.describe()
    lost = dataclasses.replace(compared, registration=dataclasses.replace(compared.registration, converged=False))
    for unsure in (lost, dataclasses.replace(compared, cut_off=True)):
        assert "larger" not in unsure.describe()


def test_follow_up_says_nothing_of_a_finding_that_is_cut_off(affine: PhantomPair) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[:40, 30:90] = 1
    assert compare_exams(affine.fixed.image, affine.moving.image, (mask, mask)).cut_off


@pytest.mark.parametrize("options", [("--fields",), ("--to", "first"), ("--nifti", "--follow-up")])
def test_options_that_would_be_left_unread_are_refused(options: tuple[str, ...], tmp_path: Path) -> None:
    arguments = ("register", "a.png", "b.png", "--out", str(tmp_path / "out"), *options)
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_command_writes_the_field(affine: PhantomPair, tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.png" for name in ("a", "b", "am", "bm")}
    for path, image in zip(
        paths.values(),
        (affine.fixed.image, affine.moving.image, lesion(affine.fixed.labels), lesion(affine.moving.labels)),
        strict=True,
    ):
        write_image(path, image)
    out = tmp_path / "out"
    masks = ("--fixed-mask", paths["am"], "--moving-mask", paths["bm"])
    arguments = ("register", paths["a"], paths["b"], "--out", out, *masks)
    alone = CliRunner().invoke(app, [str(one) for one in arguments[:-2]])
    assert alone.exit_code == 2
    assert "--moving-mask M is missing" in " ".join(alone.output.replace("│", " ").split())
    assert CliRunner().invoke(app, [str(one) for one in arguments]).exit_code == 0
    field = np.load(out / "displacement.npy")
    assert field.shape == (*SIZE, 2)
    assert field.dtype == np.float32
    figures = json.loads((out / "registration.json").read_text())
    assert figures["dice"]["after"] > figures["dice"]["before"]
    assert (out / "moved_mask.png").is_file()
    assert (out / "checkerboard.png").is_file()
    assert isinstance(CliRunner().invoke(app, [str(one) for one in arguments]).exception, EdgesegError)
