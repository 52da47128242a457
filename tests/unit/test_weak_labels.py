"""Boxes, points and scribbles: what they leave open, how masks become them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError
from edgeseg.core.spec import BOXES, MASKS, POINTS, SCRIBBLES, InputSpec
from edgeseg.data.check import check_survey
from edgeseg.data.dataset import import_dataset, open_dataset, read_case, survey_dataset
from edgeseg.data.reading import Case
from edgeseg.data.split import list_splits
from edgeseg.data.weak_labels import (
    WeakLabels,
    box_agreement,
    draw_ellipses,
    fill_regions,
    find_skeleton,
    shrink_known,
    take_boxes,
    weak_to_grid,
    weaken,
)
from edgeseg.evaluation.score import keep_full
from edgeseg.frame.images import write_image
from edgeseg.frame.preprocess import mask_to_grid

SIZE = (64, 96)


def ellipse(x: int = 48, y: int = 32, across: int = 20, down: int = 12) -> NDArray[np.uint8]:
    return cv2.ellipse(np.zeros(SIZE, np.uint8), (x, y), (across, down), 0, 0, 360, 1, -1).astype(np.uint8)


def corners(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    return np.asarray([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)


def test_a_box_leaves_open_what_lies_in_it_and_nothing_else() -> None:
    mask = ellipse()
    filled, weak = weaken([mask], BOXES, "a")
    assert weak is not None
    rows, columns = np.nonzero(mask)
    assert weak.boxes[0][0][0].tolist() == [columns.min(), rows.min()]
    assert weak.boxes[0][0][2].tolist() == [columns.max() + 1, rows.max() + 1]
    assert np.array_equal(weak.unknown[0], filled[0])
    assert filled[0][mask > 0].all()


def test_what_is_sure_within_a_box_is_known() -> None:
    inner = ellipse(across=4, down=4)
    filled = fill_regions(ellipse())
    weak = take_boxes([filled], [[corners(28, 20, 69, 45)]], [inner])
    assert not (weak.unknown[0] & inner).any()
    assert weak.unknown[0].sum() == filled.sum() - inner.sum()


@pytest.mark.parametrize("kind", [POINTS, SCRIBBLES])
def test_marks_are_right_about_what_they_mark(kind: str) -> None:
    masks = [ellipse(30), ellipse(75, 40, 10, 10)]
    marks, weak = weaken(masks, kind, "a")
    assert weak is not None
    for mask, mark, unknown in zip(masks, marks, weak.unknown, strict=True):
        assert mark.any()
        assert not (mark & ~mask & 1).any()
        assert 0 < (unknown == 0).mean() < 0.5
        # of what is known, all that is not marked is something else
        assert not (mask[(unknown == 0) & (mark == 0)]).any()
    again = weaken(masks, kind, "a")[1]
    assert again is not None
    assert np.array_equal(again.unknown[0], weak.unknown[0])


def test_an_image_that_shows_nothing_is_fully_labelled() -> None:
    assert weaken([np.zeros(SIZE, np.uint8)], POINTS, "a")[1] is None


def test_a_skeleton_is_thin_and_inside() -> None:
    mask = ellipse()
    skeleton = find_skeleton(mask)
    assert 0 < skeleton.sum() < mask.sum() / 4
    assert not (skeleton & ~mask & 1).any()


def test_boxes_agree_with_what_fills_them_to_their_edges() -> None:
    mask = ellipse()
    assert box_agreement(mask, fill_regions(mask)) == 1.0
    assert box_agreement(np.zeros_like(mask), fill_regions(mask)) == 0.0
    assert 0.2 < box_agreement(ellipse(across=10), fill_regions(mask)) < 0.6


def bring_to_grid(mask: NDArray[np.uint8], kind: str, side: int = 64) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    marks, weak = weaken([mask], kind, "a")
    assert weak is not None
    spec = InputSpec(side, side)
    both = weak_to_grid(weak, mask_to_grid(marks[0], spec)[..., np.newaxis], SIZE, spec)
    return both[..., 0], both[..., 1]


def test_a_box_is_taken_for_its_ellipse_with_an_open_rim() -> None:
    learned, unknown = bring_to_grid(ellipse(), BOXES)
    mask = mask_to_grid(ellipse(), InputSpec(64, 64))
    assert (learned != mask).sum() < 0.1 * mask.sum()
    assert not ((learned != mask) & (unknown == 0)).any()
    assert 0 < unknown.sum() < 0.5 * mask.sum()
    # the corners of a box are known to be something else
    top, left = np.argwhere(learned).min(axis=0)
    assert not unknown[top, left]


def test_a_box_between_pixels_marks_one_nevertheless() -> None:
    drawn, _ = draw_ellipses([corners(10.1, 10.2, 10.3, 10.4), corners(0, 0, 0.2, 0.1)], (32, 32))
    assert np.argwhere(drawn).tolist() == [[0, 0], [10, 10]]


def test_what_is_sure_stays_beside_the_ellipse_of_a_box() -> None:
    corner = np.zeros(SIZE, np.uint8)
    corner[20:24, 28:32] = 1
    filled = fill_regions(ellipse())
    spec = InputSpec(96, 96)
    weak = take_boxes([filled], [[corners(28, 20, 69, 45)]], [corner])
    learned, unknown = np.split(weak_to_grid(weak, mask_to_grid(filled, spec)[..., np.newaxis], SIZE, spec), 2, axis=-1)
    sure = mask_to_grid(corner, spec)[..., np.newaxis] > 0
    assert learned[sure].all()
    assert not unknown[sure].any()


def test_the_output_grid_averages_what_is_known() -> None:
    masks, unknown = (np.zeros((4, 8, 1), np.uint8) for _ in range(2))
    masks[:2, :4], unknown[2:, :4], unknown[:, 4:] = 1, 1, 1
    assert shrink_known(masks, unknown, 4).tolist() == [[[1, 0], [0, 1]]]
    both = np.concatenate([1 - masks, masks], axis=-1)
    assert shrink_known(both, unknown, 4).tolist() == [[[0, 1, 0], [1, 0, 1]]]


def make_coco(root: Path, boxes: list[Any], outlines: int = 0) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, bbox in enumerate(boxes):
        random = np.random.default_rng(number)
        write_image(root / f"b{number}.png", random.integers(0, 255, SIZE, dtype=np.uint8))
        images.append({"id": number, "file_name": f"b{number}.png", "width": SIZE[1], "height": SIZE[0]})
        one: dict[str, Any] = {"id": 100 + number, "image_id": number, "category_id": 1, "bbox": bbox}
        if number < outlines:
            one["segmentation"] = [[10, 10, 30, 10, 30, 30, 10, 30]]
        annotations.append(one)
    table = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "lesion"}]}
    (root / "instances.json").write_text(json.dumps(table))
    return root


def test_coco_boxes_without_an_outline_are_boxes(tmp_path: Path) -> None:
    dataset = open_dataset(make_coco(tmp_path, [[10, 12, 20, 15]] * 3, outlines=1))
    assert [case.labels for case in dataset.cases] == [MASKS, BOXES, BOXES]
    full, boxed, _ = (read_case(case) for case in dataset.cases)
    assert full.weak is None
    assert boxed.weak is not None
    assert boxed.weak.boxes[0][0].tolist() == corners(10, 12, 30, 27).tolist()
    assert boxed.masks[0].sum() == 300 == boxed.weak.unknown[0].sum()


@pytest.mark.parametrize(
    ("bbox", "words"),
    [
        ([200, 12, 20, 15], "outside the image of 96x64"),
        ([10, 12, -20, 15], "no width"),
        ([10, 12, 0, 15], "no width"),
        ([10, 12, 1e9, 15], "points"),
        ([10, 12, 20], "bbox"),
        (None, "bbox"),
    ],
)
def test_bad_boxes_are_named_with_their_number(tmp_path: Path, bbox: Any, words: str) -> None:
    survey = survey_dataset(make_coco(tmp_path, [[10, 12, 20, 15], bbox]))
    (defect,) = survey.defects
    assert defect.stems == ("b1.png",)
    assert words in defect.message
    assert "101" in defect.message or defect.kind == "unreadable-labels"


def test_a_box_that_reaches_outside_is_cut_off_and_one_drawn_twice_counts_once(tmp_path: Path) -> None:
    root = make_coco(tmp_path, [[80, 50, 40, 40]])
    table = json.loads((root / "instances.json").read_text())
    table["annotations"].append(table["annotations"][0] | {"id": 7})
    (root / "instances.json").write_text(json.dumps(table))
    dataset = open_dataset(root)
    assert {warning.kind for warning in dataset.warnings} == {"outside-image", "repeated-box"}
    weak = read_case(dataset.cases[0]).weak
    assert weak is not None
    assert [box.tolist() for box in weak.boxes[0]] == [corners(80, 50, 96, 64).tolist()]


def make_labelme(root: Path, shapes: list[dict[str, Any]]) -> Path:
    write_image(root / "a.png", np.full(SIZE, 90, np.uint8))
    table = {"imagePath": "a.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    (root / "a.json").write_text(json.dumps(table | {"shapes": shapes}))
    return root


def test_labelme_points_and_lines_say_something_of_what_they_cover_alone(tmp_path: Path) -> None:
    shapes = [
        {"label": "lesion", "shape_type": "point", "points": [[40, 30]]},
        {"label": "background", "shape_type": "linestrip", "points": [[5, 5], [80, 5]]},
    ]
    dataset = open_dataset(make_labelme(tmp_path, shapes))
    assert [spec.name for spec in dataset.classes] == ["lesion"]
    image = read_case(dataset.cases[0])
    assert (dataset.cases[0].labels, image.weak is not None) == (SCRIBBLES, True)
    assert image.weak is not None
    unknown, mask = image.weak.unknown[0], image.masks[0]
    assert (mask[30, 40], unknown[30, 40], mask[5, 40], unknown[5, 40], unknown[20, 20]) == (1, 0, 0, 0, 1)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"shape_type": "point", "points": [[400, 30]]}, "point 1 lies outside"),
        ({"shape_type": "rectangle", "points": [[10, 30], [30, 30]]}, "rectangle 1 has no width or no height"),
        ({"shape_type": "rectangle", "points": [[110, 30], [130, 50]]}, "rectangle 1 lies outside"),
        ({"shape_type": "rectangle", "points": [[10, 30]]}, "rectangle 1 has 1 corners"),
        ({"shape_type": "rectangle", "points": [[10, 30], [30, 30], [30, 60]]}, "rectangle 1 has 3 corners"),
    ],
)
def test_labelme_marks_off_the_image_are_named(tmp_path: Path, shape: dict[str, Any], words: str) -> None:
    survey = survey_dataset(make_labelme(tmp_path, [{"label": "lesion"} | shape]))
    assert [words in defect.message for defect in survey.defects] == [True]


def test_points_without_background_are_refused(tmp_path: Path) -> None:
    shapes = [{"label": "lesion", "shape_type": "point", "points": [[40, 30]]}]
    with pytest.raises(DataError, match="background"):
        open_dataset(make_labelme(tmp_path, shapes))


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("0 1.6 0.5 0.2 0.2", "bad-mark"),
        ("0 0.5 0.5 -0.2 0.2", "bad-mark"),
        ("0 50 50 20 20", "unreadable-labels"),
        ("0 nan 0.5 0.2 0.2", "unreadable-labels"),
        ("7 0.5 0.5 0.2 0.2", "unknown-class"),
    ],
)
def test_bad_yolo_boxes_are_listed(tmp_path: Path, line: str, kind: str) -> None:
    make_yolo(tmp_path, line)
    (defect,) = survey_dataset(tmp_path).defects
    assert (defect.kind, "line 1" in defect.message) == (kind, kind != "x")


def make_yolo(root: Path, line: str) -> Path:
    for folder, text in (("images", None), ("labels", line)):
        (root / folder).mkdir(parents=True)
        if text is not None:
            (root / folder / "a.txt").write_text(text)
    write_image(root / "images" / "a.png", np.full(SIZE, 90, np.uint8))
    (root / "data.yaml").write_text("names: [lesion]\n")
    return root


def test_yolo_boxes_of_detection_are_boxes(tmp_path: Path) -> None:
    dataset = open_dataset(make_yolo(tmp_path, "0 0.5 0.5 0.25 0.5"))
    weak = read_case(dataset.cases[0]).weak
    assert weak is not None
    assert weak.boxes[0][0].tolist() == corners(36, 16, 60, 48).tolist()


def test_cvat_boxes_points_and_polylines(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.png", np.full(SIZE, 90, np.uint8))
    (tmp_path / "annotations.xml").write_text(
        '<annotations><image id="0" name="a.png" width="96" height="64">'
        '<box label="lesion" xtl="10" ytl="10" xbr="30" ybr="20"/>'
        '<box label="turned" xtl="40" ytl="10" xbr="60" ybr="20" rotation="90.0"/>'
        '<points label="lesion" points="20,15"/><polyline label="background" points="5,50;90,50"/>'
        "</image></annotations>"
    )
    dataset = open_dataset(tmp_path)
    assert [spec.name for spec in dataset.classes] == ["lesion", "turned"]
    image = read_case(dataset.cases[0])
    assert image.weak is not None
    lesion, turned = image.weak.unknown
    assert (lesion[12, 12], lesion[15, 20], lesion[40, 40], turned[10, 50], turned[15, 42]) == (1, 0, 0, 1, 0)
    assert image.weak.boxes[1][0].min(axis=0).tolist() == [45, 5]


def make_scribbled(root: Path, labels: NDArray[np.uint8]) -> Path:
    for name in ("a", "b"):
        write_image(root / "images" / f"{name}.png", np.full(SIZE, 90, np.uint8))
    write_image(root / "masks" / "a.png", ellipse() * np.uint8(255))
    write_image(root / "scribbles" / "b.png", labels)
    return root


def test_label_maps_of_scribbles_stand_for_missing_masks(tmp_path: Path) -> None:
    labels = np.full(SIZE, 255, np.uint8)
    labels[10:12], labels[30:32] = 0, 1
    dataset = open_dataset(make_scribbled(tmp_path, labels))
    assert [case.labels for case in dataset.cases] == [MASKS, SCRIBBLES]
    image = read_case(dataset.cases[1])
    assert image.weak is not None
    assert (image.masks[0].sum(), image.weak.unknown[0].sum()) == (2 * SIZE[1], (SIZE[0] - 4) * SIZE[1])


def test_label_maps_of_scribbles_hold_classes_and_255_alone(tmp_path: Path) -> None:
    dataset = open_dataset(make_scribbled(tmp_path, np.full(SIZE, 3, np.uint8)))
    with pytest.raises(DataError, match="255"):
        read_case(dataset.cases[1])


def test_check_counts_weak_labels_and_import_refuses_them(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "data", [[10, 12, 20, 15]] * 4, outlines=3)
    table = check_survey(survey_dataset(root)).to_json()
    assert table["labels"] == {MASKS: 3, BOXES: 1}
    with pytest.raises(DataError, match="1 of 4"):
        import_dataset(open_dataset(root), tmp_path / "out")


def read_nothing(case: Case, size: tuple[int, int]) -> WeakLabels | None:  # noqa: ARG001 - of every reader
    return None


def make_case(number: int, labels: str, part: str = "") -> Case:
    read = None if labels == MASKS else read_nothing
    return Case(f"c{number}", Path(), (), f"g{number}", part=part, labels=labels, read_weak=read)


def test_weak_groups_train_where_enough_full_masks_judge() -> None:
    cases = [make_case(number, MASKS if number < 8 else BOXES) for number in range(20)]
    spec = SplitSpec(0, 0.12, 0.15)
    (split,) = list_splits(cases, dict.fromkeys((case.stem for case in cases), False), spec)
    judging = [*split.validation, *split.test]
    assert judging
    assert all(case.labels == MASKS for case in judging)
    assert len(split.part("all")) == 20
    boxed = [make_case(number, BOXES) for number in range(20)]
    (alone,) = list_splits(boxed, dict.fromkeys((case.stem for case in boxed), False), spec)
    assert alone.validation
    assert alone.test


def test_nothing_but_full_masks_is_judged_by(tmp_path: Path) -> None:
    cases = [make_case(0, MASKS), make_case(1, BOXES)]
    assert [case.stem for case in keep_full(cases, tmp_path)] == ["c0"]
    with pytest.raises(DataError, match="boxes"):
        keep_full(cases[1:], tmp_path)


def test_weak_labels_check_themselves() -> None:
    with pytest.raises(ValueError, match="masks"):
        WeakLabels(MASKS, (), ())
    with pytest.raises(ValueError, match="1 classes"):
        WeakLabels(BOXES, (np.zeros(SIZE, np.uint8),), ())
