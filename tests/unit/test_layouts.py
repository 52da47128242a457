"""Layouts: a tiny copy of each is found by itself, read rightly, refused with a sentence, and imported without loss."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.core.errors import DataError, UnknownNameError
from edgeseg.core.install import MissingExtraError
from edgeseg.data.dataset import Dataset, fingerprint_dataset, import_dataset, open_dataset, read_case, survey_dataset
from edgeseg.data.defects import DefectError
from edgeseg.data.layouts import LAYOUTS
from edgeseg.data.layouts.base import or_defect
from edgeseg.data.layouts.public import fill_outline
from edgeseg.frame.images import write_image
from tests.discs import draw_case
from tests.layouts import MAKERS, NEEDED, make_camus, write_dicom

Make = Callable[[str], Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def write(name: str) -> Path:
        if name in NEEDED:
            pytest.importorskip(NEEDED[name])
        MAKERS[name](tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", MAKERS)
def test_layout_is_found_by_itself_and_by_name(make: Make, name: str) -> None:
    root = make(name)
    dataset = open_dataset(root)
    assert dataset.layout == name
    assert open_dataset(root, name).cases == dataset.cases
    assert len({case.stem for case in dataset.cases}) == len(dataset.cases) >= 4


@pytest.mark.parametrize("name", MAKERS)
def test_every_case_is_read_grey_and_in_colour(make: Make, name: str) -> None:
    for case in open_dataset(make(name)).cases:
        grey, colour = read_case(case), read_case(case, colour=True)
        assert (grey.frame.shape, colour.frame.shape) == ((72, 96), (72, 96, 3))
        assert grey.frame.dtype == np.uint8
        assert all(mask.shape == (72, 96) and set(np.unique(mask)) <= {0, 1} for mask in grey.masks)


def same_data(first: Dataset, second: Dataset) -> bool:
    pairs = list(zip(first.cases, second.cases, strict=True))
    known = ("stem", "group", "part", "pixel_size_mm", "head_circumference_mm")
    assert all(getattr(a, name) == getattr(b, name) for a, b in pairs for name in known)
    order = [[spec.name for spec in second.classes].index(spec.name) for spec in first.classes]
    for one, other in ((read_case(a), read_case(b)) for a, b in pairs):
        assert np.array_equal(one.frame, other.frame)
        assert all(np.array_equal(mask, other.masks[k]) for mask, k in zip(one.masks, order, strict=True))
    return True


@pytest.mark.parametrize("name", MAKERS)
def test_import_loses_nothing(make: Make, name: str, tmp_path: Path) -> None:
    dataset = open_dataset(make(name))
    import_dataset(dataset, tmp_path / "out")
    again = open_dataset(tmp_path / "out")
    cases = {case.stem: case for case in again.cases}
    ordered = Dataset(again.root, tuple(cases[case.stem] for case in dataset.cases), again.classes)
    assert again.layout == "plain"
    assert same_data(dataset, ordered)


@pytest.mark.parametrize("name", MAKERS)
def test_fingerprint_stays_and_notices_a_change(make: Make, name: str) -> None:
    root = make(name)
    before = fingerprint_dataset(open_dataset(root))
    assert before == fingerprint_dataset(open_dataset(root))
    path = open_dataset(root).cases[0].masks[0]
    path.write_bytes(path.read_bytes() + b"\n")
    assert fingerprint_dataset(open_dataset(root, name)) != before


def groups(dataset: Dataset) -> list[str]:
    return [case.group for case in dataset.cases]


def test_plain_takes_groups_and_pixel_sizes(make: Make) -> None:
    dataset = open_dataset(make("plain"))
    assert [spec.name for spec in dataset.classes] == ["target", "vessel"]
    assert groups(dataset) == ["g0", "g1", "g2", "g3"]
    assert [case.pixel_size_mm for case in dataset.cases] == [0.1, 0.2, 0.3, 0.4]


def test_pixel_size_of_a_larger_original(make: Make) -> None:
    root = make("plain")
    header = "stem,group,pixel_size_mm_original,orig_width,width,head_circumference_mm\n"
    rows = "".join(f"p{number},g,0.07,800,400,44.3\n" for number in range(4))
    (root / "groups.csv").write_text(header + rows, encoding="utf-8")
    case = open_dataset(root).cases[0]
    assert case.pixel_size_mm == pytest.approx(0.14)
    assert case.head_circumference_mm == 44.3


def test_labelmap_counts_its_classes(make: Make) -> None:
    dataset = open_dataset(make("labelmap"))
    assert [spec.name for spec in dataset.classes] == ["class_1", "class_2"]
    assert all(mask.any() for mask in read_case(dataset.cases[0]).masks)


def test_labelmap_with_a_gap_is_refused(make: Make) -> None:
    root = make("labelmap")
    write_image(root / "labels" / "m0.png", np.full((72, 96), 255, np.uint8))
    with pytest.raises(DataError, match=r"labels.* 0, 1, 2, 255"):
        open_dataset(root)


def test_busi_unites_masks(make: Make) -> None:
    cases = {case.stem: case for case in open_dataset(make("busi")).cases}
    both = read_case(cases["benign (4)"]).masks[0]
    assert len(cases["benign (4)"].masks) == 2
    assert both[:6, :6].all()
    assert both[20:50, 30:60].any()
    assert not read_case(cases["normal (3)"]).labels.any()


def test_hc18_fills_outlines_and_keeps_exams_together(make: Make) -> None:
    dataset = open_dataset(make("hc18"))
    cases = {case.stem: case for case in dataset.cases}
    assert cases["010_HC"].group == cases["010_2HC"].group == "010"
    assert cases["000_HC"].pixel_size_mm == pytest.approx(0.0691358041432)
    assert cases["000_HC"].head_circumference_mm == 44.3
    filled = read_case(cases["000_HC"]).masks[0]
    assert filled.sum() == pytest.approx(np.pi * 30 * 20, rel=0.05)


@pytest.mark.parametrize("length", ["0", "-1", "nan", "none"])
def test_hc18_table_with_impossible_lengths(make: Make, length: str) -> None:
    root = make("hc18")
    table = root / "training_set_pixel_size_and_HC.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("44.3", length), encoding="utf-8")
    with pytest.raises(DataError, match=r"head circumference \(mm\) of 000_HC.png in .*, line 2, got"):
        open_dataset(root)


def test_groups_file_with_impossible_values(make: Make) -> None:
    root = make("plain")
    for line, said in (("p0,g,x", "line 2, got 'x'"), ("p0,g,-1", "line 2, got '-1'"), ("p0,,1", "none for p0")):
        (root / "groups.csv").write_text(f"stem,group,pixel_size_mm\n{line}\n", encoding="utf-8")
        with pytest.raises(DataError, match=said):
            open_dataset(root)
    for parts, said in ((("practice",) * 4, "to be one of"), (("train", "val", "test", ""), "for all images")):
        rows = "".join(f"p{number},g{number},{part}\n" for number, part in enumerate(parts))
        (root / "groups.csv").write_text("stem,group,part\n" + rows, encoding="utf-8")
        with pytest.raises(DataError, match=said):
            open_dataset(root)


def test_outline_cut_by_the_border_is_filled() -> None:
    outline, whole = np.zeros((80, 100), np.uint8), np.zeros((80, 100), np.uint8)
    cv2.ellipse(outline, (85, 40), (30, 20), 0, 0, 360, 1, 1)
    cv2.ellipse(whole, (85, 40), (30, 20), 0, 0, 360, 1, -1)
    filled = fill_outline(outline)
    assert np.count_nonzero(filled != whole) < 0.03 * whole.sum()
    assert not fill_outline(np.zeros((8, 8), np.uint8)).any()


def test_nerve_takes_the_subject_as_group(make: Make) -> None:
    assert groups(open_dataset(make("nerve"))) == ["10", "1", "1", "2"]


def test_camus_reads_both_formats(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    make_camus(tmp_path / "nii")
    make_camus(tmp_path / "mhd", ".mhd")
    first, second = open_dataset(tmp_path / "nii"), open_dataset(tmp_path / "mhd")
    assert groups(first) == ["patient0001", "patient0001", "patient0002", "patient0003"]
    assert [spec.name for spec in first.classes] == ["ventricle", "myocardium", "atrium"]
    assert [case.pixel_size_mm for case in first.cases] == [None, *[pytest.approx(0.3)] * 3]
    assert len(second.cases[0].others) == 2
    assert np.array_equal(read_case(first.cases[0]).labels, read_case(second.cases[0]).labels)
    assert np.array_equal(read_case(first.cases[0]).frame, draw_case(0)[0])


def test_camus_names_what_cannot_be_read(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    make_camus(tmp_path)
    path = tmp_path / "patient0002" / "patient0002_2CH_ED.nii.gz"
    path.write_bytes(path.read_bytes()[:40])
    survey = survey_dataset(tmp_path)
    assert [defect.kind for defect in survey.defects] == ["unreadable"]
    assert len(survey.dataset.cases) == 3


def test_arrays_keep_their_parts(make: Make) -> None:
    root = make("arrays")
    cases = open_dataset(root).cases
    assert [case.part for case in cases] == ["train"] * 4 + ["val"] * 2 + ["test"] * 3
    assert np.array_equal(read_case(cases[4]).frame, draw_case(0)[0][::-1])
    for path in (*root.glob("val_*"), *root.glob("test_*")):
        path.unlink()
    assert {case.part for case in open_dataset(root).cases} == {""}


def test_arrays_of_several_classes(tmp_path: Path) -> None:
    frames, masks = (np.stack(many) for many in zip(*(draw_case(number) for number in range(3)), strict=True))
    np.save(tmp_path / "train_images.npy", frames)
    np.save(tmp_path / "train_masks.npy", np.stack([masks, masks[:, ::-1]], axis=-1))
    dataset = open_dataset(tmp_path)
    assert [spec.name for spec in dataset.classes] == ["class_1", "class_2"]
    assert np.array_equal(read_case(dataset.cases[1]).masks[1] > 0, masks[1, ::-1] > 0)


def test_arrays_of_other_lengths_and_kinds(make: Make) -> None:
    root = make("arrays")
    np.save(root / "val_masks.npy", np.zeros((1, 72, 96)))
    with pytest.raises(DataError, match="image val_00001"):
        open_dataset(root)
    np.save(root / "val_masks.npy", np.zeros((2, 72, 96)))
    np.save(root / "val_images.npy", np.full((2, 72, 96), -3.5))
    with pytest.raises(DataError, match=r"0 to 1.*image 0.*float64.*-3\.5"):
        read_case(open_dataset(root).cases[4])
    (root / "val_images.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"val_images.npy"):
        open_dataset(root)


def test_dicom_finds_the_pixel_size(make: Make) -> None:
    cases = open_dataset(make("dicom")).cases
    assert [case.pixel_size_mm for case in cases] == [pytest.approx(0.1), pytest.approx(0.2), None, None]


def test_dicom_with_16_bit(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    frame, mask = draw_case(0)
    write_dicom(tmp_path / "images" / "a.dcm", frame.astype(np.uint16) * 257)
    write_image(tmp_path / "masks" / "a.png", mask)
    assert np.array_equal(read_case(open_dataset(tmp_path).cases[0]).frame >> 8, frame)


@pytest.mark.parametrize("damage", ["truncated", "spacing", "text"])
def test_dicom_headers_are_never_quoted(make: Make, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    root = make("dicom")
    path = root / "images" / "d1.dcm"
    whole = path.read_bytes()
    changed = {
        "truncated": whole[:-3000],
        "spacing": whole.replace(b"0.2\\0.2", b"Secret "),
        "text": b"Secret^Name",
    }
    path.write_bytes(changed[damage])
    survey = survey_dataset(root)
    read = [or_defect(read_case, case) for case in survey.dataset.cases]
    said = [result.message for result in (*survey.defects, *read) if isinstance(result, DefectError)]
    assert len(said) == 1
    assert "unreadable file" in said[0]
    assert "Secret" not in said[0] + caplog.text


@pytest.mark.parametrize("name", NEEDED)
def test_missing_extra_is_named(make: Make, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(name)
    monkeypatch.setitem(sys.modules, NEEDED[name], None)
    with pytest.raises(MissingExtraError, match=NEEDED[name]):
        open_dataset(root)


def test_several_layouts_at_once_are_refused(make: Make) -> None:
    root = make("labelmap")
    MAKERS["nerve"](root)
    with pytest.raises(DataError, match="got 2 that fit") as caught:
        open_dataset(root)
    assert "labelmap" in caught.value.hint
    assert "nerve" in caught.value.hint
    assert "busi" not in caught.value.hint
    assert open_dataset(root, "nerve").layout == "nerve"
    with pytest.raises(UnknownNameError, match="layout"):
        open_dataset(root, "nervs")


def test_group_pattern(make: Make) -> None:
    root = make("hc18")
    assert groups(open_dataset(root, group_pattern=r"^(\d)\d\d_")) == ["0", "0", "0", "0"]
    with pytest.raises(DataError, match=r"group.*000_HC"):
        open_dataset(root, group_pattern=r"_(\d)HC")
    with pytest.raises(DataError, match="parentheses"):
        open_dataset(root, group_pattern="HC")
    with pytest.raises(DataError, match="regular expression"):
        open_dataset(root, group_pattern="(")


def test_every_layout_is_tested() -> None:
    assert [layout.name for layout in LAYOUTS] == list(MAKERS)
