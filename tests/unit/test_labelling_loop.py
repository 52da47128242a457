"""From unlabelled frames to a larger data set: files to correct, and labels that go back with their groups."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeseg.cli.app import app
from edgeseg.cli.data import name_way_back
from edgeseg.core.errors import DataError, EdgesegError, OutputError
from edgeseg.core.files import read_rows
from edgeseg.core.modelfile import read_model
from edgeseg.data import adding
from edgeseg.data.adding import add_dataset
from edgeseg.data.annotations.shapes import Shape, fill_polygons, trace_mask
from edgeseg.data.annotations.writers import WRITERS
from edgeseg.data.dataset import ADDING, ADDING_PLAN, open_dataset, read_case
from edgeseg.frame.images import read_image, write_image
from edgeseg.inference.segmenter import Segmenter
from edgeseg.prediction.inputs import Item, list_inputs
from edgeseg.prediction.labelling import check_classes, group_items, name_frames, simplify_shape
from edgeseg.prediction.selection import Candidate
from tests.commands import Fail, assert_says, full_disk, read_files
from tests.discs import draw_case, make_disc_data, write_case
from tests.tinymodels import write_bright_model
from tests.unit.test_selection import make_look

OLD, NEW = 4, 3


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_disc_data(tmp_path / "data", OLD)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    root = tmp_path / "new"
    for number in range(NEW):
        write_case(root, f"clip-{number}", *draw_case(50 + number))
    (root / "groups.csv").write_text("stem,group\n" + "".join(f"clip-{n},clip\n" for n in range(NEW)))
    return root


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    root = tmp_path / "frames"
    for number in range(6):
        write_image(root / f"patient_{number % 2}" / f"{number}.png", draw_case(100 + number)[0])
    return root


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_bright_model(tmp_path / "model.tflite")


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_frames_are_selected_with_masks_names_and_groups(frames: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("data", "select", frames, "--model", model, "--count", "4", "--out", out)
    rows = read_rows(out / "selected.csv")
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert {row["group"] for row in rows} == {"patient_0", "patient_1"}
    for row in rows:
        frame = read_image(out / row["name"])
        np.testing.assert_array_equal(frame, read_image(frames / row["source"]))
        table = json.loads((out / row["name"]).with_suffix(".json").read_text())
        assert [table["imageHeight"], table["imageWidth"]] == [72, 96]
        assert {shape["label"] for shape in table["shapes"]} <= {"bright0"}
    groups = {row["stem"]: row["group"] for row in read_rows(out / "groups.csv")}
    assert groups == {Path(row["name"]).stem: row["group"] for row in rows}


@pytest.mark.parametrize("form", sorted(WRITERS))
def test_every_tool_gives_the_masks_back(frames: Path, model: Path, data: Path, tmp_path: Path, form: str) -> None:
    (data / "masks").rename(data / "masks_bright0")
    out = tmp_path / "out"
    run("data", "select", frames, "--model", model, "--count", "4", "--out", out, "--format", form)
    run("data", "import", out, data, "--add")
    cases = [case for case in open_dataset(data).cases if case.group.startswith("patient")]
    assert {case.group for case in cases} == {"patient_0", "patient_1"}
    segmenter = Segmenter(read_model(model))
    for image in (read_case(case) for case in cases):
        drawn, mask = segmenter.segment(image.frame).labels > 0, image.masks[0] > 0
        assert 2 * np.count_nonzero(drawn & mask) > 0.9 * (drawn.sum() + mask.sum()) > 0


def test_labelled_images_are_not_selected_again(frames: Path, model: Path, data: Path, tmp_path: Path) -> None:
    (data / "masks").rename(data / "masks_bright0")
    # the same picture as a labelled one, and a new one with that one's name
    write_image(frames / "patient_9" / "again.png", draw_case(0)[0])
    write_image(frames / "case_00.png", draw_case(300)[0])
    out = tmp_path / "out"
    run("data", "select", frames, "--model", model, "--labelled", data, "--count", "20", "--out", out)
    rows = read_rows(out / "selected.csv")
    assert "patient_9/again.png" not in {row["source"] for row in rows}
    assert [row["name"] for row in rows if row["source"] == "case_00.png"] == ["case_00-2.png"]


def test_a_selection_is_never_overwritten(frames: Path, model: Path, tmp_path: Path, fail: Fail) -> None:
    out = tmp_path / "out"
    run("data", "select", frames, "--model", model, "--count", "2", "--out", out)
    before = read_files(out)
    code, said = fail("data", "select", frames, "--model", model, "--count", "3", "--out", out)
    assert code == 1
    assert_says(said, out)
    assert "--overwrite" not in said
    assert read_files(out) == before


def test_what_is_being_labelled_is_not_selected_again(frames: Path, model: Path, tmp_path: Path) -> None:
    run("data", "select", frames, "--model", model, "--count", "2", "--out", frames / "first")
    run("data", "select", frames, "--model", model, "--count", "99", "--out", tmp_path / "second")
    assert all(row["source"].startswith("patient") for row in read_rows(tmp_path / "second" / "selected.csv"))


def test_unreadable_and_blank_files_stop_nothing(frames: Path, model: Path, tmp_path: Path) -> None:
    (frames / "broken.png").write_bytes(b"\x89PNG broken")
    write_image(frames / "black.png", np.zeros((72, 96), np.uint8))
    out = tmp_path / "out"
    said = run("data", "select", frames, "--model", model, "--count", "99", "--out", out)
    assert_says(said, "1 frames of one brightness")
    assert {row["source"] for row in read_rows(out / "selected.csv")}.isdisjoint({"broken.png", "black.png"})


def test_useless_sources_are_refused_in_a_sentence(model: Path, tmp_path: Path, fail: Fail) -> None:
    folder, out = tmp_path / "some", tmp_path / "out"
    folder.mkdir()
    assert fail("data", "select", folder, "--model", model, "--out", out)[0] == 1
    (folder / "a.png").write_bytes(b"broken")
    assert_says(fail("data", "select", folder, "--model", model, "--out", out)[1], "got none", "a.png")
    (folder / "a.png").unlink()
    write_image(folder / "b.png", np.zeros((72, 96), np.uint8))
    assert_says(fail("data", "select", folder, "--model", model, "--out", out)[1], "one brightness")
    code, said = fail("data", "select", folder, "--model", model, "--out", out, "--format", "labelbox")
    assert code == 1
    assert_says(said, "labelme")
    assert fail("data", "select", folder, "--model", model, "--out", out, "--count", "0")[0] == 2
    assert fail("data", "select", folder, "--model", folder, "--out", out)[0] == 2
    assert not out.exists()


def test_other_classes_than_those_of_the_labelled_data_are_refused(data: Path, model: Path) -> None:
    with pytest.raises(DataError) as caught:
        check_classes(Segmenter(read_model(model)), open_dataset(data))
    assert_says(caught.value, "bright0", "target")


def make_item(name: str) -> Item:
    return Item(Path(name), name, "video" if name.endswith("mp4") else "image")


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (("a.png", "b.mp4"), ("a", "b")),
        (("p1/a.png", "p1/exam/b.mp4", "p2/a.png", "c.png"), ("p1", "p1", "p2", "c")),
        # a folder that holds everything is no patient
        (("images/p1/a.png", "images/p2/a.png"), ("p1", "p2")),
        (("images/a.png", "images/b.png"), ("a", "b")),
    ],
)
def test_a_group_is_a_folder_or_a_file(names: tuple[str, ...], groups: tuple[str, ...]) -> None:
    assert tuple(group_items([make_item(name) for name in names]).values()) == groups


def test_groups_come_from_the_table_or_a_pattern(frames: Path) -> None:
    (frames / "groups.csv").write_text("stem,group\n0,anna\n")
    items = list_inputs([frames])
    assert group_items(items, root=frames)["patient_0/0.png"] == "anna"
    assert group_items(items, root=frames)["patient_1/1.png"] == "patient_1"
    assert group_items(items, r"(\d)", frames)["patient_0/0.png"] == "0"
    with pytest.raises(DataError, match="in parentheses"):
        group_items(items, r"\d")


def test_names_of_frames_are_safe_and_never_alike() -> None:
    files = ("a/b_c.png", "a_b/c.png", "A_B/C.png", "x:y\n?.png", "..png", "clip.mp4", "=1.png")
    items = [make_item(name) for name in files]
    frames = [Candidate(item.name, 0, "g", 0.5, make_look()) for item in items]
    names = name_frames(frames, items, taken=["clip-000000"]).values()
    assert len({name.casefold() for name in names}) == len(items)
    assert all(set(name).isdisjoint("/:\n=") for name in names)
    assert "clip-000000-2.png" in names


def test_masks_to_correct_have_few_points() -> None:
    rows, columns = np.mgrid[:200, :200]
    disc = ((rows - 100) ** 2 + (columns - 90) ** 2 < 60**2).astype(np.uint8)
    disc[95:105, 85:95] = 0
    (shape,) = trace_mask(disc, "lesion")
    simple = simplify_shape(shape)
    assert simple is not None
    assert len(simple.polygons) == 1
    assert len(simple.polygons[0]) < 40 < len(shape.polygons[0])
    drawn = fill_polygons(simple.polygons, (200, 200)) > 0
    assert 2 * np.count_nonzero(drawn & (disc > 0)) / (drawn.sum() + disc.sum()) > 0.97
    assert simplify_shape(Shape("lesion", (np.array([[0, 0], [1, 0], [1, 1.0]]),))) is None


def test_corrected_labels_go_back_with_their_groups(data: Path, new: Path) -> None:
    before = read_files(data)
    run("data", "import", new, data, "--add")
    whole = open_dataset(data)
    assert {case.stem: case.group for case in whole.cases} == {
        **{f"case_{n:02}": f"case_{n:02}" for n in range(OLD)},
        **{f"clip-{n}": "clip" for n in range(NEW)},
    }
    after = read_files(data)
    assert all(after[path] == content for path, content in before.items())
    added = next(case for case in whole.cases if case.stem == "clip-1")
    np.testing.assert_array_equal(read_case(added).masks[0], draw_case(51)[1] > 0)
    assert not (data / ADDING).exists()


def test_tables_keep_their_rows_and_columns(data: Path, new: Path) -> None:
    rows = "".join(f"case_{n:02};g{n % 2};note {n};{'ab'[n % 2]};{'train' if n % 2 else 'test'}\n" for n in range(OLD))
    (data / "groups.csv").write_text("stem;group;note;class;part\n" + rows)
    (new / "groups.csv").write_text(
        "stem,group,class,pixel_size_mm\nclip-0,g0,a,0.1\nclip-1,g1,b,0.2\nclip-2,gx,b,0.2\n"
    )
    whole = add_dataset(open_dataset(new), data)
    table = {row["stem"]: row for row in read_rows(data / "groups.csv")}
    assert [table[f"case_{n:02}"]["note"] for n in range(OLD)] == [f"note {n}" for n in range(OLD)]
    # the part of the same group, else the training part
    assert [table[f"clip-{n}"]["part"] for n in range(NEW)] == ["test", "train", "train"]
    assert {case.stem: case.label for case in whole.cases}["clip-1"] == "b"
    assert {case.stem: case.pixel_size_mm for case in whole.cases}["clip-0"] == 0.1


def test_a_table_of_all_patients_keeps_its_word(data: Path, new: Path) -> None:
    rows = "".join(f"case_{n:02},g{n}\n" for n in range(OLD))
    (data / "groups.csv").write_text(f"stem,group\n{rows}clip-0,anna\n")
    whole = add_dataset(open_dataset(new), data)
    assert {case.stem: case.group for case in whole.cases}["clip-0"] == "anna"
    assert {case.stem: case.group for case in whole.cases}["clip-1"] == "clip"


def test_labels_of_frames_go_into_their_table(data: Path, new: Path) -> None:
    (data / "labels.csv").write_text("stem,label,reader\ncase_00,benign,x\ncase_01,malignant,y\n")
    (new / "labels.csv").write_text("stem,label\nclip-0,malignant\nclip-1,benign\n")
    whole = add_dataset(open_dataset(new), data)
    assert {case.stem: case.label for case in whole.cases}["clip-0"] == "malignant"
    assert read_rows(data / "labels.csv")[0] == {"stem": "case_00", "label": "benign", "reader": "x"}


def test_a_class_that_no_new_image_has_is_empty(data: Path, new: Path) -> None:
    (data / "masks").rename(data / "masks_lesion")
    (new / "masks").rename(new / "masks_lesion")
    for number in range(OLD):
        write_image(data / "masks_vessel" / f"case_{number:02}.png", draw_case(number + 9)[1])
    whole = add_dataset(open_dataset(new), data)
    added = read_case(next(case for case in whole.cases if case.stem == "clip-0"))
    assert [bool(mask.any()) for mask in added.masks] == [True, False]


def _rename_class(root: Path) -> None:
    (root / "masks").rename(root / "masks_vein")


def _take_a_name(root: Path) -> None:
    for folder in ("images", "masks"):
        (root / folder / "clip-0.png").rename(root / folder / "CASE_01.png")
    (root / "groups.csv").unlink()


def _break_an_image(root: Path) -> None:
    (root / "images" / "clip-2.png").write_bytes(b"broken")


@pytest.mark.parametrize(
    ("spoil", "facts"),
    [(_rename_class, ("vein", "target")), (_take_a_name, ("CASE_01",)), (_break_an_image, ("clip-2",))],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    data: Path, new: Path, spoil: Callable[[Path], None], facts: tuple[str, ...]
) -> None:
    spoil(new)
    before = read_files(data)
    with pytest.raises(DataError) as caught:
        add_dataset(open_dataset(new), data)
    assert_says(caught.value, *facts)
    assert read_files(data) == before
    assert not (data / ADDING).exists()


def test_the_same_images_are_not_added_twice(data: Path, new: Path, fail: Fail) -> None:
    run("data", "import", new, data, "--add")
    before = read_files(data)
    code, said = fail("data", "import", new, data, "--add")
    assert code == 1
    assert_says(said, "clip-0", "clip-2")
    assert read_files(data) == before


def test_the_printed_way_back_leads_into_a_plain_data_set(data: Path) -> None:
    plain = open_dataset(data)
    assert name_way_back(Path("new"), plain) == f"edgeseg data import new {data} --add"
    assert f"edgeseg data import {data} NEW" in name_way_back(Path("new"), dataclasses.replace(plain, layout="coco"))


def test_adding_needs_a_plain_data_set(new: Path, tmp_path: Path, fail: Fail) -> None:
    assert fail("data", "import", new, tmp_path / "nothing", "--add")[0] == 2
    assert fail("data", "import", new, tmp_path / "nothing", "--add", "--overwrite")[0] == 2
    for number in range(OLD):
        frame, mask = draw_case(number)
        write_image(tmp_path / "maps" / "images" / f"{number}.png", frame)
        write_image(tmp_path / "maps" / "labels" / f"{number}.png", mask // 255)
    with pytest.raises(DataError, match="plain layout"):
        add_dataset(open_dataset(new), tmp_path / "maps")


@pytest.mark.parametrize("moves", range(2 * NEW))
def test_an_interrupted_addition_is_finished_by_the_next_one(
    data: Path, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    done: list[Path] = []
    move = adding._move

    def stop(source: Path, target: Path) -> None:
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(target)
        move(source, target)

    monkeypatch.setattr(adding, "_move", stop)
    with pytest.raises(KeyboardInterrupt):
        add_dataset(open_dataset(new), data)
    # nobody trains on a part of it
    with pytest.raises(DataError, match="interrupted"):
        open_dataset(data)
    monkeypatch.setattr(adding, "_move", move)
    if moves % 2:
        # the same command again
        assert len(add_dataset(open_dataset(new), data).cases) == OLD + NEW
    more = make_disc_data(tmp_path / "more", 1)
    for folder in ("images", "masks"):
        (more / folder / "case_00.png").rename(more / folder / "later.png")
    whole = add_dataset(open_dataset(more), data)
    assert len(whole.cases) == OLD + NEW + 1
    assert sum(case.group == "clip" for case in whole.cases) == NEW


def test_what_was_not_made_whole_is_thrown_away(data: Path, new: Path) -> None:
    write_image(data / ADDING / "images" / "half.png", draw_case(1)[0])
    assert len(open_dataset(data).cases) == OLD
    assert len(add_dataset(open_dataset(new), data).cases) == OLD + NEW
    assert not (data / "images" / "half.png").exists()


def test_a_full_disk_changes_nothing(data: Path, new: Path) -> None:
    before = read_files(data)
    with full_disk(), pytest.raises(EdgesegError):
        add_dataset(open_dataset(new), data)
    assert read_files(data) == before


def test_a_file_that_appears_meanwhile_is_not_overwritten(
    data: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = adding.finish_adding

    def finish_late(root: Path) -> frozenset[str]:
        if (root / ADDING / ADDING_PLAN).exists():
            (root / "images" / "clip-1.png").write_bytes(b"somebody's")
        return finish(root)

    monkeypatch.setattr(adding, "finish_adding", finish_late)
    with pytest.raises(OutputError, match=r"clip-1\.png"):
        add_dataset(open_dataset(new), data)
    assert (data / "images" / "clip-1.png").read_bytes() == b"somebody's"


@pytest.mark.parametrize("name", ["../escaped.png", "images/../../escaped.png", "/tmp/escaped.png", ".git/config", "x"])
def test_a_plan_that_leaves_the_folder_is_refused(data: Path, name: str) -> None:
    (data / ADDING).mkdir()
    (data / ADDING / ADDING_PLAN).write_text(json.dumps({"files": [name], "tables": []}))
    with pytest.raises(DataError, match="plan"):
        adding.finish_adding(data)
