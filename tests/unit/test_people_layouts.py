"""Folders as people have them: found by themselves, read mask by mask, imported; what cannot be read is explained."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.install import MissingExtraError
from edgeseg.data.check import check_survey
from edgeseg.data.dataset import Dataset, fingerprint_dataset, import_dataset, open_dataset, read_case, survey_dataset
from edgeseg.data.exporting import export_dataset
from edgeseg.data.layouts import LAYOUTS, choose_layout
from edgeseg.data.layouts.choice import LayoutChoice, parse_layout, strip_layout, write_layout
from edgeseg.data.split import split_cases
from edgeseg.frame.images import write_image
from edgeseg.training.trainer import plain_split
from tests.discs import draw_case
from tests.layouts import MAKERS, make_nnunet, make_plain

Mask = NDArray[np.uint8]
Change = Callable[[Mask], NDArray[Any]]


def write_pairs(
    root: Path, image: str, mask: str, numbers: Iterable[int] = range(4), change: Change | None = None
) -> None:
    """Write images and masks by patterns with the number of the case."""
    for number in numbers:
        frame, drawn = draw_case(number)
        write_image(root / image.format(number), frame)
        path = root / mask.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), change(drawn) if change else drawn)


def describe(dataset: Dataset) -> dict[str, tuple[str, str]]:
    return {case.stem: (case.group, case.part) for case in dataset.cases}


def check_masks(dataset: Dataset, numbers: Callable[[str], int]) -> None:
    """Compare every mask with the drawn one, before and after an import."""
    for case in dataset.cases:
        image = read_case(case)
        np.testing.assert_array_equal(image.frame, draw_case(numbers(case.stem))[0])
        np.testing.assert_array_equal(image.masks[0], draw_case(numbers(case.stem))[1] > 0)


def last_digit(stem: str) -> int:
    return int(stem[-1])


NAMES = {
    "Images and Masks": ("Images/a{}.png", "Masks/a{}.png", "folders"),
    "image and label": ("image/a{}.png", "label/a{}.png", "folders"),
    "imgs and masks": ("imgs/a{}.png", "masks/a{}.png", "folders"),
    "img and gt": ("img/a{}.png", "gt/a{}.PNG", "folders"),
    "images and annotations": ("images/a{}.png", "annotations/a{}.png", "folders"),
    "images and labels of 255": ("images/a{}.png", "labels/a{}.png", "labelmap"),
    "ground truth": ("us scans/a{}.png", "ground_truth/a{}.png", "folders"),
    "images in the folder itself": ("a{}.png", "masks/a{}.png", "folders"),
    "ending of masks": ("imgs/a{}.png", "masks/a{}_mask.png", "folders"),
    "ending of masks in a plain folder": ("images/a{}.png", "masks/a{}_mask.png", "plain"),
    "numbers without space": ("Images/img{}.png", "Masks/mask{}.png", "folders"),
    "beginning of masks": ("img_{}.png", "mask_{}.png", "beside"),
    "_mask": ("a{}.png", "a{}_mask.png", "beside"),
    "_seg": ("a{}.png", "a{}_seg.png", "beside"),
    "_label": ("a{}.png", "a{}_label.png", "beside"),
    "_gt": ("a{}.png", "a{}_gt.png", "beside"),
    "-mask": ("a{}.png", "a{}-mask.png", "beside"),
    " Mask": ("a{}.png", "a{} Mask.png", "beside"),
    "_GroundTruth": ("a{}.png", "a{}_GroundTruth.png", "beside"),
    "masks of Kaggle": ("train/a{}.png", "train_masks/a{}_mask.png", "folders"),
}


@pytest.mark.parametrize("kind", NAMES)
def test_folders_are_found_by_their_names(tmp_path: Path, kind: str) -> None:
    image, mask, layout = NAMES[kind]
    write_pairs(tmp_path / "data", image, mask)
    dataset = open_dataset(tmp_path / "data")
    assert (dataset.layout, len(dataset.cases), len(dataset.classes)) == (layout, 4, 1)
    assert {case.group for case in dataset.cases} == {case.stem for case in dataset.cases}
    check_masks(dataset, last_digit)
    import_dataset(dataset, tmp_path / "out")
    check_masks(open_dataset(tmp_path / "out", "plain"), last_digit)


PARTED = {
    "around": ("{part}/images/{part}{{}}.png", "{part}/masks/{part}{{}}.png"),
    "inside": ("images/{part}/x{{}}.png", "labels/{part}/x{{}}.png"),
    "in the names": ("{part}_images/x{{}}.png", "{part}_masks/x{{}}.png"),
    "beside": ("{part}/x{{}}.png", "{part}/x{{}}_mask.png"),
}


@pytest.mark.parametrize(
    "words", [("train", "val", "test"), ("Training", "validation", "Testing"), ("train", "valid", "test")]
)
@pytest.mark.parametrize("kind", PARTED)
def test_a_division_into_parts_is_respected(tmp_path: Path, kind: str, words: tuple[str, ...]) -> None:
    for number, part in enumerate(words):
        image, mask = (pattern.format(part=part) for pattern in PARTED[kind])
        write_pairs(tmp_path / "data", image, mask, range(2 * number, 2 * number + 2))
    dataset = open_dataset(tmp_path / "data")
    split = split_cases(dataset.cases, dict.fromkeys((case.stem for case in dataset.cases), False), plain_split(0))
    assert [sorted(last_digit(c.stem) for c in split.part(part)) for part in ("train", "val", "test")] == [
        [0, 1],
        [2, 3],
        [4, 5],
    ]
    check_masks(dataset, last_digit)
    import_dataset(dataset, tmp_path / "out")
    assert describe(open_dataset(tmp_path / "out")) == describe(dataset)


def test_a_lone_part_is_divided_like_other_data(tmp_path: Path) -> None:
    write_pairs(tmp_path, "test/images/a{}.png", "test/masks/a{}.png")
    assert {case.part for case in open_dataset(tmp_path).cases} == {""}


def test_a_part_without_masks_is_left_out_with_a_word(tmp_path: Path) -> None:
    write_pairs(tmp_path, "train/image/a{}.png", "train/label/a{}.png")
    write_pairs(tmp_path, "val/image/b{}.png", "val/label/b{}.png")
    write_image(tmp_path / "test" / "image" / "c.png", draw_case(1)[0])
    dataset = open_dataset(tmp_path)
    assert len(dataset.cases) == 8
    assert [warning.kind for warning in dataset.warnings] == ["unlabelled-part"]


PATIENTS = {
    "beside": ("patient{}/x.png", "patient{}/x_mask.png"),
    "image and mask": ("patient{}/image.png", "patient{}/mask.png"),
    "around folders": ("patient{}/images/x.png", "patient{}/masks/x.png"),
    "in folders": ("images/patient{}/x.png", "masks/patient{}/x.png"),
    "in parts": ("Images/train/patient{}/x.png", "Masks/train/patient{}/x.png"),
}


@pytest.mark.parametrize("kind", PATIENTS)
def test_patients_in_folders_are_groups_and_names_are_unique(tmp_path: Path, kind: str) -> None:
    image, mask = PATIENTS[kind]
    write_pairs(tmp_path / "data", image, mask)
    write_pairs(
        tmp_path / "data",
        image.replace(".png", "2.png"),
        mask.replace("x", "x2").replace("image", "image2").replace("/mask.png", "/mask2.png"),
    )
    dataset = open_dataset(tmp_path / "data")
    assert len({case.stem for case in dataset.cases}) == 8
    assert {case.group for case in dataset.cases} == {f"patient{number}" for number in range(4)}
    assert all(case.stem.startswith(f"{case.group}_") for case in dataset.cases)
    check_masks(dataset, lambda stem: int(stem[7]))
    import_dataset(dataset, tmp_path / "out")
    assert describe(open_dataset(tmp_path / "out")) == describe(dataset)


def test_names_that_a_sign_would_merge_stay_apart(tmp_path: Path) -> None:
    for number, place in enumerate(("a/b_c", "a_b/c", "x/c")):
        write_pairs(tmp_path, f"images/{place}.png", f"masks/{place}.png", [number])
    write_pairs(tmp_path, "images/y/c.png", "masks/y/c.png", [3])
    assert len({case.stem for case in open_dataset(tmp_path).cases}) == 4


def test_findings_as_folders_label_frames_and_are_no_patients(tmp_path: Path) -> None:
    for kind in ("Benign", "Malignant"):
        write_pairs(tmp_path, f"{kind}/{kind}{{}}.png", f"{kind}/{kind}{{}}_mask.png")
    dataset = open_dataset(tmp_path)
    assert len({case.group for case in dataset.cases}) == 8
    assert {case.label for case in dataset.cases} == {"benign", "malignant"}


def test_several_masks_of_an_image_are_joined(tmp_path: Path) -> None:
    write_pairs(tmp_path, "a{}.png", "a{}_mask.png")
    write_pairs(tmp_path, "b{}.png", "b{}_mask_0.png")
    _, other = draw_case(3)
    write_image(tmp_path / "a1_mask_1.png", other)
    cases = {case.stem: read_case(case) for case in open_dataset(tmp_path).cases}
    assert len(cases) == 8
    np.testing.assert_array_equal(cases["a1"].masks[0], (draw_case(1)[1] > 0) | (other > 0))


@pytest.mark.parametrize("folder", ["masks/{}", "Masks_{}", "{}_masks"])
def test_a_folder_of_masks_for_each_class(tmp_path: Path, folder: str) -> None:
    write_pairs(tmp_path, "Images/a{}.png", f"{folder.format('Liver')}/a{{}}.png")
    write_pairs(tmp_path, "Images/a{}.png", f"{folder.format('cyst')}/a{{}}.png", change=lambda mask: mask[::-1])
    dataset = open_dataset(tmp_path)
    assert [spec.name for spec in dataset.classes] == ["Liver", "cyst"]
    for case in dataset.cases:
        masks = read_case(case).masks
        np.testing.assert_array_equal(masks[0][::-1], masks[1])


def paint(mask: Mask) -> NDArray[np.uint8]:
    painted = np.zeros((*mask.shape, 3), np.uint8)
    painted[mask > 0] = (0, 0, 255)
    painted[:6] = (0, 255, 0)
    return painted


def number(mask: Mask) -> Mask:
    labels = (mask > 0).astype(np.uint8)
    labels[:6] = 2
    return labels


def with_alpha(mask: Mask) -> NDArray[np.uint8]:
    return np.dstack([mask, mask, mask, np.full_like(mask, 255)])


ONE_CLASS: dict[str, Change] = {
    "1": lambda mask: np.asarray(mask > 0, np.uint8),
    "128": lambda mask: (mask > 0) * np.uint8(128),
    "bool": lambda mask: mask,
    "three channels": lambda mask: np.dstack([mask] * 3),
    "alpha": with_alpha,
    "16 bit": lambda mask: mask.astype(np.uint16) * 257,
    "one colour": lambda mask: np.dstack([mask * 0, mask * 0, mask]),
}


@pytest.mark.parametrize("kind", ONE_CLASS)
def test_masks_of_one_class_in_any_coding(tmp_path: Path, kind: str) -> None:
    write_pairs(tmp_path, "Images/a{}.png", "Masks/a{}.png", change=ONE_CLASS[kind])
    write_pairs(tmp_path, "Images/b{}.png", "Masks/b{}.png", [4], change=lambda mask: ONE_CLASS[kind](mask * 0))
    dataset = open_dataset(tmp_path)
    assert [spec.name for spec in dataset.classes] == ["target"]
    assert dataset.warnings == ()
    check_masks(Dataset(tmp_path, dataset.cases[:4], dataset.classes), last_digit)
    assert not read_case(dataset.cases[4]).labels.any()


def test_masks_of_0_and_1_beside_masks_of_0_and_255(tmp_path: Path) -> None:
    write_pairs(tmp_path, "Images/a{}.png", "Masks/a{}.png", change=ONE_CLASS["1"])
    write_pairs(tmp_path, "Images/b{}.png", "Masks/b{}.png")
    check_masks(open_dataset(tmp_path), last_digit)


@pytest.mark.parametrize(
    ("change", "order", "warned"),
    [(number, [1, 2], False), (paint, [2, 1], True), (lambda mask: number(mask) * np.uint8(127), [1, 2], True)],
)
@pytest.mark.parametrize("image", ["images/a{}.png", "Images/a{}.png", "a{}.png"])
def test_values_and_colours_are_classes(
    tmp_path: Path, image: str, change: Change, order: list[int], warned: bool
) -> None:
    mask = image.replace("mages", "asks").replace("i", "m").replace("I", "M") if "/" in image else "a{}_mask.png"
    write_pairs(tmp_path, image, mask, change=change)
    dataset = open_dataset(tmp_path)
    assert [spec.name for spec in dataset.classes] == ["class_1", "class_2"]
    assert [warning.kind for warning in dataset.warnings] == ["coded-classes"] * warned
    for case in dataset.cases:
        wanted = number(draw_case(last_digit(case.stem))[1])
        np.testing.assert_array_equal(read_case(case).masks, [wanted == value for value in order])


def test_many_colours_are_refused(tmp_path: Path) -> None:
    write_pairs(
        tmp_path, "Images/a{}.png", "Masks/a{}.png", change=lambda mask: cv2.GaussianBlur(paint(mask), (5, 5), 0)
    )
    with pytest.raises(DataError, match="fixed colours"):
        open_dataset(tmp_path)


def test_a_colour_on_borders_alone_is_no_class(tmp_path: Path) -> None:
    def edge(mask: Mask) -> NDArray[np.uint8]:
        painted = paint(mask)
        painted[20, 20:40] = (0, 90, 90)
        return painted

    write_pairs(tmp_path, "Images/a{}.png", "Masks/a{}.png", change=edge)
    with pytest.raises(DataError, match="borders only"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("image", ["images/a{}.png", "Images/a{}.png"])
def test_jpeg_masks_are_refused_with_the_cure_and_the_cure_works(tmp_path: Path, image: str) -> None:
    write_pairs(
        tmp_path / "data",
        image,
        image.replace("mages", "asks").replace("i", "m").replace("I", "M").replace("png", "jpg"),
    )
    defects = check_survey(survey_dataset(tmp_path / "data")).defects
    assert {defect.kind for defect in defects} == {"mask-values"}
    assert "--threshold-masks" in defects[0].hint
    import_dataset(open_dataset(tmp_path / "data", LayoutChoice(threshold=127).text), tmp_path / "out")
    check_masks(open_dataset(tmp_path / "out"), last_digit)


def test_a_jpeg_of_label_numbers_is_no_label_map(tmp_path: Path) -> None:
    write_pairs(tmp_path, "images/a{}.png", "labels/a{}.jpg", change=lambda mask: number(mask) * np.uint8(3))
    with pytest.raises(DataError, match="JPEG"):
        open_dataset(tmp_path)


def test_smoothed_labels_are_one_sentence(tmp_path: Path) -> None:
    write_pairs(tmp_path, "images/a{}.png", "labels/a{}.png", change=lambda mask: cv2.GaussianBlur(mask, (9, 9), 0))
    survey = survey_dataset(tmp_path)
    assert (len(survey.dataset.classes), len(survey.defects)) == (1, 1)


def test_folders_by_name(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_pairs(data, "visit/a{}.png", "delineated/a{}.png")
    with pytest.raises(DataError, match="delineated/ looks like masks") as caught:
        open_dataset(data)
    assert "--images visit --masks delineated" in caught.value.hint
    text = write_layout(data, None, Path("visit"), Path("delineated"), ["lesion"])
    dataset = open_dataset(data, text)
    assert [spec.name for spec in dataset.classes] == ["lesion"]
    check_masks(dataset, last_digit)
    assert fingerprint_dataset(
        open_dataset(data, write_layout(data, None, masks=data / "delineated"))
    ) == fingerprint_dataset(dataset)


def test_masks_outside_the_data_folder(tmp_path: Path) -> None:
    write_pairs(tmp_path, "data/a{}.png", "elsewhere/p q/a{}.png")
    text = write_layout(tmp_path / "data", None, masks=tmp_path / "elsewhere" / "p q")
    before = fingerprint_dataset(open_dataset(tmp_path / "data", text))
    check_masks(open_dataset(tmp_path / "data", text), last_digit)
    (tmp_path / "elsewhere").rename(tmp_path / "moved")
    with pytest.raises(DataError, match="p q"):
        open_dataset(tmp_path / "data", text)
    moved = write_layout(tmp_path / "data", None, masks=tmp_path / "moved" / "p q")
    assert fingerprint_dataset(open_dataset(tmp_path / "data", moved)) == before


def test_images_and_masks_in_one_named_folder(tmp_path: Path) -> None:
    write_pairs(tmp_path, "all/a{}.png", "all/a{}_seg.png")
    check_masks(open_dataset(tmp_path, write_layout(tmp_path, None, Path("all"), Path("all"))), last_digit)


@pytest.mark.parametrize(
    "choice",
    [
        LayoutChoice("plain"),
        LayoutChoice(class_names=("a b", "c=d&e?", "\u00e9")),
        LayoutChoice(images="im ages", masks="/abs/%41", threshold=3),
        LayoutChoice("busi", class_names=("tumour",)),
        LayoutChoice(masks="not\udcffutf8"),
    ],
)
def test_a_layout_with_options_is_one_text(choice: LayoutChoice) -> None:
    again = parse_layout(choice.text)
    assert (again.images, again.masks, again.class_names, again.threshold) == (
        choice.images,
        choice.masks,
        choice.class_names,
        choice.threshold,
    )
    assert again.text == choice.text
    assert "/" not in (strip_layout(choice.text) or "")


@pytest.mark.parametrize(
    "text", ["plain?", "plain?x=1", "?class=", "auto?threshold=a", "busi?masks=m", "a?class=b&class=B"]
)
def test_a_damaged_layout_text_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="layout as NAME"):
        parse_layout(text)


def test_names_of_classes(tmp_path: Path) -> None:
    make_plain(tmp_path)
    text = write_layout(tmp_path, None, class_names=["lesion", "artery"])
    assert [spec.name for spec in open_dataset(tmp_path, text).classes] == ["lesion", "artery"]
    with pytest.raises(DataError, match="2 names for the classes target, vessel"):
        open_dataset(tmp_path, write_layout(tmp_path, None, class_names=["lesion"]))


def make_nested(root: Path) -> None:
    make_plain(root / "dataset")


def make_unlike(root: Path) -> None:
    write_pairs(root, "Images/a{}.png", "Masks/b{}.png")


def make_texts(root: Path) -> None:
    (root / "notes.txt").write_text("x", encoding="utf-8")


def make_images(root: Path) -> None:
    for number_ in range(3):
        write_image(root / f"x{number_}.png", draw_case(number_)[0])


def make_only_masks(root: Path) -> None:
    for number_ in range(3):
        write_image(root / "masks" / f"x{number_}.png", draw_case(number_)[1])


def make_run(root: Path) -> None:
    make_images(root)
    (root / "run.json").write_text("{}", encoding="utf-8")


UNKNOWN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nested": (make_nested, "the images are in .*dataset"),
    "names": (make_unlike, "a0.png in Images/ and b0.png in Masks/"),
    "texts": (make_texts, "files: 1 of .txt"),
    "images": (make_images, "3 images and no masks"),
    "masks": (make_only_masks, "look like masks"),
    "empty": (Path.iterdir, "an empty folder"),
    "run": (make_run, "a run of edgeseg"),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_an_unknown_folder_is_explained(tmp_path: Path, kind: str) -> None:
    make, seen = UNKNOWN[kind]
    make(tmp_path)
    with pytest.raises(DataError, match=seen) as caught:
        open_dataset(tmp_path)
    assert len(caught.value.hint.splitlines()) <= 2
    assert kind in ("nested", "run") or all(layout.name in caught.value.hint for layout in LAYOUTS)


def test_a_wrong_layout_is_answered_with_the_right_one(tmp_path: Path) -> None:
    make_plain(tmp_path)
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path, "coco")
    assert "plain" in caught.value.hint


def test_what_systems_leave_is_no_image(tmp_path: Path) -> None:
    write_pairs(tmp_path, "Images/a{}.png", "Masks/a{}.png")
    for name in (
        "Images/Thumbs.db",
        "Images/.DS_Store",
        "Masks/._a1.png",
        "__MACOSX/Masks/._a1.png",
        "__MACOSX/Masks/a1.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert len(open_dataset(tmp_path).cases) == 4


def test_links_that_lead_back_are_not_followed_for_ever(tmp_path: Path) -> None:
    write_pairs(tmp_path, "Images/a{}.png", "Masks/a{}.png")
    (tmp_path / "Images" / "again").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    assert len(open_dataset(tmp_path).cases) == 4


def put_fifo(root: Path) -> None:
    (root / "Masks" / "a1.png").unlink()
    os.mkfifo(root / "Masks" / "a1.png")


ODD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no mask": (lambda root: (root / "Masks" / "a1.png").unlink(), "image-without-mask"),
    "no image": (lambda root: (root / "Images" / "a1.png").unlink(), "mask-without-image"),
    "fifo": (put_fifo, "unreadable"),
    "empty file": (lambda root: (root / "Masks" / "a1.png").write_bytes(b""), "unreadable"),
    "size": (lambda root: write_image(root / "Masks" / "a1.png", draw_case(1)[1][:-3]), "mask-size"),
    "twice": (lambda root: write_image(root / "Masks" / "a1.bmp", draw_case(1)[1]), "repeated-name"),
    "newline": (lambda root: write_pairs(root, "Images/a\n{}.png", "Masks/a\n{}.png"), "file-name"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_wrong_is_named(tmp_path: Path, kind: str) -> None:
    write_pairs(tmp_path, "Images/a{}.png", "Masks/a{}.png")
    spoil, expected = ODD[kind]
    spoil(tmp_path)
    assert [defect.kind for defect in check_survey(survey_dataset(tmp_path)).defects] == [expected]


def test_recognising_reads_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(tmp_path, "images/a{}.png", "masks/a{}.png", range(40))
    decoded: list[int] = []
    read = np.frombuffer

    def count(*args: Any) -> Any:
        decoded.append(len(args[0]))
        return read(*args)

    monkeypatch.setattr(np, "frombuffer", count)
    assert choose_layout(tmp_path, None).name == "plain"
    assert 0 < len(decoded) <= 8


def test_nnunet_reads_regions_parts_and_ignored_labels(tmp_path: Path) -> None:
    make_nnunet(tmp_path)
    dataset = open_dataset(tmp_path)
    assert [spec.name for spec in dataset.classes] == ["lesion", "vessel"]
    assert [case.part for case in dataset.cases] == ["train", "train", "train", "test"]
    assert [warning.kind for warning in dataset.warnings] == ["ignored-label"]
    vessel = read_case(dataset.cases[0]).masks[1]
    assert vessel[:8].all()
    assert not vessel[8:].any()


def change_table(root: Path, **changes: Any) -> None:
    table = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    (root / "dataset.json").write_text(json.dumps({**table, **changes}), encoding="utf-8")


def test_nnunet_of_version_1_without_test_labels(tmp_path: Path) -> None:
    make_nnunet(tmp_path)
    for path in (tmp_path / "labelsTs").iterdir():
        path.unlink()
    change_table(tmp_path, labels={"0": "background", "1": "lesion", "2": "a", "3": "b", "4": "c"}, file_ending="")
    dataset = open_dataset(tmp_path)
    assert [spec.name for spec in dataset.classes] == ["lesion", "a", "b", "c"]
    assert ({case.part for case in dataset.cases}, dataset.warnings[0].kind) == ({""}, "unlabelled-part")


@pytest.mark.parametrize(
    "labels",
    [
        None,
        [],
        {},
        {"background": 0},
        {"a": 1.5},
        {"a": -1},
        {"a": "x"},
        {"": 1, "background": 0},
        {"a": [], "b": 1},
        {"a": [0, 1]},
    ],
)
def test_nnunet_with_damaged_labels_is_refused(tmp_path: Path, labels: Any) -> None:
    make_nnunet(tmp_path)
    change_table(tmp_path, labels=labels)
    with pytest.raises(DataError, match=r"dataset\.json"):
        open_dataset(tmp_path)


def test_nnunet_values_beyond_the_table_are_named(tmp_path: Path) -> None:
    make_nnunet(tmp_path)
    change_table(tmp_path, labels={"background": 0, "lesion": 1})
    with pytest.raises(DataError, match=r"us_0\.png, got 0, 1, 2, 3, 4"):
        read_case(open_dataset(tmp_path).cases[0])


def test_nnunet_with_three_channels_is_colour(tmp_path: Path) -> None:
    frame, mask = draw_case(0)
    for channel in range(3):
        write_image(tmp_path / "imagesTr" / f"a_{channel:04d}.png", frame // np.uint8(channel + 1))
    write_image(tmp_path / "labelsTr" / "a.png", mask // 255)
    table = {
        "channel_names": {"0": "b", "1": "d", "2": "e"},
        "labels": {"background": 0, "x": 1},
        "file_ending": ".png",
    }
    (tmp_path / "dataset.json").write_text(json.dumps(table), encoding="utf-8")
    case = open_dataset(tmp_path).cases[0]
    assert case.modalities == ("b", "d", "e")
    np.testing.assert_array_equal(read_case(case, colour=True).frame[:, :, 2], frame)
    (tmp_path / "imagesTr" / "a_0002.png").unlink()
    assert {defect.kind for defect in survey_dataset(tmp_path).defects} >= {"image-without-modality"}


def test_nnunet_of_volumes(tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    for number_ in range(3):
        frame, mask = draw_case(number_)
        for name, values in (
            (f"imagesTr/a{number_}_0000", frame),
            (f"labelsTr/a{number_}", (mask > 0).astype(np.float32)),
        ):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            image = itk.GetImageFromArray(values[np.newaxis])
            image.SetSpacing((0.2, 0.2, 1.0))
            itk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    table = {"channel_names": {"0": "us"}, "labels": {"background": 0, "x": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(table), encoding="utf-8")
    dataset = open_dataset(tmp_path)
    assert [case.pixel_size_mm for case in dataset.cases] == pytest.approx([0.2] * 3)
    check_masks(dataset, last_digit)


@pytest.mark.parametrize("name", MAKERS)
def test_nnunet_is_written_from_every_layout(tmp_path: Path, name: str) -> None:
    try:
        MAKERS[name](tmp_path / "data")
    except (ImportError, MissingExtraError):
        pytest.skip("a package of an extra is not installed")
    dataset = open_dataset(tmp_path / "data")
    export_dataset(dataset, tmp_path / "out", "nnunet")
    written = open_dataset(tmp_path / "out")
    assert written.layout == "nnunet"
    assert [spec.name for spec in written.classes] == [spec.name for spec in dataset.classes]
    cases = {case.stem: case for case in written.cases}
    for case in dataset.cases:
        one, other = read_case(case, colour=True), read_case(cases[case.stem], colour=True)
        np.testing.assert_array_equal(one.frame, other.frame)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert (case.group, case.part) == (cases[case.stem].group, cases[case.stem].part)
