"""DICOM as data: cropped to the header's region as in a stream, and held against its header before it is decoded."""

from __future__ import annotations

import dataclasses
import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeseg.core.card import Card, SplitSpec, card_from_json, card_to_json
from edgeseg.core.errors import DataError
from edgeseg.core.schema import from_plain, to_plain
from edgeseg.core.spec import InputSpec, Region
from edgeseg.data.check import CheckReport, check_survey
from edgeseg.data.dataset import fingerprint_dataset, import_dataset, open_dataset, read_case, survey_dataset
from edgeseg.data.split import fingerprint_split
from edgeseg.frame.images import write_image
from edgeseg.frame.preprocess import frame_to_pixels, use_region
from edgeseg.streaming.sources.choose import open_source
from edgeseg.training.grids import to_grid
from edgeseg.training.loading import load_data, load_same_data
from edgeseg.training.options import TrainOptions
from edgeseg.training.run import FINISHED, TRAINING, RunRecord
from tests.discs import draw_case
from tests.layouts import write_dicom
from tests.networks import describe_network

pydicom = pytest.importorskip("pydicom")

REGION = Region(16, 8, 72, 60)
HUGE = 30_000
JPEG, JPEG_2000, RLE, DEFLATED = (f"1.2.840.10008.1.2.{end}" for end in ("4.50", "4.90", "5", "1.99"))


def add_region(path: Path, region: Region) -> None:
    """Write into a header which part of the pixels is the picture."""
    header, found = pydicom.dcmread(path), pydicom.dataset.Dataset()
    found.RegionSpatialFormat = found.RegionDataType = 1
    found.RegionLocationMinX0, found.RegionLocationMinY0 = region.x, region.y
    found.RegionLocationMaxX1, found.RegionLocationMaxY1 = region.x + region.width, region.y + region.height
    header.SequenceOfUltrasoundRegions = [found]
    header.save_as(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make images whose headers name a region that holds the disc but not the whole screen."""
    for number in range(6):
        frame, mask = draw_case(number)
        coarse = np.random.default_rng(number).integers(0, 120, (6, 8)).astype(np.uint8)
        frame = frame // 2 + np.asarray(cv2.resize(coarse, (96, 72)), np.uint8)
        frame[:6] = 255
        path = tmp_path / "data" / "images" / f"d{number}.dcm"
        write_dicom(path, frame)
        add_region(path, REGION)
        write_image(tmp_path / "data" / "masks" / f"d{number}.png", mask)
    return tmp_path / "data"


def check(root: Path) -> CheckReport:
    return check_survey(survey_dataset(root))


def test_training_sees_the_pixels_that_a_stream_shows_the_network(root: Path) -> None:
    spec = InputSpec(64, 64, resize="letterbox")
    for case in open_dataset(root).cases:
        source = open_source(str(case.image))
        frame = source.read()
        assert frame is not None
        assert source.region == REGION
        streamed = frame_to_pixels(frame, use_region(spec, source.region))
        image = read_case(case)
        assert np.array_equal(to_grid([image], spec).pixels[0], streamed)
        assert image.masks[0].shape == image.frame.shape == (REGION.height, REGION.width)
        whole = draw_case(int(case.stem[1:]))[1] > 0
        assert np.array_equal(image.masks[0] > 0, whole[8:68, 16:88])


def test_a_region_that_does_not_fit_is_left_out_as_in_a_stream(root: Path) -> None:
    add_region(root / "images" / "d0.dcm", Region(16, 8, 600, 60))
    cases = open_dataset(root).cases
    assert [case.region for case in cases[:2]] == [None, REGION]
    assert read_case(cases[0]).frame.shape == (72, 96)
    warning = next(warning for warning in check(root).warnings if warning.kind == "mixed-regions")
    assert warning.cases == ("d0",)


def test_the_check_says_that_the_region_is_used_and_what_lies_outside(root: Path) -> None:
    mask = draw_case(0)[1]
    mask[:4] = 255
    write_image(root / "masks" / "d0.png", mask)
    report = check(root)
    table = report.to_json()
    assert (table["header_regions"], table["sizes"]) == (6, {"72x60": 6})
    assert ("marked-outside", ("d0",)) in [(warning.kind, warning.cases) for warning in report.warnings]


def test_an_import_keeps_what_a_training_sees(root: Path, tmp_path: Path) -> None:
    dataset = open_dataset(root)
    import_dataset(dataset, tmp_path / "out")
    for case, again in zip(dataset.cases, open_dataset(tmp_path / "out").cases, strict=True):
        assert np.array_equal(read_case(case).frame, read_case(again).frame)


def begin_record(root: Path, **fields: Any) -> RunRecord:
    loaded, options = load_data(root, SplitSpec(0, 0.2, 0.2)), TrainOptions(model="nano", size=32)
    output = describe_network({}).output
    return RunRecord(
        name="d",
        data="",
        data_fingerprint=fingerprint_dataset(loaded.dataset),
        split=loaded.split_spec,
        input=options.input,
        output=output,
        spec=options.describe_network(output.channels),
        options=options,
        libraries={},
        edgeseg="0",
        split_fingerprint=fingerprint_split(loaded.split),
        **fields,
    )


def test_the_start_of_a_training_and_its_card_say_that_the_region_is_used(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_data(root, SplitSpec(0, 0.2, 0.2)).log_warnings()
    assert "cropped" in caplog.text
    record = begin_record(root, status=TRAINING, header_region=True)
    card = dataclasses.replace(describe_network({}), provenance=record.provenance("float32"))
    assert card_from_json(card_to_json(dataclasses.replace(card, sha256="0" * 64)), "here").provenance.header_region


def test_runs_and_cards_from_before_that_still_load(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = to_plain(begin_record(root, status=FINISHED))
    del table["header_region"]
    record = from_plain(RunRecord, table)
    card = to_plain(describe_network({}))
    del card["provenance"]["header_region"]
    assert not from_plain(Card, card).provenance.header_region
    assert load_same_data(root, record, root).dataset.header_region
    assert "whole frames" in caplog.text
    with pytest.raises(DataError, match="cropped"):
        load_same_data(root, dataclasses.replace(record, status=TRAINING), root)


def announce(data: bytes, mark: bytes, place: int, form: str) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, data.find(mark) + place, HUGE, HUGE)
    return bytes(changed)


def encode(kind: str) -> bytes:
    image = pytest.importorskip("PIL.Image")
    buffer = io.BytesIO()
    image.fromarray(draw_case(1)[0]).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "tags",
    [
        {"NumberOfFrames": 999_999_999},
        {"NumberOfFrames": -5},
        {"NumberOfFrames": 2},
        {"Rows": 65_535, "Columns": 65_535},
        {"SamplesPerPixel": 60_000},
    ],
)
def test_a_header_beyond_the_limits_is_refused_when_it_is_listed(root: Path, tags: dict[str, int]) -> None:
    path = root / "images" / "d1.dcm"
    header = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(header, name, value)
    header.save_as(path)
    (defect,) = survey_dataset(root).defects
    assert (defect.kind, defect.stems, path.name in defect.message) == ("unreadable", ("d1",), True)


def test_a_frame_that_announces_another_size_than_its_header_is_not_decoded(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "images" / "d1.dcm"
    frames = {
        JPEG: announce(encode("JPEG"), b"\xff\xc0", 5, ">HH"),
        JPEG_2000: announce(encode("JPEG2000"), b"\xff\x4f\xff\x51", 8, ">II"),
    }
    monkeypatch.setattr(pydicom.pixels, "pixel_array", None)
    for syntax, frame in frames.items():
        header = pydicom.dcmread(path)
        header.file_meta.TransferSyntaxUID = syntax
        header.PixelData = pydicom.encaps.encapsulate([frame])
        header["PixelData"].is_undefined_length = True
        header.save_as(path)
        with pytest.raises(DataError, match=rf"96x72.*d1\.dcm.*{HUGE}x{HUGE}"):
            read_case(open_dataset(root).cases[1])


@pytest.mark.parametrize("named", [True, False])
def test_a_header_of_empty_items_is_not_read_to_its_end(
    root: Path, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeseg.data.dicom.DICOM_READS", 2000)
    path = root / "images" / "d1.dcm"
    whole, items = path.read_bytes(), struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 10_000
    place = whole.find(b"\x28\0\2\0US")
    start = whole.find(b"\x18\0\x11\x60SQ")
    length = len(items) if named else 0xFFFFFFFF
    head = whole[start : start + 8] + struct.pack("<I", length)
    end = b"" if named else struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    path.write_bytes(whole[:start] + head + items + end + whole[place:])
    (defect,) = survey_dataset(root).defects
    assert "longer one" in defect.message


def test_a_file_that_is_packed_as_a_whole_is_not_unpacked(root: Path) -> None:
    path = root / "images" / "d1.dcm"
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = DEFLATED
    header.PixelData = bytes(50_000_000)
    header.save_as(path)
    (defect,) = survey_dataset(root).defects
    assert "Deflated" in defect.message
