"""Folders that would hang, fill the memory or crash: each is refused at once, with a sentence that names the file."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer

from edgeseg.cli.common import keep_apart, keep_inputs
from edgeseg.core.errors import DataError
from edgeseg.data.check import check_survey
from edgeseg.data.dataset import fingerprint_dataset, open_dataset, read_case, survey_dataset
from edgeseg.data.defects import DefectError
from edgeseg.frame.images import read_image, write_image
from tests.damages import make_varied_data
from tests.discs import draw_case
from tests.layouts import MAKERS, NEEDED, make_camus

Make = Callable[[str], Path]
STEM = "case_01"
VIEW = Path("patient0001") / "patient0001_2CH_ED.nii.gz"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_varied_data(tmp_path / "data")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def write(name: str) -> Path:
        if name in NEEDED:
            pytest.importorskip(NEEDED[name])
        MAKERS[name](tmp_path / name)
        return tmp_path / name

    return write


def find_defects(root: Path) -> list[DefectError]:
    return list(check_survey(survey_dataset(root)).defects)


def bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)
        server.bind(path.name)  # a socket's path may have a hundred characters
        os.chdir(here)


ODD_FILES: dict[str, Callable[[Path], None]] = {
    "fifo": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "socket": bind_socket,
    "loop": lambda path: path.symlink_to(path.name),
}
READ_FILES = {
    "plain": ("images/p1.png", "masks/p1.png"),
    "labelmap": ("images/m1.png", "labels/m1.png"),
    "camus": (str(VIEW), str(VIEW).replace("ED", "ED_gt")),
    "arrays": ("val_images.npy", "val_masks.npy"),
    "dicom": ("images/d1.dcm", "masks/d1.png"),
}


@pytest.mark.parametrize("kind", ODD_FILES)
@pytest.mark.parametrize("layout", READ_FILES)
def test_what_is_no_regular_file_is_named_and_not_waited_for(make: Make, layout: str, kind: str) -> None:
    for name in READ_FILES[layout]:
        root = make(layout)
        (root / name).unlink()
        ODD_FILES[kind](root / name)
        with pytest.raises(DataError, match=name):
            raise find_defects(root)[0]
        shutil.rmtree(root)


def test_a_fingerprint_waits_for_nothing(root: Path) -> None:
    dataset = open_dataset(root)
    dataset.cases[0].image.unlink()
    os.mkfifo(dataset.cases[0].image)
    with pytest.raises(DataError, match="FIFO"):
        fingerprint_dataset(dataset)


def test_a_folder_that_links_to_itself_and_to_its_parent(root: Path) -> None:
    (root / "images" / "up").symlink_to(root)
    (root / "masks_loop").symlink_to("masks_loop")
    (root / "images").rename(root / "frames")
    (root / "images").symlink_to("frames")
    assert find_defects(root) == []
    (root / "loop").symlink_to("loop")
    keep_inputs([root / "loop"], [root / "out"])
    with pytest.raises(DataError, match="data folder"):
        open_dataset(root / "loop")


def test_a_copy_of_a_data_folder_lies_outside_of_it(root: Path) -> None:
    keep_apart(root, root.parent / "copy")
    with pytest.raises(typer.BadParameter, match="outside"):
        keep_apart(root, root / "sub" / "copy")


@pytest.mark.parametrize("name", ["-rf.png", "a b .png", "a..png", "\N{GRINNING FACE}\u200d.png", "\u202fx.png"])
def test_odd_names_are_taken(root: Path, name: str) -> None:
    rename(root, name)
    assert find_defects(root) == []


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"a\nb.png", b"\x1b[31m.png"])
def test_names_that_cannot_be_written_are_refused_and_shown_without_harm(root: Path, name: bytes) -> None:
    rename(root, os.fsdecode(name))
    (defect,) = find_defects(root)
    assert defect.kind == "file-name"
    assert defect.message.isascii()
    assert defect.message.isprintable()
    with pytest.raises(DefectError, match="UTF-8"):
        open_dataset(root)


def rename(root: Path, name: str) -> None:
    for kind in ("images", "masks"):
        (root / kind / f"{STEM}.png").rename(root / kind / name)


def test_a_folder_whose_name_is_not_utf_8_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = root.rename(root.with_name(os.fsdecode(b"caf\xe9")))
    monkeypatch.chdir(odd)
    for path in (odd, Path()):
        with pytest.raises(DataError, match="UTF-8"):
            open_dataset(path)


@pytest.mark.parametrize("names", [("masks_a", "masks_A"), ("masks", "masks_target"), ("masks", "masks_")])
def test_two_folders_for_one_class_are_refused(root: Path, names: tuple[str, str]) -> None:
    (root / "masks").rename(root / names[0])
    shutil.copytree(root / names[0], root / names[1])
    with pytest.raises(DataError, match=names[1]):
        open_dataset(root)


def test_classes_are_in_the_order_of_their_names(root: Path) -> None:
    for name in ("masks_nerve", "masks_bloodvessel"):
        shutil.copytree(root / "masks", root / name)
    shutil.rmtree(root / "masks")
    assert [spec.name for spec in open_dataset(root).classes] == ["bloodvessel", "nerve"]


@pytest.mark.parametrize("layout", ["busi", "hc18", "nerve", "camus"])
def test_two_files_of_one_name_are_a_defect_in_every_layout(make: Make, layout: str) -> None:
    root = make(layout)
    image = open_dataset(root).cases[0].image
    twin = image.with_name(image.name.removesuffix(".gz") if layout == "camus" else f"{image.stem}.bmp")
    twin.write_bytes(image.read_bytes())
    assert survey_dataset(root, layout).defects[0].kind == "repeated-name"


def test_what_macs_and_windows_leave_is_passed_over(root: Path) -> None:
    for kind in ("images", "masks"):
        for name in (f"._{STEM}.png", ".DS_Store", "Thumbs.db"):
            (root / kind / name).write_bytes(b"\0\5\x16\7")
    for kind in ("images", "masks"):
        (root / kind / f"{STEM}.png").rename(root / kind / f"{STEM}.PNG")
    assert find_defects(root) == []


def test_a_mask_that_is_drawn_in_its_transparency_is_refused(root: Path) -> None:
    path = root / "masks" / f"{STEM}.png"
    mask = read_image(path)
    write_image(path, cv2.merge([mask, mask, mask, np.full_like(mask, 255)]))
    assert find_defects(root) == []
    write_image(path, cv2.merge([np.zeros_like(mask)] * 3 + [mask]))
    (defect,) = find_defects(root)
    assert (defect.kind, "transparency" in defect.message) == ("mask-values", True)


@pytest.mark.parametrize("values", [np.arange(72 * 96) % 301, np.full(72 * 96, 65535)])
def test_a_label_map_of_more_classes_than_a_mask_can_hold(make: Make, values: np.ndarray) -> None:
    root = make("labelmap")
    write_image(root / "labels" / "m0.png", values.astype(np.uint16).reshape(72, 96))
    assert find_defects(root)[0].kind == "label-values"


def announce_array(shape: str, descr: str = "'|u1'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


ARRAYS = {
    "nothing, often": announce_array("(200000000, 0, 0)"),
    "many images": announce_array("(200000000, 100, 100)"),
    "large images": announce_array("(4, 30000, 30000)"),
    "below nothing": announce_array("(-1, 72, 96)"),
    "more than the file holds": announce_array("(4, 72, 96)"),
    "many channels": announce_array("(4, 72, 96, 4000)"),
    "objects": announce_array("(4, 72, 96)", "'|O'"),
    "structures": announce_array("(4, 72, 96)", "[('a', '|u1')]"),
    "complex": announce_array("(4, 72, 96)", "'<c8'"),
    "brackets": b"\x93NUMPY\x01\x00" + struct.pack("<H", 3000) + b"(" * 3000,
    "a long header": b"\x93NUMPY\x02\x00" + b"\xff" * 40,
    "an archive": b"PK\3\4" + bytes(200),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_is_held_against_its_header_before_it_is_mapped(
    make: Make, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make("arrays")
    (root / "train_images.npy").write_bytes(ARRAYS[name])
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(DataError, match=r"train_images\.npy"):
        open_dataset(root)


def test_arrays_of_odd_order_and_types(make: Make) -> None:
    root = make("arrays")
    frames, masks = (np.stack(many) for many in zip(*(draw_case(number) for number in range(4)), strict=True))
    np.save(root / "train_images.npy", np.asfortranarray(frames.astype(">u2") * 257))
    np.save(root / "train_masks.npy", masks.astype(np.uint32))
    image = read_case(open_dataset(root).cases[1])
    assert np.array_equal(image.frame, frames[1].astype(np.uint16) * 257)
    assert np.array_equal(image.masks[0] > 0, masks[1] > 0)
    for odd in (np.where(masks > 0, np.nan, 0), np.where(masks > 0, np.inf, 0), masks.astype(np.complex64)):
        np.save(root / "train_masks.npy", odd)
        with pytest.raises(DataError, match=r"train_masks\.npy"):
            read_case(open_dataset(root).cases[1])


def describe_nifti(*sides: int, kind: int = 2, offset: float = 352.0) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(sides), *sides, *[1] * (7 - len(sides)))
    struct.pack_into("<2h", header, 70, kind, 8)
    struct.pack_into("<3f", header, 76, 1.0, 0.3, 0.3)
    struct.pack_into("<f", header, 108, offset)
    header[344:348] = b"n+1\0"
    return bytes(header)


VOLUMES = {
    "large": describe_nifti(30_000, 30_000),
    "deep": describe_nifti(96, 72, 30_000),
    "longer than the file": describe_nifti(8000, 8000),
    "far behind": describe_nifti(96, 72, offset=2e9) + bytes(9999),
    "no number": describe_nifti(96, 72, offset=float("nan")) + bytes(9999),
    "complex": describe_nifti(96, 72, kind=32) + bytes(99_999),
    "below nothing": describe_nifti(-96, 72) + bytes(9999),
    "in another file": describe_nifti(96, 72).replace(b"n+1", b"ni1") + bytes(9999),
    "noise": b"\xff" * 999,
}


@pytest.mark.parametrize("name", VOLUMES)
def test_a_volume_is_held_against_its_header_before_it_is_read(
    make: Make, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make("camus")
    (root / VIEW).write_bytes(gzip.compress(VOLUMES[name]))
    opened: list[str] = []
    reader = pytest.importorskip("SimpleITK").ImageFileReader
    name_file = reader.SetFileName

    def note(self: object, path: str) -> None:
        opened.append(path)
        name_file(self, path)

    monkeypatch.setattr(reader, "SetFileName", note)
    survey = survey_dataset(root)
    assert [(defect.kind, VIEW.name in defect.message) for defect in survey.defects] == [("unreadable", True)]
    assert opened
    assert str(root / VIEW) not in opened


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("= patient0001_2CH_ED.raw", "= /etc/passwd"),
        ("= patient0001_2CH_ED.raw", "= ../secret.raw"),
        ("= patient0001_2CH_ED.raw", "= LIST\n/etc/passwd"),
        ("= patient0001_2CH_ED.raw", "= a%03d.raw 1 10 1"),
        ("= patient0001_2CH_ED.raw", "= LOCAL"),
        ("ElementDataFile =", "ElementDataFile :"),
        ("NDims = 2", "NDims = -1"),
        ("NDims = 2", "NDims = 3"),
        ("DimSize = 96 72", "DimSize = 30000 30000"),
        ("DimSize = 96 72", "DimSize = 8000 8000"),
        ("DimSize = 96 72", "DimSize = 96 x"),
        ("DimSize", "ElementNumberOfChannels = 100000\nDimSize"),
        ("MET_UCHAR", "MET_DOUBLE"),
        ("CompressedData = False", "CompressedData = True"),
    ],
)
def test_a_meta_image_names_a_whole_file_beside_it(tmp_path: Path, old: str, new: str) -> None:
    pytest.importorskip("SimpleITK")
    make_camus(tmp_path, ".mhd")
    path = (tmp_path / VIEW).with_name("patient0001_2CH_ED.mhd")
    text = path.read_text(encoding="ascii")
    assert old in text
    path.write_text(text.replace(old, new), encoding="ascii")
    (defect,) = survey_dataset(tmp_path).defects
    assert (defect.kind, path.stem in defect.message) == ("unreadable", True)


def test_a_packed_meta_image_is_read(tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    make_camus(tmp_path, ".mhd")
    path = (tmp_path / VIEW).with_name("patient0001_2CH_ED.mhd")
    itk.WriteImage(itk.GetImageFromArray(draw_case(0)[0]), str(path), True)
    assert "zraw" in path.read_text(encoding="ascii")
    assert np.array_equal(read_case(open_dataset(tmp_path).cases[0]).frame, draw_case(0)[0])
