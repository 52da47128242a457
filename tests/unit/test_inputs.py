"""What a source holds: names, kinds, what is left out, and sources that lead in circles."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.errors import DataError, SourceError
from edgeseg.frame.images import write_image
from edgeseg.prediction.inputs import Item, count_kinds, list_inputs, open_frames
from tests.commands import assert_says
from tests.discs import make_disc_data


def write_pictures(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / name, np.zeros((6, 8), np.uint8))
    return root


def list_names(*sources: Path | str) -> list[str]:
    return [item.name for item in list_inputs([str(source) for source in sources])]


def test_a_folder_is_listed_with_its_subfolders_by_name(tmp_path: Path) -> None:
    write_pictures(tmp_path, "b.png", "a/z.png", "a/b/c.PNG", ".hidden/x.png", "a/.x.png")
    (tmp_path / "a/notes.txt").write_text("", encoding="utf-8")
    (tmp_path / "clip.mp4").write_bytes(b"")
    (tmp_path / "IM_0001").write_bytes(128 * b"\0" + b"DICM" + b"more")
    (tmp_path / "DICOMDIR").write_bytes(128 * b"\0" + b"DICM" + b"more")
    assert list_names(tmp_path) == ["IM_0001", "a/b/c.PNG", "a/z.png", "b.png", "clip.mp4"]
    assert count_kinds(list_inputs([tmp_path])) == {"image": 3, "video": 1, "dicom": 1}


def test_several_sources_share_one_root_and_no_file_comes_twice(tmp_path: Path) -> None:
    write_pictures(tmp_path, "a/x.png", "b/x.png")
    assert list_names(tmp_path / "a", tmp_path / "b") == ["a/x.png", "b/x.png"]
    assert list_names(tmp_path / "b", tmp_path / "b/x.png", f"{tmp_path}/b/*.png") == ["x.png"]


def test_a_pattern_matches_files_and_folders_but_nothing_hidden(tmp_path: Path) -> None:
    write_pictures(tmp_path, "exam1/x.png", "exam2/y.png", "exam2/.z.png", "other/w.png", "a[1].png")
    assert list_names(f"{tmp_path}/exam*") == ["exam1/x.png", "exam2/y.png"]
    assert list_names(f"{tmp_path}/**/*.png") == ["a[1].png", "exam1/x.png", "exam2/y.png", "other/w.png"]
    # a file of exactly this name goes before the pattern
    assert list_names(tmp_path / "a[1].png") == ["a[1].png"]
    with pytest.raises(SourceError) as refused:
        list_inputs([f"{tmp_path}/*.bmp"])
    assert_says(refused.value, "*.bmp", "got none")


def test_masks_of_labelled_data_are_no_frames(tmp_path: Path) -> None:
    make_disc_data(tmp_path, 2)
    write_pictures(tmp_path, "exam/masks_vessel/x.png", "exam/x.png")
    assert list_names(tmp_path) == ["exam/x.png", "images/case_00.png", "images/case_01.png"]


def test_instances_beside_masks_are_no_frames(tmp_path: Path) -> None:
    write_pictures(tmp_path, "clip/images/0.png", "clip/masks/0.png", "clip/instances/0.png", "instances/x.png")
    assert list_names(tmp_path) == ["clip/images/0.png", "instances/x.png"]


def test_links_are_followed_once_and_never_in_a_circle(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "root", "a/x.png")
    write_pictures(tmp_path / "elsewhere", "y.png")
    (root / "a/up").symlink_to(root)
    (root / "again").symlink_to(root / "a")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "elsewhere")
    (root / "self").symlink_to(root / "self")
    (root / "x.png").symlink_to(root / "a/x.png")
    assert list_names(root) == ["a/x.png", "linked/y.png", "x.png"]
    assert list_names(f"{root}/**/*.png")[:2] == ["a/x.png", "x.png"]


def test_a_subfolder_can_be_passed_by(tmp_path: Path) -> None:
    write_pictures(tmp_path, "x.png", "out/x.png")
    assert [item.name for item in list_inputs([tmp_path], lambda folder: folder.name != "out")] == ["x.png"]


@pytest.mark.parametrize("name", ["missing", "missing/x.png", "*.png", "notes.txt", "empty", "nul\0", "x" * 300])
def test_a_source_without_frames_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    with pytest.raises((SourceError, DataError)) as refused:
        list_inputs([f"{tmp_path}/{name}"])
    assert "got" in refused.value.message


def test_a_folder_of_masks_alone_is_asked_for_its_images(tmp_path: Path) -> None:
    write_pictures(tmp_path, "images/x.png", "masks/x.png")
    with pytest.raises(DataError) as refused:
        list_inputs([tmp_path / "masks"])
    assert "folder of the images" in refused.value.hint


def test_a_fifo_is_listed_and_refused_when_it_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (item,) = list_inputs([tmp_path])
    with open_frames(item, colour=False) as reader, pytest.raises(Exception, match="a FIFO"):
        list(reader)


@pytest.mark.parametrize(
    ("name", "stem"), [("a/x.png", "a/x"), ("1.2.840.5", "1.2.840.5"), ("x.tar.JPG", "x.tar"), ("clip.mp4", "clip")]
)
def test_only_a_known_ending_is_no_part_of_the_stem(name: str, stem: str) -> None:
    assert Item(Path(name), name, "image").stem == stem
