"""A recording: whatever the index names can be read, after a kill and on a full disk as well."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.core.errors import OutputError
from edgeseg.core.images import read_image
from edgeseg.runtime.sinks.record import Recording
from tests.commands import full_disk
from tests.results import AREA, CLASSES, make_info, make_result

ENDLESS = """
import sys
from pathlib import Path
from itertools import count
from edgeseg.runtime.sinks.record import Recording
from tests.results import CLASSES, make_info, make_result
recording = Recording(Path(sys.argv[1]), make_info(), CLASSES, frames=True)
for number in count():
    recording.write(make_result(number))
    print(number, flush=True)
"""


def write_results(recording: Recording, count: int) -> None:
    for number in range(count):
        recording.write(make_result(number))


def read_index(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "index.jsonl").read_text(encoding="utf-8").splitlines()]


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
    with pytest.raises(OutputError, match="new or an empty folder") as caught:
        Recording(tmp_path, make_info(), CLASSES)
    assert "--record" in caught.value.hint


def test_kill_leaves_a_recording_that_can_be_read(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDLESS, str(tmp_path / "rec")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(20)]
        os.kill(process.pid, signal.SIGKILL)
    index = read_index(tmp_path / "rec")
    assert len(index) >= len(said)
    for line in index:
        assert read_image(tmp_path / "rec" / line["mask"]).shape == (64, 80)
        assert read_image(tmp_path / "rec" / line["frame"]).shape == (64, 80)


def test_full_disk_is_a_sentence_and_the_index_stays_whole(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "rec", make_info(), CLASSES)
    with full_disk(room=500), pytest.raises(OutputError, match="failed") as caught:
        write_results(recording, 8)
    recording.close()
    assert "disk has room" in caught.value.hint
    index = read_index(tmp_path / "rec")
    assert 0 < len(index) < 8
    assert all(read_image(tmp_path / "rec" / line["mask"]).shape == (64, 80) for line in index)
