"""Data folders: what fits is read, what does not is refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError
from edgeseg.data.dataset import fingerprint_dataset, open_dataset, read_case
from edgeseg.data.layouts import LAYOUTS
from edgeseg.data.layouts.base import Layout
from edgeseg.data.split import split_cases
from edgeseg.frame.images import write_image

SPLIT = SplitSpec(seed=0, validation=0.2, test=0.2)


def test_pairs_are_found_and_read(disc_data: Path) -> None:
    dataset = open_dataset(disc_data)
    first = read_case(dataset.cases[0])
    assert len(dataset.cases) == 10
    assert [spec.name for spec in dataset.classes] == ["target"]
    assert first.frame.shape == first.labels.shape == (72, 96)
    assert set(np.unique(first.labels)) == {0, 1}
    assert not read_case(dataset.cases[4]).labels.any()


def test_further_mask_folders_are_further_classes(disc_data: Path) -> None:
    for path in (disc_data / "masks").iterdir():
        write_image(disc_data / "masks_vessel" / path.name, np.full((72, 96), 255, np.uint8))
    dataset = open_dataset(disc_data)
    assert [spec.name for spec in dataset.classes] == ["target", "vessel"]
    assert set(np.unique(read_case(dataset.cases[0]).labels)) == {2}


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none"):
        open_dataset(tmp_path / "none")


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labelled images") as caught:
        open_dataset(tmp_path)
    assert all(layout.name in caught.value.hint for layout in LAYOUTS)
    with pytest.raises(DataError, match="images/"):
        open_dataset(tmp_path, "plain")
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="empty"):
        open_dataset(tmp_path, "plain")


def test_image_without_mask(disc_data: Path) -> None:
    (disc_data / "masks" / "case_03.png").unlink()
    with pytest.raises(DataError, match="image case_03"):
        open_dataset(disc_data)


def test_mask_without_image(disc_data: Path) -> None:
    (disc_data / "images" / "case_03.png").unlink()
    with pytest.raises(DataError, match="mask case_03"):
        open_dataset(disc_data)


def test_mask_of_another_size(disc_data: Path) -> None:
    write_image(disc_data / "masks" / "case_03.png", np.zeros((50, 60), np.uint8))
    with pytest.raises(DataError, match="size 96x72, got 60x50"):
        read_case(open_dataset(disc_data).cases[3])


def test_truncated_image(disc_data: Path) -> None:
    path = disc_data / "images" / "case_03.png"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="truncated"):
        read_case(open_dataset(disc_data).cases[3])


def test_unreadable_image(disc_data: Path) -> None:
    (disc_data / "images" / "case_03.png").write_bytes(b"no image IEND\xaeB`\x82")
    with pytest.raises(DataError, match="unreadable"):
        read_case(open_dataset(disc_data).cases[3])


def test_groups_file_without_its_columns(disc_data: Path) -> None:
    (disc_data / "groups.csv").write_text("name,patient\ncase_00,a\n", encoding="utf-8")
    with pytest.raises(DataError, match="stem and group"):
        open_dataset(disc_data)


def test_fingerprint_notices_a_changed_mask(disc_data: Path) -> None:
    before = fingerprint_dataset(open_dataset(disc_data))
    assert before == fingerprint_dataset(open_dataset(disc_data))
    write_image(disc_data / "masks" / "case_03.png", np.zeros((72, 96), np.uint8))
    assert fingerprint_dataset(open_dataset(disc_data)) != before


def make_groups(root: Path, per_group: int) -> None:
    rows = [f"case_{number:02d},patient{number // per_group}" for number in range(10)]
    (root / "groups.csv").write_text("stem,group\n" + "\n".join(rows) + "\n", encoding="utf-8")


def test_fingerprint_of_a_link_that_leads_nowhere(disc_data: Path) -> None:
    dataset = open_dataset(disc_data)
    dataset.cases[0].image.unlink()
    dataset.cases[0].image.symlink_to(disc_data / "none.png")
    with pytest.raises(DataError, match=r"readable.*case_00"):
        fingerprint_dataset(dataset)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_folder_of_another_layout_than_the_named_one(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path, layout.name)
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint


def test_groups_file_in_another_encoding(disc_data: Path) -> None:
    (disc_data / "groups.csv").write_bytes("stem,group\ncase_00,Müller\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"Expected UTF-8 in .*groups\.csv") as caught:
        open_dataset(disc_data)
    assert "UTF-8" in caught.value.hint


def test_groups_are_never_parted(disc_data: Path) -> None:
    make_groups(disc_data, 2)
    dataset = open_dataset(disc_data)
    split = split_cases(dataset.cases, {case.stem: False for case in dataset.cases}, SPLIT)
    parts = [{case.group for case in split.part(name)} for name in ("train", "val", "test")]
    assert all(parts)
    assert sum(len(part) for part in parts) == len(set.union(*parts)) == 5
    assert len(split.part("all")) == 10


def test_split_is_the_same_for_a_seed_and_another_for_another(disc_data: Path) -> None:
    dataset = open_dataset(disc_data)
    empty = {case.stem: False for case in dataset.cases}
    again = [split_cases(dataset.cases, empty, SplitSpec(seed, 0.2, 0.2)).test for seed in (0, 0, 1, 2, 3)]
    assert again[0] == again[1]
    assert len({tuple(case.stem for case in part) for part in again}) > 1


def test_empty_cases_are_spread_over_the_parts() -> None:
    from edgeseg.data.dataset import Case

    cases = [Case(f"c{n:03d}", Path("x"), (), f"g{n}") for n in range(200)]
    empty = {case.stem: number < 60 for number, case in enumerate(cases)}
    split = split_cases(cases, empty, SPLIT)
    for part in ("train", "val", "test"):
        members = split.part(part)
        assert sum(empty[case.stem] for case in members) / len(members) == pytest.approx(0.3, abs=0.03)


def test_too_few_groups(disc_data: Path) -> None:
    make_groups(disc_data, 5)
    dataset = open_dataset(disc_data)
    with pytest.raises(DataError, match="at least 3 groups"):
        split_cases(dataset.cases, {case.stem: False for case in dataset.cases}, SPLIT)
