"""Images that are kept on disk: the same arrays and facts as in memory, private, resumed, and never trusted unseen."""

from __future__ import annotations

import json
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.cache import clear_cache, find_cache, list_cache, open_cache
from edgeseg.core.errors import DataError, OutputError, TrainingError
from edgeseg.core.spec import InputSpec
from edgeseg.data import store
from edgeseg.data.dataset import LabelledImage, open_dataset, read_case
from edgeseg.data.reading import Case
from edgeseg.data.store import StoreKey, describe_key, provide_store
from edgeseg.data.stored import StoredRows, StoredSet, open_stored
from edgeseg.frame.images import write_image
from edgeseg.frame.preprocess import frame_to_grid, mask_to_grid

SPEC = InputSpec(16, 24)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGESEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_stored(root: Path, place: Path, spec: InputSpec = SPEC, deep: bool = False) -> StoredSet:
    dataset = open_dataset(root)
    key = describe_key(dataset, "print", "", spec).on_grid(spec, deep)
    return StoredSet(provide_store(open_cache(place, root), key, dataset.cases), key, dataset.cases)


def test_rows_are_what_memory_would_hold(disc_data: Path, place: Path) -> None:
    stored = make_stored(disc_data, place)
    numbers = np.array([7, 2, 2], np.int64)
    images = [read_case(stored.cases[number]) for number in numbers]
    pixels, masks = stored.open_pixels(numbers), stored.open_masks(numbers)
    assert pixels.shape == (3, 16, 24, 1)
    assert np.array_equal(pixels[:], [frame_to_grid(image.frame, SPEC) for image in images])
    assert np.array_equal(masks[:][..., 0], [mask_to_grid(image.masks[0], SPEC) for image in images])
    assert np.array_equal(masks[1], masks[np.array([2, 0])][0])
    assert masks[1:1].shape == (0, 16, 24, 1)
    pixels[0][:] = 0  # of its own


def test_what_is_known_of_an_image_needs_no_decoding(
    disc_data: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = make_stored(disc_data, place)
    originals = [read_case(case) for case in stored.cases]
    monkeypatch.setattr("edgeseg.data.stored.read_case", lambda *_: pytest.fail("decoded"))
    for image in originals:
        known: LabelledImage = stored[image.case.stem]
        for name in ("size", "deep", "brightest", "marked", "shares", "border_shares", "case", "weak"):
            assert getattr(known, name) == getattr(image, name), name


def test_originals_stay_reachable(disc_data: Path, place: Path) -> None:
    stored = make_stored(disc_data, place)
    known, image = stored[stored.cases[3].stem], read_case(stored.cases[3])
    assert np.array_equal(known.frame, image.frame)
    assert np.array_equal(known.masks[0], image.masks[0])


def test_only_the_user_may_read_it(disc_data: Path, place: Path) -> None:
    make_stored(disc_data, place)
    (entry,) = list_cache(place)
    assert stat.S_IMODE((place / "grids").stat().st_mode) == stat.S_IMODE(entry.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in entry.path.glob("*.bin")} == {0o600}


def test_the_second_training_reads_no_image(disc_data: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_stored(disc_data, place)
    monkeypatch.setattr(store, "read_case", lambda *_: pytest.fail("decoded"))
    make_stored(disc_data, place)
    # the filter comes after the augmentation, and white changes nothing of 8 bits
    make_stored(disc_data, place, InputSpec(16, 24, denoise="median", white=4095))
    assert len(list_cache(place)) == 1


def test_another_grid_is_another_set(disc_data: Path, place: Path) -> None:
    make_stored(disc_data, place)
    make_stored(disc_data, place, InputSpec(16, 16))
    assert len(list_cache(place)) == 2


def test_white_counts_for_16_bits(disc_data: Path, place: Path) -> None:
    for white in (4095, 65535):
        make_stored(disc_data, place, InputSpec(16, 24, white=white), deep=True)
    assert len(list_cache(place)) == 2


def test_decoding_goes_on_where_it_was_interrupted(
    disc_data: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHUNK", 4)
    monkeypatch.setattr("edgeseg.core.parallel.count_threads", lambda: 1)
    whole = make_stored(disc_data, place).open_pixels(np.arange(10))[:]
    clear_cache(place)
    read: list[str] = []

    def stop(case: Case, spec: InputSpec) -> LabelledImage:
        if len(read) == 6:
            raise KeyboardInterrupt
        read.append("")
        return read_case(case, spec)

    monkeypatch.setattr(store, "read_case", stop)
    with pytest.raises(KeyboardInterrupt):
        make_stored(disc_data, place)
    assert not list_cache(place)[0].whole

    def count(case: Case, spec: InputSpec) -> LabelledImage:
        read.append("")
        return read_case(case, spec)

    monkeypatch.setattr(store, "read_case", count)
    assert np.array_equal(make_stored(disc_data, place).open_pixels(np.arange(10))[:], whole)
    # the first chunk of four stayed, and the six that were not finished were decoded again
    assert len(read) == 6 + 6


@pytest.mark.parametrize("name", ["facts.bin", "index.json", "pixels.bin", ".edgeseg"])
def test_a_damaged_set_is_made_again(disc_data: Path, place: Path, name: str) -> None:
    whole = make_stored(disc_data, place).open_pixels(np.arange(10))[:]
    path = list_cache(place)[0].path / name
    path.write_bytes(path.read_bytes()[:-3])
    if name == ".edgeseg":
        with pytest.raises(OutputError):
            make_stored(disc_data, place)
        return
    assert np.array_equal(make_stored(disc_data, place).open_pixels(np.arange(10))[:], whole)


@pytest.mark.parametrize("name", ["pixels", "masks", "thumbnails"])
def test_a_changed_row_is_noticed_and_the_set_made_again(disc_data: Path, place: Path, name: str) -> None:
    def open_rows(stored: StoredSet) -> StoredRows:
        return stored.thumbnails if name == "thumbnails" else getattr(stored, f"open_{name}")(np.arange(10))

    rows = open_rows(make_stored(disc_data, place))
    path, whole = list_cache(place)[0].path / f"{name}.bin", rows[:]
    data = bytearray(path.read_bytes())
    data[rows.size * 3] ^= 1
    path.write_bytes(data)
    rows[2]
    with pytest.raises(DataError, match="as they were written"):
        rows[3]
    assert np.array_equal(open_rows(make_stored(disc_data, place))[:], whole)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"made_by": "edgeseg", "whole": true, "files": [["a"], {}]}'])
def test_tables_of_a_set_that_hold_anything(disc_data: Path, place: Path, text: str) -> None:
    make_stored(disc_data, place)
    folder = list_cache(place)[0].path
    (folder / "index.json").write_text(text, encoding="utf-8")
    assert len(make_stored(disc_data, place)) == 10
    (folder / ".edgeseg").write_text(text, encoding="utf-8")
    with pytest.raises(OutputError) as caught:
        clear_cache(place)
    assert "by hand" in caught.value.hint


def test_a_cache_that_is_cleared_between_two_steps(
    disc_data: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = make_stored(disc_data, place)
    found = iter([place / "gone"])
    monkeypatch.setattr("edgeseg.data.stored.provide_store", lambda *given: next(found, None) or provide_store(*given))
    assert len(open_stored(stored.grids, stored.key, stored.cases)) == 10


def test_a_file_that_was_cut_off_is_an_error(disc_data: Path, place: Path) -> None:
    stored = make_stored(disc_data, place)
    os.truncate(list_cache(place)[0].path / "masks.bin", 5)
    with pytest.raises(DataError, match="as they were written"):
        stored.open_masks(np.arange(10))[9]


def test_a_full_disk_is_told_before_anything_is_decoded(
    disc_data: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = os.statvfs_result((4096, 4096, 9, 1, 1, 9, 9, 9, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: state)
    monkeypatch.setattr(store, "read_case", lambda *_: pytest.fail("decoded"))
    with pytest.raises(OutputError, match="free disk for 10 images"):
        make_stored(disc_data, place)


def test_a_disk_that_fills_up_is_an_error_with_a_way_on(
    disc_data: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_write_at", fill)
    with pytest.raises(OutputError, match="No space left") as caught:
        make_stored(disc_data, place)
    assert "EDGESEG_CACHE" in caught.value.hint


def test_two_at_once_write_one_set(disc_data: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_WAITING_SECONDS", 0.01)
    open_cache(place, disc_data)
    found: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: found.append(make_stored(disc_data, place).open_pixels(np.arange(10))[:]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(one, found[0]) for one in found)
    assert [entry.whole for entry in list_cache(place)] == [True]


def test_images_in_grey_and_colour_are_told_apart(disc_data: Path) -> None:
    key = describe_key(open_dataset(disc_data), "print", "", SPEC)
    image = read_case(open_dataset(disc_data).cases[0], colour=True)
    with pytest.raises(DataError, match="one kind"):
        store.make_row(key, 0, image)


def test_the_key_follows_from_all_that_changes_the_arrays() -> None:
    key = StoreKey("a", "plain", "s", ("x",), SPEC)
    others = [
        StoreKey("b", "plain", "s", ("x",), SPEC),
        StoreKey("a", "coco", "s", ("x",), SPEC),
        StoreKey("a", "plain", "t", ("x",), SPEC),
        StoreKey("a", "plain", "s", ("y",), SPEC),
        StoreKey("a", "plain", "s", ("x",), InputSpec(16, 24, resize="stretch")),
        StoreKey("a", "plain", "s", ("x",), SPEC, grids=False),
    ]
    assert len({one.name for one in (key, *others)}) == 7


def test_a_cleared_set_stays_readable_for_who_uses_it(disc_data: Path, place: Path) -> None:
    stored = make_stored(disc_data, place)
    pixels = stored.open_pixels(np.arange(10))
    assert clear_cache(place) == (1, 0)
    assert list_cache(place) == []
    assert pixels[:].any()
    # the test cases are asked for when the training has ended
    assert stored.open_masks(np.arange(10))[:].any()


@pytest.mark.parametrize("linked", [True, False])
def test_nothing_is_written_into_folders_of_others(disc_data: Path, place: Path, tmp_path: Path, linked: bool) -> None:
    stored = make_stored(disc_data, place)
    key = replace(stored.key, layout="another")
    partial, others = stored.grids / f"{key.name}.partial", tmp_path / "others"
    folder = others if linked else partial
    folder.mkdir()
    (folder / "mine.txt").touch()
    if linked:
        partial.symlink_to(others)
    with pytest.raises(OutputError):
        provide_store(stored.grids, key, stored.cases)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_files_of_others_are_not_removed(disc_data: Path, place: Path) -> None:
    make_stored(disc_data, place)
    mine = list_cache(place)[0].path / "mine.txt"
    mine.write_text("x", encoding="utf-8")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        clear_cache(place)
    assert mine.exists()


@pytest.mark.parametrize("kind", ["inside", "foreign", "writable", "file", "link"])
def test_caches_that_others_may_have_filled_are_refused(disc_data: Path, tmp_path: Path, kind: str) -> None:
    place = disc_data / "cache" if kind == "inside" else tmp_path / "cache"
    grids = place / "grids"
    if kind == "foreign":
        grids.mkdir(parents=True)
        (grids / "thesis.txt").write_text("x", encoding="utf-8")
    elif kind == "writable":
        open_cache(place, disc_data).chmod(0o777)
    elif kind == "file":
        place.write_text("x", encoding="utf-8")
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        place.mkdir()
        grids.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError) as caught:
        open_cache(place, disc_data)
    assert kind == "writable" or "EDGESEG_CACHE" in caught.value.hint


def test_another_users_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_cache(tmp_path / "cache", tmp_path / "data")
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(OutputError, match="another user's"):
        open_cache(tmp_path / "cache", tmp_path / "data")


def test_the_folder_is_where_the_variables_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGESEG_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert find_cache() == tmp_path / "edgeseg"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert find_cache() == Path.home() / ".cache" / "edgeseg"
    monkeypatch.setenv("EDGESEG_CACHE", str(tmp_path / "mine"))
    assert find_cache() == tmp_path / "mine"
    monkeypatch.setenv("EDGESEG_CACHE", "OFF")
    assert find_cache() is None
    monkeypatch.setenv("EDGESEG_CACHE", "~nobody-has-this-name/cache")
    with pytest.raises(OutputError, match="nobody-has-this-name"):
        find_cache()


def test_the_command_lists_and_clears(disc_data: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from edgeseg.cli.data import show_cache

    make_stored(disc_data, place)
    out = disc_data.parent / "c.json"
    show_cache(json_out=out)
    table = json.loads(out.read_text(encoding="utf-8"))
    assert (table["folder"], [one["whole"] for one in table["sets"]]) == (str(place), [True])
    show_cache(clear=True)
    show_cache()
    assert "0 sets, 0 MB" in capsys.readouterr().out


def test_a_cache_of_any_name_is_shown_on_one_line(
    disc_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgeseg.cli.data import show_cache

    name = os.fsdecode(b"a\nb\xff")
    monkeypatch.setenv("EDGESEG_CACHE", str(tmp_path / name))
    make_stored(disc_data, tmp_path / name)
    for clear in (False, True):
        show_cache(clear=clear)
        assert r"a\nb\udcff: 1 set" in capsys.readouterr().out


def test_small_sets_are_never_written(disc_data: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeseg.training.originals import OriginalsPlan, read_images

    plan = OriginalsPlan(open_dataset(disc_data), SPEC)
    assert isinstance(read_images(plan), dict)
    assert not place.exists()
    monkeypatch.setenv("EDGESEG_IMAGE_MB", "0")
    assert isinstance(read_images(plan), StoredSet)
    monkeypatch.setenv("EDGESEG_CACHE", "off")
    assert isinstance(read_images(plan), dict)
    with pytest.raises(TrainingError, match="the cache is off"):
        read_images(plan, free=0.0)
    monkeypatch.setenv("EDGESEG_IMAGE_MB", "2 GB")
    with pytest.raises(TrainingError, match="EDGESEG_IMAGE_MB"):
        read_images(plan)


@pytest.mark.usefixtures("place")
def test_one_small_image_does_not_stand_for_all(disc_data: Path) -> None:
    from edgeseg.training.originals import SAMPLES, OriginalsPlan, read_images

    # every image that is looked at beforehand is small, the others are not
    for path in sorted((disc_data / "images").iterdir())[:: 10 // SAMPLES]:
        write_image(path, np.zeros((8, 8), np.uint8))
        write_image(disc_data / "masks" / path.name, np.zeros((8, 8), np.uint8))
    plan = OriginalsPlan(open_dataset(disc_data), SPEC)
    assert isinstance(read_images(plan, most=0.01), StoredSet)
    assert isinstance(read_images(plan, most=1.0), dict)


@pytest.mark.usefixtures("place")
def test_16_bits_wait_for_their_white(disc_data: Path) -> None:
    from edgeseg.training.grids import to_grid
    from edgeseg.training.originals import OriginalsPlan, read_images

    for path in (disc_data / "images").iterdir():
        write_image(path, np.full((72, 96), 1000, np.uint16))
    dataset = open_dataset(disc_data)
    stored = read_images(OriginalsPlan(dataset, SPEC), most=0.0)
    assert isinstance(stored, StoredSet)
    assert not stored.key.grids
    for white in (1000, 4000):
        grid = to_grid([stored[case.stem] for case in dataset.cases], InputSpec(16, 24, white=white))
        assert grid.pixels[:].max() == round(255 * 1000 / white)
