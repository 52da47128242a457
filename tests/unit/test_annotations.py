"""Files of labelling tools as the tools and people write them: read pixel by pixel, and refused with a sentence."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, EdgesegError, OutputError, UnknownNameError
from edgeseg.core.files import write_text
from edgeseg.data.annotations.labelled import find_part
from edgeseg.data.annotations.outlines import draw_between, draw_touched, outline_mask
from edgeseg.data.annotations.problems import crosses_itself, decode_runs, encode_runs
from edgeseg.data.annotations.shapes import AnnotatedImage, Shape, trace_mask
from edgeseg.data.annotations.writers import WRITERS, open_writer
from edgeseg.data.annotations.yolo import read_class_names
from edgeseg.data.dataset import Survey, import_dataset, open_dataset, read_case, survey_dataset
from edgeseg.data.exporting import export_dataset
from edgeseg.frame.images import encode_png, write_image
from tests.discs import draw_case

SIZE = (72, 96)
BOX = [10.0, 5.0, 30.0, 5.0, 30.0, 25.0, 10.0, 25.0]
# LabelMe and YOLO also mark the pixels in which the right and the lower side lie.
BOX_PIXELS = {"coco": 400, "cvat": 400, "labelme": 441, "yolo": 441}


def write_frames(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        write_image(folder / name, draw_case(number)[0])


def write(path: Path, table: Any) -> None:
    write_text(path, table if isinstance(table, str) else json.dumps(table))


def coco(
    annotations: Sequence[Mapping[str, Any]],
    images: Sequence[str] = ("a.png",),
    categories: Sequence[str] = ("lesion",),
) -> dict[str, Any]:
    return {
        "images": [
            {"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for number, name in enumerate(images)
        ],
        "annotations": [
            {"id": number, "image_id": 0, "category_id": 1, "iscrowd": 0, **one}
            for number, one in enumerate(annotations)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories, start=1)],
    }


def labelme(shapes: Sequence[Mapping[str, Any]], path: str = "a.png", **more: Any) -> dict[str, Any]:
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": [
            {"label": "lesion", "group_id": None, "shape_type": "polygon", "flags": {}, **one} for one in shapes
        ],
        "imagePath": path,
        "imageData": None,
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
        **more,
    }


def pairs(values: Sequence[float]) -> list[list[float]]:
    return np.reshape(values, (-1, 2)).tolist()


def cvat(body: str, labels: Sequence[str] = ("lesion",), attributes: str = "") -> str:
    names = "".join(f"<label><name>{name}</name><attributes/></label>" for name in labels)
    image = f'<image id="0" name="a.png" width="{SIZE[1]}" height="{SIZE[0]}"{attributes}>{body}</image>'
    meta = f"<meta><job><labels>{names}</labels></job></meta>" if labels else ""
    return f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{meta}{image}</annotations>'


def yolo_line(values: Sequence[float], number: int = 0) -> str:
    shares = np.reshape(values, (-1, 2)) / (SIZE[1], SIZE[0])
    return f"{number} {' '.join(f'{value:.8f}' for value in shares.ravel())}\n"


def make(root: Path, tool: str, outlines: Sequence[Sequence[float]]) -> Path:
    """Write one image with outlines in the format of a tool."""
    if tool == "coco":
        write_frames(root / "images", "a.png")
        write(root / "annotations" / "instances_default.json", coco([{"segmentation": [one]} for one in outlines]))
    elif tool == "labelme":
        write_frames(root, "a.png")
        write(root / "a.json", labelme([{"points": pairs(one)} for one in outlines]))
    elif tool == "yolo":
        write_frames(root / "images" / "train", "a.png")
        write(root / "labels" / "train" / "a.txt", "".join(yolo_line(one) for one in outlines))
        write(root / "data.yaml", "path: .\ntrain: images/train\nnames:\n  0: lesion\n")
    else:
        write_frames(root / "images", "a.png")
        elements = "".join(
            f'<polygon label="lesion" points="{";".join(f"{x},{y}" for x, y in pairs(one))}"/>' for one in outlines
        )
        write(root / "annotations.xml", cvat(elements))
    return root


def first_mask(root: Path, number: int = 0) -> NDArray[np.uint8]:
    return read_case(open_dataset(root).cases[0]).masks[number]


def kinds(survey: Survey) -> tuple[list[str], list[str]]:
    return [defect.kind for defect in survey.defects], [warning.kind for warning in survey.dataset.warnings]


@pytest.mark.parametrize("tool", WRITERS)
def test_a_polygon_covers_the_pixels_that_its_tool_draws(tmp_path: Path, tool: str) -> None:
    dataset = open_dataset(make(tmp_path, tool, [BOX]))
    assert (dataset.layout, dataset.classes[0].name, dataset.warnings) == (tool, "lesion", ())
    mask = first_mask(tmp_path)
    assert mask.sum() == BOX_PIXELS[tool]
    assert mask[5:25, 10:30].all()


@pytest.mark.parametrize("tool", WRITERS)
def test_what_people_draw_wrongly_is_told(tmp_path: Path, tool: str) -> None:
    line, outside = [1.0, 1.0, 2.0, 2.0], [90.0, 60.0, 120.0, 60.0, 120.0, 90.0]
    bow_tie = [40.0, 40.0, 60.0, 60.0, 60.0, 40.0, 40.0, 60.0]
    survey = survey_dataset(make(tmp_path, tool, [BOX, line, outside, bow_tie]))
    defects, warnings = kinds(survey)
    assert defects == []
    # a line of YOLO with two points is one with a box
    assert set(warnings) == {"outside-image", "crossing-outline"} | ({"few-points"} if tool != "yolo" else set())
    assert all(warning.cases for warning in survey.dataset.warnings)
    mask = read_case(survey.dataset.cases[0]).masks[0]
    assert 0 < mask[40:60, 40:60].sum() < 300
    assert mask[60:, 90:].any()


@pytest.mark.parametrize("tool", WRITERS)
@pytest.mark.parametrize("value", [1e308, -1e7, float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(tmp_path: Path, tool: str, value: float) -> None:
    make(tmp_path, tool, [[value, *BOX[1:]]])
    with pytest.raises(DataError, match=r"a\.|json|1e\+|finite|points"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("tool", WRITERS)
def test_an_empty_image_is_a_case(tmp_path: Path, tool: str) -> None:
    survey = survey_dataset(make(tmp_path, tool, []), tool)
    assert len(survey.dataset.cases) == 1
    if survey.dataset.classes:
        assert not read_case(survey.dataset.cases[0]).masks[0].any()


@pytest.mark.parametrize("tool", WRITERS)
def test_images_that_are_absent_are_listed(tmp_path: Path, tool: str) -> None:
    make(tmp_path, tool, [BOX])
    for path in tmp_path.rglob("a.png"):
        path.rename(path.with_name("other.png"))
    survey = survey_dataset(tmp_path, tool)
    (defect,) = survey.defects
    assert defect.kind == "labels-without-image"
    assert Path(defect.stems[0]).stem == "a"


@pytest.mark.parametrize("tool", ["coco", "labelme", "cvat"])
def test_labels_of_another_size_are_refused(tmp_path: Path, tool: str) -> None:
    make(tmp_path, tool, [BOX])
    (path,) = tmp_path.rglob("a.png")
    write_image(path, np.zeros((50, 60), np.uint8))
    with pytest.raises(DataError, match=r"60x50.*96x72"):
        first_mask(tmp_path)


@pytest.mark.parametrize("tool", ["coco", "labelme", "cvat"])
@pytest.mark.parametrize("name", ["../secret.png", "images/../../secret.png", "..\\\\secret.png"])
def test_names_never_leave_the_folder(tmp_path: Path, tool: str, name: str) -> None:
    root = make(tmp_path / "data", tool, [BOX])
    write_frames(tmp_path, "secret.png")
    for path in (*root.rglob("*.json"), *root.rglob("*.xml")):
        path.write_text(path.read_text().replace("a.png", name))
    for path in root.rglob("a.png"):
        path.rename(path.with_name("other.png"))
    survey = survey_dataset(root, tool)
    # seen from annotations/ of COCO, the first of them stays inside, where there is no such image
    assert {*kinds(survey)[0]} <= {"outside-folder", "labels-without-image"}
    assert (len(survey.dataset.cases), len(survey.defects)) == (0, 1)


@pytest.mark.parametrize("tool", WRITERS)
@pytest.mark.parametrize("ending", [".png", ".json", ".xml", ".txt"])
def test_links_out_of_the_folder_are_not_followed(tmp_path: Path, tool: str, ending: str) -> None:
    root = make(tmp_path / "data", tool, [BOX])
    paths = [path for path in root.rglob(f"*{ending}") if path.is_file()]
    for path in paths:
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    if paths:
        assert "outside-folder" in kinds(survey_dataset(root, tool))[0]


@pytest.mark.parametrize("tool", WRITERS)
def test_damaged_files_are_one_sentence(tmp_path: Path, tool: str) -> None:
    source = make(tmp_path / "data", tool, [BOX])
    (path,) = [p for p in source.rglob("*") if p.suffix in (".json", ".txt", ".xml") and p.is_file()]
    data, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        for place in random.integers(0, len(data), 3):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(bytes(damaged[: random.integers(1, len(data) + 1)]))
        with contextlib.suppress(EdgesegError, IndexError):  # of a class or case that is not there
            first_mask(source)


@pytest.mark.parametrize("tool", WRITERS)
def test_a_class_that_is_not_listed_is_refused(tmp_path: Path, tool: str) -> None:
    make(tmp_path, tool, [BOX])
    if tool == "coco":
        write(tmp_path / "annotations" / "instances_default.json", coco([{"segmentation": [BOX], "category_id": 7}]))
    elif tool == "yolo":
        write(tmp_path / "labels" / "train" / "a.txt", yolo_line(BOX, 7))
    elif tool == "cvat":
        write(tmp_path / "annotations.xml", cvat('<box label="cyst" xtl="1" ytl="1" xbr="9" ybr="9"/>'))
    else:
        return  # LabelMe lists none
    (defect,) = survey_dataset(tmp_path).defects
    assert (defect.kind, len(defect.stems)) == ("unknown-class", 1)


def test_coco_runs_are_read_as_pycocotools_reads_them(tmp_path: Path) -> None:
    tool = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(2)
    write_frames(tmp_path / "images", "a.png")
    for share in (0.02, 0.5, 0.98):
        mask = (random.uniform(size=SIZE) < share).astype(np.uint8)
        packed = tool.encode(np.asfortranarray(mask))["counts"].decode()
        whole = {"size": list(SIZE), "counts": encode_runs(mask.T)}
        for runs in ({"size": list(SIZE), "counts": packed}, whole):
            write(tmp_path / "labels.json", coco([{"segmentation": runs, "iscrowd": 1}]))
            np.testing.assert_array_equal(first_mask(tmp_path), mask)


@pytest.mark.parametrize(
    "counts",
    ["", "0", "oooooo", "\u20ac", "~~~", "P" * 5000, "0" * 9, [], [7], [-1, 6913], [0.5, 6911.5], [1e30], None, {}, 5],
)
def test_coco_runs_that_do_not_fill_the_image_are_refused(tmp_path: Path, counts: Any) -> None:
    write_frames(tmp_path, "a.png")
    write(tmp_path / "x.json", coco([{"segmentation": {"size": list(SIZE), "counts": counts}}]))
    assert kinds(survey_dataset(tmp_path, "coco"))[0] == ["unreadable-labels"]


@pytest.mark.parametrize("size", [[1, 1], [10**9, 10**9], "ab", [72], None, [72.0, 96.0]])
def test_coco_runs_of_another_size_are_refused(tmp_path: Path, size: Any) -> None:
    write_frames(tmp_path, "a.png")
    write(tmp_path / "x.json", coco([{"segmentation": {"size": size, "counts": [SIZE[0] * SIZE[1]]}}]))
    assert kinds(survey_dataset(tmp_path, "coco"))[0] == ["unreadable-labels"]


def test_coco_keeps_order_of_categories_and_parts(tmp_path: Path) -> None:
    for part in ("train2017", "val2017", "test2017"):
        write_frames(tmp_path / part, "a.png", "b.png")
        labels = [{"segmentation": [BOX], "category_id": 3}, {"segmentation": [BOX], "category_id": 1}]
        write(
            tmp_path / "annotations" / f"instances_{part}.json", coco(labels, ("a.png", "b.png"), ("zyst", "b", "arm"))
        )
        write(tmp_path / "annotations" / f"captions_{part}.json", coco(labels))
    dataset = open_dataset(tmp_path)
    assert [spec.name for spec in dataset.classes] == ["zyst", "arm"]
    assert [warning.kind for warning in dataset.warnings] == ["unused-class"]
    assert {case.stem: case.part for case in dataset.cases} == {
        f"{part}2017_{name}": part for part in ("train", "val", "test") for name in "ab"
    }
    assert {case.group for case in dataset.cases} == {case.stem for case in dataset.cases}


def test_coco_of_roboflow_stands_beside_its_images(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        write_frames(tmp_path / part, f"{part}_1.png")
        write(tmp_path / part / "_annotations.coco.json", coco([{"segmentation": [BOX]}], (f"{part}_1.png",)))
    assert {case.part for case in open_dataset(tmp_path).cases} == {"train", "val", "test"}


@pytest.mark.parametrize(
    "name", ["/home/anna/data/a.png", "C:\\data\\a.png", "images/a.png", "A.PNG", "https://x.org/a.png"]
)
def test_coco_finds_images_that_were_moved(tmp_path: Path, name: str) -> None:
    write_frames(tmp_path / "pictures", "a.png")
    write(tmp_path / "result.json", coco([{"segmentation": [BOX]}], (name,)))
    assert first_mask(tmp_path).sum() == BOX_PIXELS["coco"]


def test_labels_never_get_the_image_of_another_patient(tmp_path: Path) -> None:
    write_frames(tmp_path / "images" / "p1", "1.png")
    names = ("p1/1.png", "p2/1.png")
    write(tmp_path / "x.json", coco([{"segmentation": [BOX]}, {"segmentation": [BOX], "image_id": 1}], names))
    survey = survey_dataset(tmp_path)
    assert [(defect.kind, defect.stems) for defect in survey.defects] == [("labels-without-image", ("p2/1.png",))]
    assert [case.image.parent.name for case in survey.dataset.cases] == ["p1"]


def test_tasks_of_cvat_have_images_of_the_same_names(tmp_path: Path) -> None:
    for task in ("task_1", "task_2"):
        write_frames(tmp_path / task / "images", "a.png")
        write(tmp_path / task / "annotations.xml", cvat('<box label="lesion" xtl="1" ytl="1" xbr="9" ybr="9"/>'))
    dataset = open_dataset(tmp_path)
    assert [case.stem for case in dataset.cases] == ["task_1_a", "task_2_a"]
    assert [case.group for case in dataset.cases] == ["task_1", "task_2"]


@pytest.mark.parametrize(
    "table",
    [
        {"images": {}, "annotations": [], "categories": []},
        {"images": [{"id": 1}], "annotations": [], "categories": []},
        {"images": [], "annotations": [3], "categories": []},
        {"images": [{"id": 1, "file_name": "a.png"}] * 2, "annotations": [], "categories": []},
        {"images": [], "annotations": [{"image_id": [], "category_id": {}}], "categories": []},
        {"images": [], "annotations": [], "categories": [{"id": 1, "name": 5}]},
        '{"images": ' + "[" * 100_000 + ', "annotations": [], "categories": []}',
        '{"images": [], "images": [], "annotations": [], "categories": []}',
    ],
)
def test_coco_tables_of_another_kind_are_refused(tmp_path: Path, table: Any) -> None:
    write_frames(tmp_path, "a.png")
    write(tmp_path / "x.json", table)
    with pytest.raises(DataError):
        open_dataset(tmp_path, "coco")


def test_labelme_shapes(tmp_path: Path) -> None:
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 2:5] = 1
    shapes = [
        {"shape_type": "rectangle", "points": [[20, 20], [10, 10]]},
        {"shape_type": "circle", "label": "cyst", "points": [[50, 40], [50, 50]]},
        {"shape_type": "mask", "label": "nerve", "points": [[30, 2], [35, 5]], "mask": encode(mask)},
        {"shape_type": "linestrip", "points": [[1, 1], [5, 5]]},
        {"shape_type": "point", "points": [[1, 1]]},
        {"label": "_background_", "points": pairs(BOX)},
    ]
    write_frames(tmp_path, "a.png")
    write(tmp_path / "a.json", labelme(shapes))
    dataset = open_dataset(tmp_path)
    assert [spec.name for spec in dataset.classes] == ["cyst", "lesion", "nerve"]
    assert dataset.warnings == ()
    image = read_case(dataset.cases[0])
    cyst, lesion, nerve = image.masks
    assert lesion[10:21, 10:21].all()
    assert image.weak is not None
    # of the rectangle nothing is known but its edges
    assert image.weak.unknown[1][10:21, 10:21].sum() == image.weak.unknown[1].sum() == 121
    assert (nerve.sum(), nerve[3:5, 32:35].sum()) == (6, 6)
    assert cyst.sum() == pytest.approx(np.pi * 10.5**2, rel=0.05)


def encode(mask: NDArray[np.uint8]) -> str:
    return base64.b64encode(encode_png(mask)).decode()


def test_labelme_takes_the_order_of_labels_txt(tmp_path: Path) -> None:
    make(tmp_path, "labelme", [BOX])
    write(tmp_path / "labels.txt", "__ignore__\n_background_\nzyst\nlesion\n")
    assert [spec.name for spec in open_dataset(tmp_path).classes] == ["lesion"]


def test_labelme_files_apart_from_their_images(tmp_path: Path) -> None:
    write_frames(tmp_path / "images", "a.png", "b.png")
    write(tmp_path / "json" / "a.json", labelme([{"points": pairs(BOX)}], "..\\images\\a.png"))
    dataset = open_dataset(tmp_path)
    assert [case.stem for case in dataset.cases] == ["a"]
    assert [warning.kind for warning in dataset.warnings] == ["unlabelled"]


def test_labelme_image_inside_the_file(tmp_path: Path) -> None:
    frame = draw_case(0)[0]
    data = base64.b64encode(encode_png(frame)).decode()
    write(tmp_path / "a.json", labelme([{"points": pairs(BOX)}], "gone.png", imageData=data))
    case = open_dataset(tmp_path).cases[0]
    np.testing.assert_array_equal(read_case(case).frame, frame)
    write(tmp_path / "a.json", labelme([{"points": pairs(BOX)}], "gone.png", imageData="@@@"))
    with pytest.raises(DataError, match="base64"):
        first_mask(tmp_path)


@pytest.mark.parametrize(
    "shape",
    [
        {"points": "abc"},
        {"points": [[1, 2, 3]] * 3},
        {"points": [[1, [2]], [3, 4], [5, 6]]},
        {"points": [["a", "b"]] * 3},
        {"label": 7, "points": pairs(BOX)},
        {"shape_type": "mask", "points": [[0, 0], [3, 3]], "mask": "####"},
        {"shape_type": "mask", "points": [[0, 0], [3, 3]], "mask": None},
        {"shape_type": "mask", "points": [[0, 0], [3, 3]], "mask": encode(np.ones((500, 500), np.uint8))},
    ],
)
def test_labelme_files_of_another_kind_are_listed(tmp_path: Path, shape: dict[str, Any]) -> None:
    write_frames(tmp_path, "a.png", "b.png", "c.png")
    write(tmp_path / "a.json", labelme([shape]))
    write(tmp_path / "b.json", "{")
    write(tmp_path / "c.json", labelme([{"points": pairs(BOX)}], "c.png"))
    survey = survey_dataset(tmp_path)
    (defect,) = survey.defects
    assert (defect.kind, defect.stems) == ("unreadable-labels", ("a.json", "b.json"))
    assert len(survey.dataset.cases) == 1


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [a, 'b c', \"d\"]\nnc: 3", ("a", "b c", "d")),
        ("nc: 2\nnames: {0: a, 1: 'it''s'} # two", ("a", "it's")),
        ("names:\n- a\n- 'b: c'\ntrain: x", ("a", "b: c")),
        ("train: x\nnames:\n  # classes\n  1: b\n  0: a # first\n\nval: y", ("a", "b")),
        ("\ufeffnames: ['nodule, solid', x]", ("nodule, solid", "x")),
    ],
)
def test_names_of_yolo_are_read_without_yaml(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    write(tmp_path / "data.yaml", text)
    assert read_class_names(tmp_path / "data.yaml") == names


@pytest.mark.parametrize(
    "text",
    [
        "",
        "names:",
        "names: []",
        "names: &a [*a]",
        "names: !!python/object:x",
        "names:\n  0: a\n  2: b",
        "names: [a",
        "\xff",
    ],
)
def test_names_of_yolo_that_cannot_be_read_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError):
        read_class_names(tmp_path / "data.yaml")


@pytest.mark.parametrize("order", ["{part}/{kind}", "{kind}/{part}", "{kind}"])
def test_yolo_folders(tmp_path: Path, order: str) -> None:
    for part in ("train", "valid"):
        write_frames(tmp_path / order.format(part=part, kind="images"), f"{part}.png", "same.png")
        for name in (part, "same"):
            write(tmp_path / order.format(part=part, kind="labels") / f"{name}.txt", yolo_line(BOX))
    write(tmp_path / "data.yaml", "names: [lesion]\ntrain: ../train/images\n")
    write(tmp_path / "README.roboflow.txt", "exported\n")
    dataset = open_dataset(tmp_path)
    parts = {"train", "val"} if "part" in order else {""}
    assert (len(dataset.cases), {case.part for case in dataset.cases}) == (4 if "part" in order else 3, parts)
    assert len({case.stem for case in dataset.cases}) == len(dataset.cases)


def test_yolo_image_without_labels_shows_nothing(tmp_path: Path) -> None:
    make(tmp_path, "yolo", [BOX])
    write_frames(tmp_path / "images" / "train", "a.png", "b.png")
    dataset = open_dataset(tmp_path)
    assert [warning.kind for warning in dataset.warnings] == ["no-label-file"]
    assert [int(read_case(case).masks[0].sum()) for case in dataset.cases] == [BOX_PIXELS["yolo"], 0]


def test_yolo_without_names_numbers_its_classes(tmp_path: Path) -> None:
    make(tmp_path, "yolo", [BOX])
    (tmp_path / "data.yaml").unlink()
    dataset = open_dataset(tmp_path)
    assert [spec.name for spec in dataset.classes] == ["class_0"]
    assert [warning.kind for warning in dataset.warnings] == ["no-class-names"]


@pytest.mark.parametrize(
    "line",
    ["0 0.1 0.2 0.3 x 0.1 0.2", "0 12 14 55 60 40 70", "lesion 0.1 0.1 0.2 0.2 0.3 0.3", "0 0.1 0.1 0.2 0.2 0.3"],
)
def test_yolo_lines_of_another_kind_are_listed(tmp_path: Path, line: str) -> None:
    make(tmp_path, "yolo", [BOX])
    write_frames(tmp_path / "images" / "train", "a.png", "b.png")
    write(tmp_path / "labels" / "train" / "b.txt", line)
    (defect,) = survey_dataset(tmp_path).defects
    assert defect.stems == ("b.txt",)
    assert "line 1" in defect.message


def test_cvat_shapes(tmp_path: Path) -> None:
    write_frames(tmp_path / "images", "a.png")
    body = (
        '<box label="lesion" source="manual" xtl="10.00" ytl="10.00" xbr="20.00" ybr="20.00" z_order="0"></box>'
        '<box label="turned" xtl="40" ytl="10" xbr="60" ybr="20" rotation="90.0"/>'
        '<ellipse label="cyst" cx="50" cy="45" rx="20" ry="10" rotation="90"/>'
        '<mask label="nerve" rle="2, 3, 3, 3, 1" left="30" top="2" width="6" height="2"/>'
        '<polyline label="lesion" points="1,1;5,5"/><tag label="bad"/>'
        '<polygon label="lesion" points="1,1;1,3;3,3"><attribute name="x">y</attribute></polygon>'
    )
    write(tmp_path / "annotations.xml", cvat(body, ("turned", "nerve", "lesion", "cyst", "bad")))
    dataset = open_dataset(tmp_path)
    assert [spec.name for spec in dataset.classes] == ["turned", "nerve", "lesion", "cyst"]
    turned, nerve, lesion, cyst = read_case(dataset.cases[0]).masks
    assert (turned.sum(), turned[5:25, 45:55].sum()) == (200, 200)
    assert (nerve[2, 32:35].sum(), nerve[3, 32:35].sum(), nerve.sum()) == (3, 3, 6)
    assert lesion[10:20, 10:20].all()
    assert cyst.sum() == pytest.approx(np.pi * 200, rel=0.02)
    assert np.ptp(np.nonzero(cyst)[0]) > np.ptp(np.nonzero(cyst)[1])


@pytest.mark.parametrize(
    "text",
    [
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY l0 "x"><!ENTITY l1 "&l0;&l0;">]><annotations>&l1;</annotations>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations><image name="a.png"/></annotations>',
        "<annotations>" * 100_000,
        "<annotations><track/></annotations>",
        "<annotations><image/></annotations>",
        '<annotations><image name="a.png" width="9" height="x"/></annotations>',
        "<annotations",
    ],
)
def test_cvat_documents_of_another_kind_are_refused(tmp_path: Path, text: str) -> None:
    write_frames(tmp_path, "a.png")
    write(tmp_path / "annotations.xml", text)
    with pytest.raises(DataError):
        open_dataset(tmp_path, "cvat")


@pytest.mark.parametrize(
    "body",
    [
        '<polygon points="1,1;2,2;3,1"/>',
        '<polygon label="lesion" points="1,1;2;3,1"/>',
        '<polygon label="lesion" points="a,b;c,d;e,f"/>',
        '<ellipse label="lesion" cx="5" cy="5" rx="-1" ry="1"/>',
        '<box label="lesion" xtl="1" ytl="1" xbr="9"/>',
        '<mask label="lesion" rle="5" left="0" top="0" width="100000" height="100000"/>',
        '<mask label="lesion" rle="5, x" left="0" top="0" width="5" height="1"/>',
        '<mask label="lesion" rle="1e9" left="0" top="0" width="5" height="1"/>',
    ],
)
def test_cvat_shapes_of_another_kind_are_listed(tmp_path: Path, body: str) -> None:
    write_frames(tmp_path, "a.png")
    write(tmp_path / "annotations.xml", cvat(body))
    assert kinds(survey_dataset(tmp_path))[0] == ["unreadable-labels"]


def test_cvat_keeps_subsets(tmp_path: Path) -> None:
    write_frames(tmp_path / "images", "a.png", "b.png")
    second = '<image id="1" name="b.png" subset="Validation" width="96" height="72"/></annotations>'
    text = cvat('<box label="lesion" xtl="1" ytl="1" xbr="9" ybr="9"/>', attributes=' subset="Train"')
    write(tmp_path / "annotations.xml", text.replace("</annotations>", second))
    assert [case.part for case in open_dataset(tmp_path).cases] == ["train", "val"]


@pytest.mark.parametrize("name", ["instances_train2017", "train", "Training", "my_train_set"])
def test_a_part_is_found_in_a_name(name: str) -> None:
    assert find_part(name) == "train"


@pytest.mark.parametrize("name", ["trainval", "train_val", "strain", "default", ""])
def test_no_part_is_found_in_others(name: str) -> None:
    assert find_part(name) == ""


def test_outlines_through_pixels_are_drawn_as_the_mask() -> None:
    random = np.random.default_rng(5)
    for share in (0.05, 0.3, 0.5, 0.7, 0.95):
        for _ in range(4):
            mask = (random.uniform(size=(40, 50)) < share).astype(np.uint8)
            drawn = np.zeros_like(mask)
            for points in outline_mask(mask):
                assert len(points) > 2
                drawn |= draw_touched([points], mask.shape)
            np.testing.assert_array_equal(drawn, mask)


def test_traced_outlines_do_not_cross_themselves() -> None:
    mask = (np.random.default_rng(5).uniform(size=(40, 50)) < 0.7).astype(np.uint8)
    assert not any(crosses_itself(points) for shape in trace_mask(mask, "x") for points in shape.polygons)


def test_an_outline_of_very_many_edges_is_not_examined_for_long() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (200_000, 2))
    assert crosses_itself(points) in (True, False)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_polygons_are_drawn_as_pycocotools_draws_them() -> None:
    tool = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(1)
    for number in range(60):
        points = random.uniform(-20, 100, (random.integers(3, 20), 2))
        points = (points, points.round(), points.round() + 0.5)[number % 3]
        runs = tool.merge(tool.frPyObjects([points.ravel().tolist()], *SIZE))
        np.testing.assert_array_equal(draw_between(points, SIZE), tool.decode(runs))


def test_runs_of_a_mask() -> None:
    for mask in (np.zeros((3, 4), np.uint8), np.ones((3, 4), np.uint8), np.eye(4, dtype=np.uint8)):
        np.testing.assert_array_equal(decode_runs(encode_runs(mask), mask.shape), mask)


def make_data(root: Path) -> Path:
    """Write two classes with holes, patients, parts and labels of frames."""
    random = np.random.default_rng(3)
    for number in range(6):
        write_image(root / "images" / f"im_{number}.png", random.integers(0, 256, (30 + number, 40), np.uint8))
        for name in ("vessel wall", "\u00e9cho"):
            mask = (random.uniform(size=(30 + number, 40)) < 0.6) * np.uint8(255 * (number != 2))
            write_image(root / f"masks_{name}" / f"im_{number}.png", mask)
    rows = "".join(f"im_{n},p{n // 2},{('train', 'val', 'test')[n // 2]},0.{n + 1}\n" for n in range(6))
    write(root / "groups.csv", f"stem,group,part,pixel_size_mm\n{rows}")
    write(root / "labels.csv", "stem,label\n" + "".join(f"im_{n},{'ab'[n % 2]}\n" for n in range(6)))
    return root


@pytest.mark.parametrize("tool", WRITERS)
def test_export_and_import_lose_nothing(tmp_path: Path, tool: str) -> None:
    dataset = open_dataset(make_data(tmp_path / "data"))
    export_dataset(dataset, tmp_path / tool, tool)
    found = open_dataset(tmp_path / tool)
    assert found.layout == tool
    import_dataset(found, tmp_path / "back")
    again = {case.stem: case for case in open_dataset(tmp_path / "back").cases}
    for case in dataset.cases:
        other = again[case.stem]
        known = ("group", "part", "label", "pixel_size_mm")
        assert [getattr(case, key) for key in known] == [getattr(other, key) for key in known]
        one, two = read_case(case), read_case(other)
        np.testing.assert_array_equal(one.frame, two.frame)
        np.testing.assert_array_equal(np.stack(one.masks), np.stack(two.masks))


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError):
        open_writer("koko", tmp_path, ["a"])


SQUARE = Shape("a", (np.reshape(BOX, (-1, 2)),), 0.75)


@pytest.mark.parametrize("tool", WRITERS)
def test_an_interrupted_writer_goes_on(tmp_path: Path, tool: str) -> None:
    writer = open_writer(tool, tmp_path, ["a", "b"])
    for name in ("x.png", "sub/y.png"):
        writer.add(AnnotatedImage(name, 96, 72, (SQUARE,)))
    (journal,) = tmp_path.glob(".*.jsonl")
    with journal.open("ab") as file:
        file.write(b'{"name": "cut off')
    with pytest.raises(OutputError):
        open_writer(tool, tmp_path, ["a", "b"])
    with pytest.raises(OutputError):
        open_writer(tool, tmp_path, ["a"], resume=True)
    writer = open_writer(tool, tmp_path, ["a", "b"], resume=True)
    assert writer.added == {"x.png", "sub/y.png"}
    writer.add(AnnotatedImage("x.png", 96, 72, ()))
    writer.add(AnnotatedImage("z.png", 96, 72, (SQUARE,)))
    for name in ("x.png", "sub/y.png", "z.png"):
        write_frames(writer.place(name).parent, writer.place(name).name)
    writer.close()
    assert not list(tmp_path.glob(".*.jsonl"))
    marked = {case.stem: int(read_case(case).masks[0].sum()) for case in open_dataset(tmp_path).cases}
    assert marked == {"x": 0, "y": 400, "z": 400}


@pytest.mark.parametrize("tool", WRITERS)
def test_files_of_somebody_else_are_never_replaced(tmp_path: Path, tool: str) -> None:
    own = {
        "coco": "annotations/instances_default.json",
        "labelme": "x.json",
        "yolo": "data.yaml",
        "cvat": "annotations.xml",
    }[tool]
    write(tmp_path / own, "mine")
    with pytest.raises(OutputError, match="there before"):
        open_writer(tool, tmp_path, ["a"]).add(AnnotatedImage("x.png", 96, 72, (SQUARE,)))
    assert (tmp_path / own).read_text() == "mine"


@pytest.mark.parametrize("tool", WRITERS)
@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a/../../x.png", "", ".", "a\nb.png", "a\\b.png"])
def test_writers_stay_in_their_folder(tmp_path: Path, tool: str, name: str) -> None:
    with pytest.raises(ValueError, match="relative"):
        open_writer(tool, tmp_path, ["a"]).add(AnnotatedImage(name, 96, 72, ()))


@pytest.mark.parametrize("tool", ["labelme", "yolo"])
def test_images_that_differ_in_their_ending_have_labels_of_their_own(tmp_path: Path, tool: str) -> None:
    writer = open_writer(tool, tmp_path, ["a"])
    writer.add(AnnotatedImage("x.png", 96, 72, ()))
    writer.add(AnnotatedImage("x.jpg", 96, 72, (SQUARE,)))
    assert len([path for path in tmp_path.rglob("x*") if path.is_file()]) == 2


@pytest.mark.parametrize("tool", WRITERS)
def test_a_full_disk_loses_nothing(tmp_path: Path, tool: str) -> None:
    writer = open_writer(tool, tmp_path, ["a"])
    writer.add(AnnotatedImage("x.png", 96, 72, (SQUARE,)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    (journal,) = tmp_path.glob(".*.jsonl")
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size + 10, before[1]))
    try:
        with pytest.raises(OutputError):
            writer.add(AnnotatedImage("y.png", 96, 72, (SQUARE,) * 50))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    again = open_writer(tool, tmp_path, ["a"], resume=True)
    again.add(AnnotatedImage("y.png", 96, 72, (SQUARE,)))
    again.close()
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def test_a_class_that_cannot_be_a_folder_is_refused_on_import(tmp_path: Path) -> None:
    write_frames(tmp_path / "data", "a.png")
    write(tmp_path / "data" / "x.json", coco([{"segmentation": [BOX]}], categories=("../../evil",)))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="evil"):
        import_dataset(open_dataset(tmp_path / "data"), tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["data", "out"]  # noqa: PTH208 - names alone
