from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, OutputError, SourceError, UnknownNameError
from edgeseg.phantom import GEOMETRIES, LABELS, PhantomClip, PhantomFrame, render_case
from edgeseg.phantom.acoustics import (
    BAND_SAMPLES,
    Imaging,
    PointSpreadFunction,
    attenuate,
    build_point_spread,
    detect_power,
    draw_imaging,
)
from edgeseg.phantom.geometry import ScanGeometry, draw_geometry
from edgeseg.phantom.scene import build_scene
from edgeseg.phantom.structures import Blob, Tube
from edgeseg.phantom.synthesis import SynthOptions, write_phantom_set
from edgeseg.streaming.sources.choose import open_source

SIZE = (96, 96)


def make_probe(name: str, size: tuple[int, int] = SIZE) -> tuple[ScanGeometry, Imaging, PointSpreadFunction]:
    rng = np.random.default_rng(3)
    geometry = draw_geometry(rng, name, size)
    imaging = draw_imaging(rng, geometry)
    return geometry, imaging, build_point_spread(geometry, imaging)


def make_speckle(samples: int, beams: int, spread: PointSpreadFunction) -> NDArray[np.float32]:
    field = np.random.default_rng(5).standard_normal((samples, beams, 2), dtype=np.float32)
    return detect_power(np.asarray(field * np.sqrt(0.5), dtype=np.float32), spread)


def measure_width(rows: NDArray[np.float32]) -> float:
    """Lag, in beams, at which the correlation across the beams falls to a half."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    curve = [float(np.mean(centred[:, lag:] * centred[:, : centred.shape[1] - lag])) for lag in range(40)]
    return float(np.argmax(np.array(curve) < curve[0] / 2))


def find_lesion_center(frame: PhantomFrame) -> NDArray[np.float64]:
    return np.asarray(np.argwhere(frame.labels == 1).mean(axis=0), dtype=np.float64)


def read_mask(path: Path) -> NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), dtype=np.uint8)


def test_same_seed_gives_the_same_bytes() -> None:
    first, second = (render_case(4, 2, SIZE) for _ in range(2))
    assert first.image.tobytes() == second.image.tobytes()
    assert first.labels.tobytes() == second.labels.tobytes()


def test_case_shape_and_type() -> None:
    frame = render_case(0, 0, (80, 112))
    assert frame.image.shape == frame.labels.shape == (80, 112)
    assert frame.image.dtype == frame.labels.dtype == np.uint8
    assert set(np.unique(frame.labels)) <= set(range(len(LABELS)))


@pytest.mark.parametrize(("seed", "index"), [(4, 3), (5, 2)])
def test_another_seed_or_index_gives_another_image(seed: int, index: int) -> None:
    difference = render_case(4, 2, SIZE, "linear").image.astype(int) - render_case(seed, index, SIZE, "linear").image
    assert np.abs(difference).mean() > 5


@pytest.mark.parametrize("name", ["sector", "convex"])
def test_outside_the_fan_is_black(name: str) -> None:
    scene = build_scene(1, 0, SIZE, name, always_lesion=True)
    frame = scene.render(0.0, 0)
    assert frame.geometry == name
    assert not frame.image[~scene.geometry.inside].any()
    assert not frame.labels[~scene.geometry.inside].any()
    assert frame.image[:8, :8].max() == 0
    assert 0.3 < scene.geometry.inside.mean() < 0.9
    assert (frame.image[scene.geometry.inside] > 0).mean() > 0.8


def test_linear_fills_the_frame() -> None:
    assert (render_case(1, 0, SIZE, "linear").image > 0).mean() > 0.8


def test_unknown_geometry_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError) as caught:
        render_case(0, 0, SIZE, "convx")
    assert "convex" in caught.value.hint


def test_speckle_is_fully_developed() -> None:
    _, _, spread = make_probe("linear", (256, 256))
    envelope = np.sqrt(make_speckle(len(spread.lateral) * BAND_SAMPLES, 1500, spread))
    assert envelope.mean() / envelope.std() == pytest.approx(1.91, abs=0.06)
    assert np.mean(envelope**2) == pytest.approx(1.0, abs=0.05)


def test_speckle_widens_with_depth() -> None:
    _, _, spread = make_probe("linear", (256, 256))
    power = make_speckle(len(spread.lateral) * BAND_SAMPLES, 1500, spread)
    focus = len(power) // 3
    assert measure_width(power[-64:]) > 1.3 * measure_width(power[focus - 32 : focus + 32])


def test_absorber_casts_a_shadow_and_fluid_enhances() -> None:
    absorption = np.zeros((100, 3), np.float32)
    absorption[40:60, 0] = 1.0
    absorption[40:60, 2] = -1.0
    share_db = 10 * np.log10(attenuate(absorption, step_mm=0.5))
    assert share_db[:40] == pytest.approx(0.0, abs=1e-4)
    assert share_db[-1] == pytest.approx([-10.0, 0.0, 10.0], abs=1e-3)


def test_distance_is_negative_inside_only() -> None:
    blob = Blob((1.0, 2.0), (4.0, 2.0), tilt=0.0, harmonics=((0.1, 0.0),))
    x, z = np.array([1.0, 1.0 + 4.3, 1.0 + 4.5], np.float32), np.array([2.0, 2.0, 2.0], np.float32)
    assert (blob.distance(x, z) < 0).tolist() == [True, True, False]
    tube = Tube(depth_mm=10.0, radius_mm=2.0, slope=0.0, bend_mm=0.0, bend_length_mm=5.0, phase=0.0)
    assert tube.distance(np.zeros(2, np.float32), np.array([10.0, 13.0], np.float32)) == pytest.approx([-2.0, 1.0])


def test_an_outline_that_crosses_itself_is_refused() -> None:
    with pytest.raises(DataError):
        Blob((0.0, 0.0), (1.0, 1.0), harmonics=((0.6, 0.0), (0.6, 0.0)))


def test_some_cases_are_empty_and_most_are_not() -> None:
    counts = [bool((render_case(2, index, (48, 48)).labels == 1).any()) for index in range(40)]
    assert 28 <= sum(counts) <= 39


def test_lesions_keep_to_a_useful_size() -> None:
    shares = [float((PhantomClip(2, index, (64, 64)).frame(0).labels == 1).mean()) for index in range(24)]
    assert min(shares) > 0.005
    assert max(shares) < 0.2


def test_every_frame_of_a_clip_has_a_lesion_that_moves() -> None:
    clip = PhantomClip(1, 0, SIZE)
    centers = np.array([find_lesion_center(clip.frame(number)) for number in range(0, 150, 15)])
    assert np.ptp(centers, axis=0).max() > 1.5


def test_clip_frames_come_in_any_order_and_never_jump() -> None:
    clip = PhantomClip(1, 1, SIZE)
    late = clip.frame(10_000)
    clip.frame(3)
    assert late.image.tobytes() == clip.frame(10_000).image.tobytes()
    step = find_lesion_center(clip.frame(10_001)) - find_lesion_center(late)
    assert np.abs(step).max() < 1.0


def test_noise_of_the_electronics_changes_from_frame_to_frame() -> None:
    scene = build_scene(1, 0, SIZE, "linear", always_lesion=True)
    assert scene.render(0.0, 0).image.tobytes() != scene.render(0.0, 1).image.tobytes()


def test_mask_moves_with_the_speckle() -> None:
    clip = PhantomClip(6, 0, (192, 192), geometry="linear")
    first = clip.frame(0)
    moved = {number: find_lesion_center(clip.frame(number)) for number in range(0, 90, 6)}
    origin = moved[0]
    number = max(moved, key=lambda key: float(np.linalg.norm(moved[key] - origin)))
    rows, columns = np.nonzero(first.labels == 1)
    top, left = int(rows.min()) - 2, int(columns.min()) - 2
    patch = first.image[top : rows.max() + 3, left : columns.max() + 3]
    match = cv2.matchTemplate(clip.frame(number).image, patch, cv2.TM_CCOEFF_NORMED)
    _, _, _, (column, row) = cv2.minMaxLoc(match)
    expected = moved[number] - origin
    assert np.linalg.norm(expected) > 3
    assert [row - top, column - left] == pytest.approx(expected.tolist(), abs=1.6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cases": 0},
        {"seed": -1},
        {"clips": -1},
        {"clip_frames": 0},
        {"size": (8, 256)},
        {"size": (97, 96)},
    ],
)
def test_options_refuse_nonsense(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        SynthOptions(**wrong)
    assert "got" in caught.value.message
    assert caught.value.hint


def test_clip_refuses_a_frame_rate_of_zero() -> None:
    with pytest.raises(DataError):
        PhantomClip(0, 0, SIZE, fps=0.0)


def test_written_set_has_a_mask_on_every_frame(tmp_path: Path) -> None:
    done: list[int] = []
    write_phantom_set(tmp_path, SynthOptions(3, 1, (64, 64), 1, 4, vessels=True), done.append)
    assert done == [1, 2, 3, 4]
    for folder in (tmp_path, tmp_path / "clips" / "clip_00"):
        images = sorted(path.name for path in (folder / "images").iterdir())
        assert images == sorted(path.name for path in (folder / "masks").iterdir())
        assert len(images) == (3 if folder == tmp_path else 4)
        for name in images:
            mask = read_mask(folder / "masks" / name)
            assert mask.shape == (64, 64)
            assert set(np.unique(mask)) <= {0, 255}
    assert (tmp_path / "clips" / "clip_00.mp4").stat().st_size > 0
    assert len(list((tmp_path / "masks_vessel").iterdir())) == 3


def test_groups_say_which_cases_have_a_lesion(tmp_path: Path) -> None:
    write_phantom_set(tmp_path, SynthOptions(4, 2, (48, 48), clips=0))
    with (tmp_path / "groups.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["group"] for row in rows] == ["g0000", "g0001", "g0002", "g0003"]
    assert {row["geometry"] for row in rows} <= set(GEOMETRIES)
    for row in rows:
        mask = read_mask(tmp_path / "masks" / f"{row['stem']}.png")
        assert bool(int(row["lesion"])) == bool(mask.any())
    assert len((tmp_path / "SOURCE.md").read_text(encoding="utf-8").splitlines()) == 2


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imwrite", lambda *_: False)
    with pytest.raises(OutputError):
        write_phantom_set(tmp_path, SynthOptions(1, 0, (48, 48), clips=0))


def test_a_lesion_comes_and_goes_in_the_same_tissue() -> None:
    plain, passing = PhantomClip(3, size=SIZE), PhantomClip(3, size=SIZE, comes_and_goes=True)
    areas = [int((passing.frame(number).labels == 1).sum()) for number in (0, 34, 41, 60, 85, 90)]
    whole = int((plain.frame(60).labels == 1).sum())
    assert [area == 0 for area in areas] == [True, True, False, False, False, True]
    assert areas[3] == whole
    assert areas[2] < whole
    before, after = passing.frame(10), plain.frame(10)
    apart = np.abs(before.image.astype(int) - after.image.astype(int))
    far = cv2.dilate((after.labels == 1).astype(np.uint8), np.ones((15, 15), np.uint8)) == 0
    assert apart[far].mean() < 2.0 < apart[after.labels == 1].mean()
    assert np.array_equal(passing.frame(60).image, plain.frame(60).image)


def test_a_lesion_that_comes_and_goes_is_a_source() -> None:
    source = open_source("phantom://?seed=3&size=64&frames=2&comes_and_goes=1")
    assert source.read() is not None
    with pytest.raises(SourceError):
        open_source("phantom://?comes_and_goes=maybe")
