"""A recording that is played: the masks and figures that were recorded, and nothing that lies elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeseg.core.errors import DataError
from edgeseg.core.limits import LINE_BYTES
from edgeseg.frame.images import write_image
from edgeseg.streaming.playback import RecordingReader
from edgeseg.streaming.sinks.recording import FRAME_STORES, Recording
from edgeseg.streaming.viewer.player import RecordingPlayer
from edgeseg.web.access import Access
from tests.results import AREA, CLASSES, make_decided, make_info, make_result
from tests.viewers import ask_url

FIGURES = "X-Edgeseg-Figures"


def record(folder: Path, form: str = "png", frames: bool = True, count: int = 4) -> Path:
    """Record results a second apart; the first has its lesion doubtful, the last is of another kind."""
    recording = Recording(folder, make_info(mm_per_px=0.5), CLASSES, frames, form)
    for number in range(count):
        distance = 2.0 if number == count - 1 else None
        state = "doubtful" if number == 0 else "found"
        result = make_decided(state, 0.25 + 0.25 * min(number, 2), number, distance)
        recording.write(
            replace(result, frame=replace(result.frame, captured_at=100.0 + number, source=1 + number // 2))
        )
    recording.close()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return record(tmp_path / "rec")


@pytest.fixture
def player(folder: Path) -> Iterator[RecordingPlayer]:
    player = RecordingPlayer(RecordingReader(folder), 0)
    yield player
    player.close()


def change_line(folder: Path, place: int, **changes: Any) -> None:
    lines = (folder / "index.jsonl").read_text(encoding="utf-8").splitlines()
    lines[place] = json.dumps({**json.loads(lines[place]), **changes})
    (folder / "index.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("form", FRAME_STORES)
def test_masks_frames_states_and_times_are_those_that_were_recorded(tmp_path: Path, form: str) -> None:
    reader = RecordingReader(record(tmp_path / "rec", form))
    assert (reader.model, len(reader), reader.seconds, reader.has_frames, reader.unreadable) == (
        "small",
        4,
        3.0,
        True,
        0,
    )
    assert reader.classes == CLASSES
    second = reader.read(1)
    expected = make_decided("found", 0.5, 1)
    np.testing.assert_array_equal(second.picture.labels, expected.segmentation.labels)
    np.testing.assert_array_equal(second.picture.image[..., 0], expected.frame.image)
    assert second.picture.segmentation is not None
    assert second.picture.segmentation.findings == expected.segmentation.findings
    assert second.picture.segmentation.frame_classes == expected.segmentation.frame_classes
    assert (second.seconds, second.next_seconds, second.age_ms, second.source) == (1.0, 2.0, 20.0, 1)
    assert second.picture.mm_per_px == 0.5
    last = reader.read(3)
    assert (last.next_seconds, last.source) == (None, 2)
    assert last.picture.segmentation is not None
    assert last.picture.segmentation.out_of_distribution
    reader.close()


def test_a_time_finds_the_picture_that_was_shown_then(folder: Path) -> None:
    reader = RecordingReader(folder)
    assert [reader.find_place(seconds) for seconds in (0.0, 0.99, 1.0, 2.5, 1e9)] == [0, 0, 1, 2, 3]


def test_masks_without_frames_are_on_black(tmp_path: Path) -> None:
    reader = RecordingReader(record(tmp_path / "rec", frames=False))
    assert not reader.has_frames
    assert not reader.read(0).picture.image.any()


def test_a_recording_of_an_earlier_release_and_one_that_was_killed_play(folder: Path) -> None:
    path = folder / "index.jsonl"
    keys = ("source", "mm_per_px", "findings", "frame_classes", "out_of_distribution")
    lines = [
        {key: value for key, value in json.loads(line).items() if key not in keys}
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    path.write_text(text + text[: len(text) // 8], encoding="utf-8")
    reader = RecordingReader(folder)
    assert (len(reader), reader.unreadable) == (4, 0)
    assert reader.read(0).picture.mm_per_px == 0.5


@pytest.mark.parametrize(
    "change",
    [
        {"mask": "../secret.png"},
        {"mask": "/etc/hostname"},
        {"mask": "masks/../../secret.png"},
        {"mask": "masks/link.png"},
        {"mask": "recording.json"},
        {"mask": "masks/gone.png"},
        {"mask": "masks\0"},
        {"mask": "masks/colours.png"},
        {"mask": "masks/huge.png"},
        {"frame": "images/../../secret.png"},
        {"frame": 5},
        {"frame": "images/small.png"},
        {"position": 3},
        {"position": -1},
        {"position": "x"},
        {"number": -5},
        {"number": 10**400},
        {"findings": [{"state": "found"}]},
        {"findings": [{"state": "sure"}, {"state": "found"}]},
        {"findings": [{"state": "found", "confidence": 7}, {"state": "found"}]},
        {"findings": 7},
        {"frame_classes": {str(number): 1 for number in range(99)}},
        {"frame_classes": [1]},
        {"mm_per_px": -1},
        {"mm_per_px": "wide"},
        {"age_ms": [1]},
    ],
    ids=repr,
)
def test_a_hostile_line_is_refused_and_the_others_play(folder: Path, change: dict[str, Any]) -> None:
    write_image(folder.parent / "secret.png", np.zeros((64, 80), np.uint8))
    (folder / "masks/link.png").symlink_to(folder.parent / "secret.png")
    write_image(folder / "masks/colours.png", np.full((64, 80, 3), 90, np.uint8))
    write_image(folder / "images/small.png", np.zeros((8, 8), np.uint8))
    header = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
    (folder / "masks/huge.png").write_bytes(header[:16] + b"\x7f\xff\xff\xff\x7f\xff\xff\xff" + header[24:])
    change_line(folder, 1, **change)
    reader = RecordingReader(folder)
    if len(reader) == 4:
        with pytest.raises(DataError):
            reader.read(1)
    else:
        assert reader.unreadable == 1
    reader.read(0)
    reader.close()


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b'{"mask": 1, "captured_s": 0}',
        b"\xff\xfe",
        b"[" * 60000,
        b"9" * 5000,
        b'{"mask": "masks/0.png", "captured_s": NaN}',
    ],
)
def test_lines_that_are_none_are_counted_and_left_out(folder: Path, line: bytes) -> None:
    path = folder / "index.jsonl"
    path.write_bytes(line + b"\n" + path.read_bytes())
    reader = RecordingReader(folder)
    assert (len(reader), reader.unreadable) == (4, 1)
    assert reader.read(0).picture.number == 0


def test_a_huge_line_is_passed_over_in_little_memory(folder: Path) -> None:
    path = folder / "index.jsonl"
    path.write_bytes(b'{"mask": "' + 40 * LINE_BYTES * b"x" + b'"}\n' + path.read_bytes())
    reader = RecordingReader(folder)
    assert (len(reader), reader.unreadable) == (4, 1)


def _no_header(folder: Path) -> None:
    (folder / "recording.json").unlink()


def _no_classes(folder: Path) -> None:
    (folder / "recording.json").write_text('{"model": "m", "classes": [], "mm_per_px": null}', encoding="utf-8")


def _many_classes(folder: Path) -> None:
    classes = [{"name": str(number), "colour": [1, 2, 3]} for number in range(128)]
    (folder / "recording.json").write_text(json.dumps({"model": "m", "classes": classes}), encoding="utf-8")


def _no_masks(folder: Path) -> None:
    (folder / "index.jsonl").write_text("", encoding="utf-8")


def _no_index(folder: Path) -> None:
    (folder / "index.jsonl").unlink()


@pytest.mark.parametrize("damage", [_no_header, _no_classes, _many_classes, _no_masks, _no_index])
def test_what_is_no_recording_is_refused(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    with pytest.raises(DataError):
        RecordingReader(folder)


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_video_that_was_cut_off_plays_what_is_whole(tmp_path: Path, cut: int) -> None:
    folder = record(tmp_path / "rec", "video")
    data = (folder / "masks.mkv").read_bytes()
    (folder / "masks.mkv").write_bytes(data[:-cut])
    with closing(RecordingReader(folder)) as reader:
        reader.read(0)
        with pytest.raises(DataError):
            reader.read(3)
    (folder / "masks.mkv").write_bytes(b"no video")
    with pytest.raises(DataError):
        RecordingReader(folder).read(0)


def test_the_player_gives_each_picture_with_its_own_figures(player: RecordingPlayer) -> None:
    numbers = json.loads(ask_url(player.url, "/numbers")[2])
    assert numbers["playback"] == {"pictures": 4, "seconds": 3.0, "has_frames": True, "unreadable": 0}
    status, headers, jpeg = ask_url(player.url, "/still?picture=2")
    figures = json.loads(headers[FIGURES])
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    assert (figures["picture"], figures["number"], figures["seconds"], figures["stream"]) == (
        2,
        1,
        1.0,
        numbers["stream"],
    )
    assert [one["area_px"] for one in figures["classes"]] == [AREA, 0]
    assert figures["classes"][0]["area_mm2"] == AREA / 4
    assert figures["classes"][0]["confidence"] == 0.5
    assert ask_url(player.url, "/still?at=1.5")[2] == jpeg
    hidden = ask_url(player.url, "/still?picture=2&hide=1,2")
    assert json.loads(hidden[1][FIGURES])["classes"] == figures["classes"]
    plain = cv2.imdecode(np.frombuffer(hidden[2], np.uint8), cv2.IMREAD_COLOR)
    assert plain is not None
    assert np.ptp(plain, axis=2).max() < 12


@pytest.mark.parametrize(
    "query", ["", "picture=0", "picture=5", "picture=1.5", "picture=nan", "at=-1", "at=nan", "at=x"]
)
def test_a_picture_that_is_not_there_is_a_sentence(player: RecordingPlayer, query: str) -> None:
    assert ask_url(player.url, f"/still?{query}")[0] == 404


def test_a_picture_that_cannot_be_read_is_a_sentence_without_a_folder(player: RecordingPlayer, folder: Path) -> None:
    (folder / "masks/00000001.png").unlink()
    status, _, said = ask_url(player.url, "/still?picture=2")
    assert status == 422
    assert str(folder) not in said.decode()
    assert ask_url(player.url, "/still?picture=1")[0] == 200


def test_a_recording_is_shown_to_nobody_without_the_token(folder: Path) -> None:
    player = RecordingPlayer(RecordingReader(folder), 0, Access("127.0.0.2", "secret"))
    for path in ("/", "/numbers", "/still?picture=1", "/picture"):
        assert ask_url(player.url, path)[0] == 403
    assert ask_url(player.url, "/still?picture=1&token=secret")[0] == 200
    assert ask_url(player.url, "/picture?token=secret")[0] == 404
    player.close()


def test_a_folder_of_several_recordings_names_one(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "many").mkdir()
    folder.rename(tmp_path / "many/left")
    with pytest.raises(DataError) as refused:
        RecordingReader(tmp_path / "many")
    assert refused.value.hint.endswith("many/left.")


def test_a_later_session_is_told_and_plays(folder: Path) -> None:
    recording = Recording(folder, make_info(), CLASSES)
    recording.write(make_result())
    recording.close()
    assert RecordingReader(folder).sessions == 1
    assert len(RecordingReader(folder / "session-2")) == 1
