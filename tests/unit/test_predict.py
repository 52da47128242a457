"""Masks for files: names, formats, the table, what cannot be read, and runs that are interrupted."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import edgeseg
from edgeseg.core.errors import EdgesegError, OutputError, RunError
from edgeseg.data.annotations.outlines import draw_touched
from edgeseg.frame.images import read_image, write_image
from edgeseg.prediction import table
from edgeseg.prediction.folder import PredictResult
from edgeseg.prediction.inputs import Item
from edgeseg.prediction.outputs import OutputNames
from edgeseg.prediction.table import Ledger
from tests.commands import CommandLine, assert_says, full_disk
from tests.layouts import write_cine
from tests.tinymodels import write_bright_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_bright_model(tmp_path / "model.tflite")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def draw(seed: int, size: tuple[int, int] = (48, 80)) -> NDArray[np.uint8]:
    """Draw a bright disc, which the model marks."""
    picture = np.full(size, 20, np.uint8)
    cv2.circle(picture, (20 + 3 * (seed % 10), 20), 9, 250, -1)
    return picture


def write_pictures(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), draw(number))
    return root


def write_video(path: Path, frames: int, size: tuple[int, int] = (48, 80)) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, size[::-1])
    for number in range(frames):
        writer.write(cv2.cvtColor(draw(number, size), cv2.COLOR_GRAY2BGR))
    writer.release()


def list_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def read_table(result: PredictResult) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in result.rows()]


def count_frames(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    return count


def test_every_image_gets_a_mask_of_its_size_under_its_own_name(tmp_path: Path, model: Path) -> None:
    source = write_pictures(tmp_path / "exams", "a/x.png", "a/y.png", "z.jpg")
    result = edgeseg.predict(model, source, tmp_path / "out", overlay=True)
    assert list_files(tmp_path / "out") - {".edgeseg", "predict.json", "predictions.csv", "instances.csv"} == {
        *("masks/a/x.png", "masks/a/y.png", "masks/z.png"),
        *("overlays/a/x.jpg", "overlays/a/y.jpg", "overlays/z.jpg"),
    }
    mask = read_image(tmp_path / "out/masks/a/x.png")
    assert mask.shape == (48, 80)
    assert np.array_equal(mask, edgeseg.load(model)(draw(0)).labels)
    first, *_ = rows = result.rows()
    assert [row["file"] for row in rows] == ["a/x.png", "a/y.png", "z.jpg"]
    assert first["mask"] == "masks/a/x.png"
    assert int(first["bright0_area_px"]) == np.count_nonzero(mask) > 0
    x, y, width, height = map(int, first["bright0_boxes"].split())
    assert np.count_nonzero(mask[y : y + height, x : x + width]) == np.count_nonzero(mask)
    assert (first["state"], first["bright0_state"], first["bright0_area_mm2"]) == ("found", "found", "")
    assert (result.summary.files, result.summary.frames, result.failed) == (3, 3, ())
    overlay = cv2.imread(str(tmp_path / "out/overlays/a/x.jpg"))
    assert overlay is not None
    assert np.ptp(overlay, axis=2).max() > 50


@pytest.mark.parametrize("workers", [1, 3])
def test_rows_come_in_order_however_many_work(tmp_path: Path, model: Path, workers: int) -> None:
    source = write_pictures(tmp_path / "in", *(f"{number:02d}.png" for number in range(20)))
    result = edgeseg.predict(model, source, tmp_path / "out", workers=workers)
    assert [row["file"] for row in result.rows()] == [f"{number:02d}.png" for number in range(20)]


def test_two_images_of_one_stem_do_not_meet(tmp_path: Path, model: Path) -> None:
    source = write_pictures(tmp_path / "in", "x.png", "x.jpg", "X.bmp", "y.png", "x.jpg.png")
    result = edgeseg.predict(model, source, tmp_path / "out", formats=("png", "labelme"))
    masks = [row["mask"] for row in result.rows()]
    assert len({mask.casefold() for mask in masks}) == 5
    assert "masks/y.png" in masks
    assert all((tmp_path / "out" / mask).is_file() for mask in masks)
    assert len(list((tmp_path / "out/labelme").glob("*.json"))) == 5


def test_names_of_an_interrupted_run_are_not_given_again() -> None:
    items = [Item(Path(name), name, "image") for name in ("x.png", "x.jpg", "x.jpg.png")]
    names = OutputNames(items, ["x"])
    assert [names.choose(item, is_clip=False) for item in items] == ["x.png", "x.jpg", "x.jpg-2"]
    long = Item(Path(), f"a/{250 * 'ü'}.png", "image")
    assert len(os.fsencode(OutputNames([long]).choose(long, is_clip=False))) < 230


def test_label_maps_come_as_arrays_and_nifti_with_spacing(tmp_path: Path, model: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    source = write_pictures(tmp_path / "in", "x.png")
    result = edgeseg.predict(model, source, tmp_path / "out", formats=("npy", "nifti"), mm_per_px=0.2)
    array = np.load(tmp_path / "out/npy/x.npy")
    image = itk.ReadImage(str(tmp_path / "out/nifti/x.nii.gz"))
    assert image.GetSpacing() == pytest.approx((0.2, 0.2))
    assert np.array_equal(itk.GetArrayFromImage(image), array)
    (row,) = result.rows()
    assert float(row["bright0_area_mm2"]) == pytest.approx(0.04 * int(row["bright0_area_px"]), abs=1e-3)


def test_labels_for_a_labelling_tool_draw_the_same_mask(tmp_path: Path, model: Path) -> None:
    source = write_pictures(tmp_path / "in", "a/x.png")
    edgeseg.predict(model, source, tmp_path / "out", formats=("png", "labelme"))
    labels = json.loads((tmp_path / "out/labelme/a/x.json").read_text())
    assert {one["label"] for one in labels["shapes"]} == {"bright0"}
    drawn = draw_touched([np.array(one["points"], float) for one in labels["shapes"]], (48, 80))
    assert np.array_equal(drawn, read_image(tmp_path / "out/masks/a/x.png"))


def test_every_frame_of_a_video_gets_a_mask_and_the_overlay_is_a_video(tmp_path: Path, model: Path) -> None:
    source = write_pictures(tmp_path / "in", "clip/000000.png")
    write_video(source / "clip.avi", 23, (47, 81))
    result = edgeseg.predict(model, source, tmp_path / "out", overlay=True, workers=2)
    rows = [row for row in result.rows() if row["file"] == "clip.avi"]
    assert [int(row["frame"]) for row in rows] == list(range(23))
    assert [row["mask"] for row in rows] == [f"masks/clip.avi/{number:06d}.png" for number in range(23)]
    (video,) = (tmp_path / "out/overlays").glob("clip.avi.*")
    assert count_frames(video) == 23
    assert (tmp_path / "out/masks/clip/000000.png").is_file()
    # in order: the disc moves as it does in the video
    areas = [np.flatnonzero(read_image(tmp_path / "out" / row["mask"]).any(axis=0))[0] for row in rows[:10]]
    assert areas == sorted(set(areas))


def test_dicom_brings_frames_spacing_and_region(tmp_path: Path, model: Path) -> None:
    (tmp_path / "in").mkdir()
    frames = np.stack([draw(number) for number in range(3)])
    write_cine(tmp_path / "in/cine", frames, PixelSpacing=[0.5, 0.5])
    write_cine(tmp_path / "in/1.2.840.1", frames[:1])
    write_cine(tmp_path / "in/1.2.840.2", frames[:1])
    result = edgeseg.predict(model, tmp_path / "in", tmp_path / "out")
    rows = {(row["file"], row["frame"]): row for row in result.rows()}
    assert set(rows) == {("1.2.840.1", ""), ("1.2.840.2", ""), *(("cine", str(number)) for number in range(3))}
    assert rows["1.2.840.1", ""]["mask"] == "masks/1.2.840.1.png"
    assert rows["cine", "2"]["mask"] == "masks/cine/000002.png"
    assert float(rows["cine", "0"]["mm_per_px"]) == 0.5


def spoil(root: Path) -> None:
    """Add files that cannot be read: truncated, empty, too wide, of no picture, a FIFO, a cut and an empty video."""
    root.mkdir(exist_ok=True)
    data = cv2.imencode(".jpg", draw(0))[1].tobytes()
    (root / "cut.jpg").write_bytes(data[: len(data) // 2])
    (root / "empty.png").write_bytes(b"")
    wide = bytearray(cv2.imencode(".png", draw(0))[1].tobytes())
    wide[16:20] = (60_000).to_bytes(4, "big")
    (root / "wide.png").write_bytes(wide)
    (root / "no.tif").write_bytes(b"II*\0nothing")
    os.mkfifo(root / "pipe.png")
    (root / "no.mp4").write_bytes(b"no video")
    (root / "no.dcm").write_bytes(b"no dicom")
    (root / "gone.png").symlink_to(root / "nothing.png")


def test_what_cannot_be_read_stops_nothing_and_is_listed(tmp_path: Path, model: Path) -> None:
    source = write_pictures(tmp_path / "in", "a.png", "z.png")
    spoil(source)
    result = edgeseg.predict(model, source, tmp_path / "out")
    assert {failure.file for failure in result.failed} == {
        *("cut.jpg", "empty.png", "wide.png", "no.tif", "pipe.png", "no.mp4", "no.dcm", "gone.png")
    }
    states = {row["file"]: (row["state"], bool(row["error"])) for row in result.rows()}
    assert states["a.png"] == states["z.png"] == ("found", False)
    assert len(states) == 10
    assert {states[failure.file] for failure in result.failed} == {("unreadable", True)}
    assert sum(path.suffix == ".png" for path in (tmp_path / "out/masks").rglob("*")) == 2


def test_a_video_that_was_cut_keeps_its_frames_and_is_listed(tmp_path: Path, model: Path) -> None:
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in/clip.avi", 40)
    data = (tmp_path / "in/clip.avi").read_bytes()
    (tmp_path / "in/clip.avi").write_bytes(data[: len(data) // 2])
    result = edgeseg.predict(model, tmp_path / "in", tmp_path / "out", overlay=True)
    (failure,) = result.failed
    assert "not there" in failure.reason
    assert 10 < result.summary.frames < 30
    assert len(result.rows()) == result.summary.frames


def test_unusual_pictures_are_read(tmp_path: Path, model: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_image(source / "deep.png", draw(0).astype(np.uint16) * 257)
    cv2.imwrite(str(source / "deep.tif"), draw(1).astype(np.uint16) * 257)
    cv2.imwrite(str(source / "rgba.png"), np.dstack([draw(2)] * 4))
    from PIL import Image

    Image.fromarray(draw(3)).convert("CMYK").save(source / "cmyk.jpg")
    result = edgeseg.predict(model, source, tmp_path / "out", overlay=True)
    assert result.failed == ()
    assert all(int(row["bright0_area_px"]) > 100 for row in result.rows())


def test_grey_clips_for_a_colour_model_are_listed(tmp_path: Path) -> None:
    colour = write_bright_model(tmp_path / "colour.tflite", "rgb")
    source = write_pictures(tmp_path / "in", "x.png")
    write_cine(source / "cine.dcm", np.stack([draw(0)] * 2))
    result = edgeseg.predict(colour, source, tmp_path / "out")
    assert [failure.file for failure in result.failed] == ["cine.dcm"]
    assert "colour" in result.failed[0].reason
    assert [row["state"] for row in result.rows()] == ["unreadable", "unreadable", "found"]


@pytest.mark.parametrize("name", ["sp ace.png", "new\nline.png", "ünï.png", "-dash.png", "=1+1.png", "é%d%s.png"])
def test_odd_names_stay_in_the_folder_and_in_the_table(tmp_path: Path, model: Path, name: str) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_image(source / name, draw(0))
    result = edgeseg.predict(model, source, tmp_path / "out", overlay=True)
    assert (tmp_path / "out/masks" / name).is_file()
    (row,) = result.rows()
    assert row["file"] == name.replace("\n", "\\n")


def test_a_name_that_is_no_utf_8(tmp_path: Path, model: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_image(source / "x.png", draw(0))
    (source / "x.png").rename(os.fsdecode(os.fsencode(source) + b"/\xff.png"))
    write_video(source / "clip.avi", 3)
    (source / "clip.avi").rename(os.fsdecode(os.fsencode(source) + b"/\xfe.avi"))
    result = edgeseg.predict(model, source, tmp_path / "out", overlay=True)
    assert result.failed == ()
    assert len(list((tmp_path / "out/masks").iterdir())) == 2
    assert len(result.rows()) == 4


def test_parent_folders_in_a_source_lead_nowhere_else(tmp_path: Path, model: Path) -> None:
    write_pictures(tmp_path / "in", "x.png")
    (tmp_path / "in/deep").mkdir()
    result = edgeseg.predict(model, f"{tmp_path}/in/deep/../x.png", tmp_path / "out/deep")
    assert [row["mask"] for row in result.rows()] == ["masks/x.png"]


def test_results_inside_the_source_are_no_input_of_the_next_run(tmp_path: Path, model: Path) -> None:
    source = write_pictures(tmp_path / "in", "x.png")
    for _ in range(2):
        result = edgeseg.predict(model, source, source / "out", overlay=True, overwrite=True)
    other = edgeseg.predict(model, source, source / "other")
    assert result.summary.files == other.summary.files == 1


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Stop a run after some items are committed, with the files of a further one written."""
    commit, done = Ledger.commit, 0

    def stop(ledger: Ledger, entry: Any) -> None:
        nonlocal done
        if done == after:
            raise KeyboardInterrupt
        done += 1
        commit(ledger, entry)

    monkeypatch.setattr(table.Ledger, "commit", stop)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    source = write_pictures(tmp_path / "in", *(f"{number}.png" for number in range(6)))
    write_video(source / "3a.avi", 9)
    (source / "bad.png").write_bytes(b"bad")
    return source


@pytest.fixture
def expected(tmp_path: Path, mixed: Path, model: Path) -> tuple[list[dict[str, str]], set[str]]:
    result = edgeseg.predict(model, mixed, tmp_path / "whole", overlay=True, formats=("png", "labelme"))
    return read_table(result), list_files(tmp_path / "whole")


@pytest.mark.parametrize("after", [0, 3, 4, 6])
def test_an_interrupted_run_goes_on_to_the_same_result(
    tmp_path: Path,
    mixed: Path,
    model: Path,
    expected: tuple[list[dict[str, str]], set[str]],
    after: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt(patch, after)
        with pytest.raises(KeyboardInterrupt):
            edgeseg.predict(model, mixed, out, overlay=True, formats=("png", "labelme"))
    partial = tmp_path / "out.partial"
    # a kill in the middle of a row, of a line and of a file
    with (partial / "predictions.csv").open("ab") as file:
        file.write(b"5.png,,fou")
    with (partial / ".journal.jsonl").open("ab") as file:
        file.write(b'{"name": "5.p')
    (partial / "masks/.0123.part.png").write_bytes(b"half")
    result = edgeseg.predict(model, mixed, out, overlay=True, formats=("png", "labelme"), resume=True)
    assert read_table(result) == expected[0]
    assert list_files(out) == expected[1]
    assert [failure.file for failure in result.failed] == ["bad.png"]


def test_only_the_same_work_goes_on(tmp_path: Path, mixed: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="got none"):
        edgeseg.predict(model, mixed, tmp_path / "out", resume=True)
    with monkeypatch.context() as patch:
        interrupt(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            edgeseg.predict(model, mixed, tmp_path / "out")
    other = write_bright_model(tmp_path / "other.tflite", "rgb")
    with pytest.raises(RunError) as refused:
        edgeseg.predict(other, mixed, tmp_path / "out", resume=True, overlay=True)
    assert_says(refused.value, "model and overlay")
    with pytest.raises(RunError) as refused:
        edgeseg.predict(model, mixed, tmp_path / "out")
    assert_says(refused.value, "--resume", "--overwrite")
    # a file that was added meanwhile is taken as well
    write_image(mixed / "9.png", draw(9))
    assert edgeseg.predict(model, mixed, tmp_path / "out", resume=True).summary.files == 9


@pytest.mark.parametrize(("options", "room"), [({}, 400), ({"overlay": True}, 1500), ({"formats": ("npy",)}, 2000)])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on(
    tmp_path: Path, mixed: Path, model: Path, options: dict[str, Any], room: int
) -> None:
    with pytest.raises(OutputError) as refused, full_disk(room):
        edgeseg.predict(model, mixed, tmp_path / "out", **options)
    assert_says(refused.value, "room")
    result = edgeseg.predict(model, mixed, tmp_path / "out", resume=True, **options)
    assert read_table(result) == read_table(edgeseg.predict(model, mixed, tmp_path / "whole", **options))
    assert not any(".part" in name for name in list_files(tmp_path / "out"))


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_somebody_else_are_never_replaced(tmp_path: Path, mixed: Path, model: Path, overwrite: bool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "predictions.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(EdgesegError) as refused:
        edgeseg.predict(model, mixed, out, overwrite=overwrite)
    assert_says(refused.value, out)
    assert (out / "predictions.csv").read_text() == "mine"
    assert list_files(out) == {"predictions.csv"}


def test_a_result_is_replaced_when_that_is_asked_for(tmp_path: Path, mixed: Path, model: Path) -> None:
    edgeseg.predict(model, mixed, tmp_path / "out", overlay=True)
    with pytest.raises(OutputError, match="already there"):
        edgeseg.predict(model, mixed, tmp_path / "out")
    edgeseg.predict(model, mixed, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out/overlays").exists()
    (tmp_path / "out/mine.txt").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        edgeseg.predict(model, mixed, tmp_path / "out", overwrite=True)


def test_the_source_is_never_written_onto(tmp_path: Path, mixed: Path, model: Path) -> None:
    for out in (mixed, tmp_path):
        with pytest.raises(OutputError):
            edgeseg.predict(model, mixed, out, overwrite=True)


def test_a_loaded_model_serves_all_workers(tmp_path: Path, mixed: Path, model: Path) -> None:
    result = edgeseg.predict(edgeseg.load(model), [mixed, mixed / "0.png"], tmp_path / "out", workers=3)
    assert result.summary.files == 8


@pytest.mark.parametrize("changes", [{"formats": ()}, {"workers": 0}, {"mm_per_px": 0.0}, {"show": "all"}])
def test_a_wrong_option_is_refused(tmp_path: Path, mixed: Path, model: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        edgeseg.predict(model, mixed, tmp_path / "out", **changes)


def test_the_command_ends_with_1_and_names_what_it_could_not_read(
    tmp_path: Path, mixed: Path, model: Path, command: CommandLine
) -> None:
    out = tmp_path / "out"
    code, said = command.fail("predict", model, mixed, "--out", out, "--json", tmp_path / "f.json", "--format", "npy")
    assert code == 1
    assert_says(said, "1 of 8 files", "bad.png")
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["files"], figures["frames"], len(figures["failed"])) == (8, 15, 1)
    with (out / "predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 16
    # exchanged arguments, an unknown format, no image
    assert command.fail("predict", mixed, model, "--out", tmp_path / "again")[0] == 1
    assert command.fail("predict", model, mixed, "--out", tmp_path / "x", "--format", "gif")[0] in (1, 2)
    assert command.fail("predict", model, mixed, "--out", mixed)[0] == 2
    (tmp_path / "nothing").mkdir()
    code, said = command.fail("predict", model, tmp_path / "nothing", "--out", tmp_path / "y")
    assert code == 1
    assert_says(said, "got none")
    assert not (tmp_path / "y").exists()
