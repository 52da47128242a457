"""A recording: whatever the index names can be read, after a kill and on a full disk as well."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.errors import OutputError
from edgeseg.frame.images import read_image
from edgeseg.inference.segmenter import Segmentation, StageTimes
from edgeseg.streaming.sinks.base import Result
from edgeseg.streaming.sinks.recording import FRAME_STORES, Recording
from edgeseg.streaming.sources.base import Frame, Health
from edgeseg.streaming.sources.choose import open_source
from tests.commands import full_disk
from tests.results import AREA, CLASSES, make_info, make_result

ENDLESS = """
import sys
from dataclasses import replace
from pathlib import Path
from itertools import count
from edgeseg.streaming.sinks.recording import Recording
from tests.results import CLASSES, make_info, make_result
recording = Recording(Path(sys.argv[1]), make_info(), CLASSES, True, sys.argv[2])
for number in count():
    recording.write(make_result(number))
    print(number, flush=True)
"""


def write_results(recording: Recording, count: int) -> None:
    for number in range(count):
        recording.write(make_result(number))


def read_index(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "index.jsonl").read_text(encoding="utf-8").splitlines()]


def read_video(path: Path) -> list[NDArray[Any]]:
    """Read every picture of a video as it is stored."""
    video, pictures = cv2.VideoCapture(str(path)), []
    video.set(cv2.CAP_PROP_CONVERT_RGB, 0)
    while (pair := video.read())[0]:
        pictures.append(np.asarray(pair[1]))
    video.release()
    return pictures


def count_readable(folder: Path, kind: str) -> int:
    """Count the lines whose picture can be read; each must have its own."""
    index, videos = read_index(folder), dict[Path, list[NDArray[Any]]]()
    for line in index:
        file = folder / line[kind]
        if line["position"] is None:
            assert read_image(file).shape == (64, 80)
        else:
            videos.setdefault(file, read_video(file))
            assert videos[file][line["position"]].shape == (64, 80)
    return len(index)


def test_masks_areas_and_header_are_written_and_frames_are_not(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "rec", make_info(mm_per_px=0.5), CLASSES)
    for number in (3, 7):
        recording.write(make_result(number))
    recording.close()
    first, second = read_index(tmp_path / "rec")
    assert (first["number"], first["captured_s"], first["frame"]) == (3, 0.0, None)
    assert second["captured_s"] >= 0.0
    assert second["areas"] == [
        {"name": "lesion", "area_px": AREA, "area_mm2": AREA / 4},
        {"name": "vessel", "area_px": 0, "area_mm2": 0.0},
    ]
    mask = read_image(tmp_path / "rec" / second["mask"])
    np.testing.assert_array_equal(mask, make_result().segmentation.labels)
    assert sorted(path.name for path in (tmp_path / "rec").iterdir()) == ["index.jsonl", "masks", "recording.json"]
    header = json.loads((tmp_path / "rec/recording.json").read_text(encoding="utf-8"))
    assert [spec["name"] for spec in header["classes"]] == ["lesion", "vessel"]


def test_frames_are_stored_when_that_is_asked_for(tmp_path: Path) -> None:
    recording = Recording(tmp_path, make_info(), CLASSES, frames=True)
    recording.write(make_result())
    recording.close()
    np.testing.assert_array_equal(read_image(tmp_path / read_index(tmp_path)[0]["frame"]), make_result().frame.image)


def test_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("kept", encoding="utf-8")
    with pytest.raises(OutputError, match="empty") as caught:
        Recording(tmp_path, make_info(), CLASSES)
    assert "--record" in caught.value.hint


@pytest.mark.parametrize("form", FRAME_STORES)
def test_kill_leaves_a_recording_that_can_be_read(tmp_path: Path, form: str) -> None:
    command = [sys.executable, "-c", ENDLESS, str(tmp_path / "rec"), form]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(20)]
        os.kill(process.pid, signal.SIGKILL)
    assert count_readable(tmp_path / "rec", "mask") >= len(said)
    assert count_readable(tmp_path / "rec", "frame") >= len(said)


@pytest.mark.parametrize(("form", "room"), [("png", 500), ("video", 1500)])
def test_full_disk_is_a_sentence_and_the_index_stays_whole(tmp_path: Path, form: str, room: int) -> None:
    recording = Recording(tmp_path / "rec", make_info(), CLASSES, form=form)
    with full_disk(room), pytest.raises(OutputError, match="failed") as caught:
        write_results(recording, 20)
    recording.close()
    assert "disk" in caught.value.hint
    assert 0 < count_readable(tmp_path / "rec", "mask") < 20


def draw_noise(number: int, shape: tuple[int, ...], highest: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, highest + 1, shape, dtype=np.uint8)


def make_noisy_result(number: int, captured_at: float, *shape: int) -> Result:
    frame = Frame(draw_noise(number, shape, 255), number, captured_at)
    return Result(frame, Segmentation(draw_noise(number, shape[:2], 2), StageTimes(1.0, 2.0, 1.0)), 4.0)


@pytest.mark.parametrize("shape", [(64, 80), (63, 81, 3)])
def test_a_video_holds_every_picture_bit_for_bit_at_its_time(tmp_path: Path, shape: tuple[int, ...]) -> None:
    times = (100.0, 100.04, 100.5, 190.0)
    results = [make_noisy_result(7 * number, at, *shape) for number, at in enumerate(times)]
    recording = Recording(tmp_path, make_info(), CLASSES, frames=True, form="video")
    for result in results:
        recording.write(result)
    recording.close()
    masks, frames = read_video(tmp_path / "masks.mkv"), cv2.VideoCapture(str(tmp_path / "images.mkv"))
    for place, (result, line) in enumerate(zip(results, read_index(tmp_path), strict=True)):
        assert (line["mask"], line["frame"], line["position"]) == ("masks.mkv", "images.mkv", place)
        np.testing.assert_array_equal(masks[place], result.segmentation.labels)
        _, image = frames.read()
        assert frames.get(cv2.CAP_PROP_POS_MSEC) == pytest.approx(1e3 * (times[place] - times[0]), abs=1)
        np.testing.assert_array_equal(image if len(shape) == 3 else image[..., 0], result.frame.image)
    frames.release()


def test_another_size_begins_another_video(tmp_path: Path) -> None:
    recording = Recording(tmp_path, make_info(), CLASSES, form="video")
    for number, side in enumerate((20, 20, 30, 20)):
        recording.write(make_noisy_result(number, number / 25, side, side))
    recording.close()
    places = [(line["mask"], line["position"]) for line in read_index(tmp_path)]
    assert places == [("masks.mkv", 0), ("masks.mkv", 1), ("masks-2.mkv", 0), ("masks-3.mkv", 0)]
    assert [picture.shape for picture in read_video(tmp_path / "masks-2.mkv")] == [(30, 30)]


def test_a_recorded_video_is_a_source(tmp_path: Path) -> None:
    recording = Recording(tmp_path, make_info(), CLASSES, frames=True, form="video")
    for number in range(10):
        recording.write(make_noisy_result(number, number / 20, 48, 64))
    recording.close()
    source = open_source(str(tmp_path / "images.mkv"))
    for number in range(10):
        image = source.read()
        assert image is not None
        np.testing.assert_array_equal(image[..., 1], draw_noise(number, (48, 64), 255))
    assert source.read() is None
    source.close()
    assert source.fps == pytest.approx(20.0, rel=0.05)
    assert source.health == Health()


def name_result(number: int, name: str) -> Result:
    result = make_result(number)
    return replace(result, frame=replace(result.frame, name=name))


def test_masks_are_named_after_their_images_and_none_is_overwritten(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "rec", make_info(), CLASSES, frames=True)
    names = ["b 7.png", "b 7.jpg", "b 7.png", "b 7.png", "../x/y.bmp", "..", "n" * 250 + ".png", "", "00000007.png"]
    for number, name in enumerate(names):
        recording.write(name_result(number, name))
    recording.close()
    index = read_index(tmp_path / "rec")
    assert [line["name"] for line in index] == names
    masks = [line["mask"].removeprefix("masks/") for line in index]
    assert masks[:5] == ["b 7.png", "b 7-00000001.png", "b 7-00000002.png", "b 7-00000003.png", "y.png"]
    assert masks[7] == "00000007.png"
    assert len(set(masks)) == len(names) == len(list((tmp_path / "rec/masks").iterdir()))
    assert [line["frame"] for line in index] == [line["mask"].replace("masks/", "images/") for line in index]


def test_a_service_that_starts_again_goes_on_in_a_new_session(tmp_path: Path) -> None:
    kept: dict[Path, bytes] = {}
    for _ in range(3):
        recording = Recording(tmp_path / "rec", make_info(), CLASSES)
        write_results(recording, 2)
        recording.close()
        assert {path: path.read_bytes() for path in kept} == kept
        kept = {path: path.read_bytes() for path in (tmp_path / "rec").rglob("*") if path.is_file()}
    assert recording.folder == tmp_path / "rec/session-3"
    assert all(count_readable(tmp_path / "rec" / part, "mask") == 2 for part in ("", "session-2", "session-3"))


@pytest.mark.parametrize("header", ["", "[]", "{}", '{"model": 1}', "[" * 100_000])
def test_a_folder_of_another_program_is_no_recording(tmp_path: Path, header: str) -> None:
    (tmp_path / "recording.json").write_text(header, encoding="utf-8")
    with pytest.raises(OutputError, match=str(tmp_path)):
        Recording(tmp_path, make_info(), CLASSES)
    assert [path.name for path in tmp_path.iterdir()] == ["recording.json"]
