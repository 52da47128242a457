"""Real recordings: vendors' screens, DICOM cines and clips play as their notes say."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from edgeseg.core.spec import Region
from edgeseg.inference.regions import RegionDetector
from edgeseg.streaming.sources.choose import open_source
from tests.integration.test_realdata import real
from tests.unit.test_fan import overlap
from tests.unit.test_recordings import play

pytestmark = [pytest.mark.integration, pytest.mark.realdata]

SCREENS = {
    "pocus_ui_apache2/butterfly-ocular-phantom.mp4": Region(84, 192, 618, 712),
    "pocus_ui_apache2/clarius-ocular-short.mp4": Region(256, 80, 776, 804),
    "tracked_bsd3/BoneUltrasound_L14.mp4": Region(172, 0, 482, 600),
    "muscle_cc0/gastroc_jumping.mp4": Region(110, 55, 590, 475),
}
"""Where a person sees the picture, in pixels."""


@pytest.mark.parametrize("name", SCREENS)
def test_the_picture_is_found_on_a_real_screen(name: str) -> None:
    source, finder, found = open_source(str(real("clips") / name)), RegionDetector(), None
    for _ in range(10):
        image = source.read()
        assert image is not None
        found = finder.find(image)
    source.close()
    assert found is not None
    assert overlap(found, SCREENS[name]) > 0.9


def test_scattered_points_are_no_picture() -> None:
    source = open_source(str(real("clips") / "tracked_bsd3/USTC_FrameGrabber_ProbeRotationData.mp4"))
    image = source.read()
    source.close()
    assert image is not None
    assert RegionDetector().find(image) is None


def list_clips() -> list[dict[str, str]]:
    """List the recordings that one of the sources plays."""
    with (real("clips") / "clips.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if Path(row["file"]).suffix != ".mha"]


def test_recordings_have_the_frames_of_their_notes() -> None:
    for row in list_clips():
        if row["file"] == "dicom/JPGLosslessP14SV1_1s_1f_8b.dcm":
            continue  # JPEG Lossless needs a decoder that the extra does not bring
        source = open_source(str(real("clips") / row["file"]))
        count = play(source)
        assert abs(count - int(row["frames"])) <= 2, row["file"]
        assert source.health.missing == 0, row["file"]
        if row["fps"]:
            assert source.fps == pytest.approx(float(row["fps"]), rel=0.01), row["file"]
