"""DICOM cines: every common encoding plays, and nothing of the patient is ever said."""

from __future__ import annotations

import copy
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, SourceError
from edgeseg.core.install import MissingExtraError
from edgeseg.core.spec import Region
from edgeseg.streaming.sources.base import Source
from edgeseg.streaming.sources.choose import open_source
from tests.layouts import write_cine, write_dicom

pytest.importorskip("pydicom", reason="needs the extra dicom")
SIZE = (32, 48)
VALUES = (40, 120, 220)


def make_cine(colour: bool = False) -> NDArray[np.uint8]:
    """Make three plain frames with a dark corner, and pixels that look like the marker of JPEG 2000."""
    frames = np.stack([np.full((*SIZE, 3) if colour else SIZE, value, np.uint8) for value in VALUES])
    frames[:, :8, :8] = 0
    frames[:, 12, 8:12] = np.frombuffer(b"\xff\x4f\xff\x51", np.uint8)[:, None] if colour else [255, 79, 255, 81]
    return frames


def write_encoded(path: Path, frames: NDArray[np.uint8], kind: str, broken: int | None = None) -> Path:
    """Write a cine whose frames are JPEG or JPEG 2000; one of them may be broken."""
    import PIL.Image
    import pydicom
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

    cine = pydicom.dcmread(write_cine(path, frames))
    encoded = []
    for frame in frames:
        buffer = io.BytesIO()
        PIL.Image.fromarray(frame).save(buffer, kind)
        encoded.append(buffer.getvalue())
    if broken is not None:
        encoded[broken] = b"\xff\xd8 no frame"
    cine.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if kind == "JPEG" else JPEG2000Lossless
    if frames.ndim == 4:
        cine.PhotometricInterpretation = "YBR_FULL_422" if kind == "JPEG" else "YBR_RCT"
    cine.PixelData = encapsulate(encoded)
    cine["PixelData"].is_undefined_length = True
    cine.save_as(path)
    return path


def play(source: Source) -> list[int]:
    values = []
    while (image := source.read()) is not None:
        values.append(int(image[-1, -1].max()))
    source.close()
    return values


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("kind", ["", "RLE", "JPEG", "JPEG2000"])
def test_every_common_encoding_plays(tmp_path: Path, colour: bool, kind: str) -> None:
    import pydicom
    from pydicom.uid import RLELossless

    frames = make_cine(colour)
    path = tmp_path / "cine.dcm"
    if kind in ("JPEG", "JPEG2000"):
        write_encoded(path, frames, kind)
    else:
        write_cine(path, frames)
    if kind == "RLE":
        cine = pydicom.dcmread(path)
        cine.compress(RLELossless, generate_instance_uid=False)
        cine.save_as(path)
    source = open_source(str(path), colour=colour)
    assert source.fps == pytest.approx(20.0)
    assert play(source) == pytest.approx(VALUES, abs=2)


def test_spacing_and_region_come_from_the_header(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset

    region = Dataset()
    region.RegionSpatialFormat = region.RegionDataType = 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.02
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 8, 4
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 40, 30
    doppler, outside = copy.deepcopy(region), copy.deepcopy(region)
    doppler.RegionSpatialFormat, doppler.RegionLocationMaxX1 = 3, 48
    outside.RegionLocationMaxX1 = 600
    path = write_cine(tmp_path / "a.dcm", make_cine(), SequenceOfUltrasoundRegions=[doppler, outside, region])
    source = open_source(str(path))
    assert source.region == Region(8, 4, 32, 26)
    assert source.mm_per_px == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("tags", "fps"),
    [
        ({"FrameTime": None, "CineRate": 12}, 12.0),
        ({"FrameTime": None, "FrameTimeVector": [0, 100, 100]}, 10.0),
        ({"FrameTime": None}, 30.0),
    ],
)
def test_the_rate_is_found_wherever_it_stands(tmp_path: Path, tags: dict[str, Any], fps: float) -> None:
    assert open_source(str(write_cine(tmp_path / "a.dcm", make_cine(), **tags))).fps == fps


def test_a_single_image_is_played_once(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", make_cine()[0])
    assert open_source(str(tmp_path / "a.dcm")).name == "a.dcm"
    assert play(open_source(str(tmp_path / "a.dcm"))) == [40]


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", make_cine()[2].astype(np.uint16) * 257)
    image = open_source(str(tmp_path / "a.dcm")).read()
    assert image is not None
    assert image.dtype == np.uint16
    assert image[-1, -1] == 220 * 257


def test_a_file_without_an_ending_is_known_by_its_content(tmp_path: Path) -> None:
    path = write_cine(tmp_path / "IM000001", make_cine())
    assert len(play(open_source(str(path)))) == 3


def test_a_damaged_frame_is_left_out(tmp_path: Path) -> None:
    source = open_source(str(write_encoded(tmp_path / "a.dcm", make_cine(), "JPEG", broken=1)))
    assert play(source) == pytest.approx([40, 220], abs=2)
    assert source.health.corrupt == 1


def test_what_cannot_be_shown_is_told_without_a_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import pydicom

    path = write_cine(tmp_path / "a.dcm", make_cine())
    said = []
    cine = pydicom.dcmread(path)
    del cine.PixelData
    cine.save_as(path)
    with pytest.raises(DataError, match="no pixels") as caught:
        open_source(str(path))
    said.append(caught.value.message)
    path.write_bytes(b"Secret^Name")
    with pytest.raises(DataError, match="unreadable file") as caught:
        open_source(str(path))
    said.append(caught.value.message)
    write_encoded(path, make_cine()[:1], "JPEG", broken=0)
    source = open_source(str(path))
    with pytest.raises(DataError, match="unreadable file") as caught:
        source.read()
    assert "Secret" not in "".join([*said, caught.value.message, caplog.text])


def test_a_compression_without_a_decoder_is_named(tmp_path: Path) -> None:
    import pydicom
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGLosslessSV1

    path = write_cine(tmp_path / "a.dcm", make_cine())
    cine = pydicom.dcmread(path)
    if pydicom.pixels.get_decoder(JPEGLosslessSV1).is_available:
        pytest.skip("JPEG Lossless can be decoded here")
    cine.file_meta.TransferSyntaxUID, cine.PixelData = JPEGLosslessSV1, encapsulate([b"jpeg"])
    cine.save_as(path)
    with pytest.raises(DataError, match="JPEG Lossless"):
        open_source(str(path))


def test_a_grey_cine_is_no_source_for_a_model_of_colour(tmp_path: Path) -> None:
    image = open_source(str(write_cine(tmp_path / "a.dcm", make_cine())), colour=True).read()
    assert image is not None
    assert image.shape == SIZE


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a.dcm"):
        open_source(str(tmp_path / "a.dcm"))


def test_without_pydicom_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_cine(tmp_path / "a.dcm", make_cine())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match="pydicom"):
        open_source(str(path))
