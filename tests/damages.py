"""Data that do not look alike, and every way they can be damaged."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.frame.images import read_image, write_image
from tests.discs import draw_case, write_case
from tests.layouts import SIZE

EMPTY = np.zeros(SIZE, np.uint8)
Damage = Callable[[Path], None]


def make_varied_data(root: Path) -> Path:
    """Make six images that do not look alike."""
    for number in range(6):
        frame, mask = draw_case(number)
        coarse = np.random.default_rng(number).integers(0, 120, (6, 8)).astype(np.uint8)
        large = np.asarray(cv2.resize(coarse, SIZE[::-1]), dtype=np.uint8)
        write_case(root, f"case_{number:02d}", large + frame // 4, mask)
    return root


def remove(name: str) -> Damage:
    return lambda root: (root / name).unlink()


def write(name: str, values: NDArray[Any]) -> Damage:
    return lambda root: write_image(root / name, values)


def cut(root: Path) -> None:
    path = root / "images" / "case_01.png"
    path.write_bytes(path.read_bytes()[:-30])


def break_link(root: Path) -> None:
    path = root / "images" / "case_01.png"
    path.unlink()
    path.symlink_to(root / "nowhere.png")


def clear_masks(root: Path) -> None:
    for path in (root / "masks").iterdir():
        write_image(path, EMPTY)


def save_jpeg(root: Path) -> None:
    cv2.imwrite(str(root / "masks" / "case_01.jpg"), draw_case(1)[1])
    (root / "masks" / "case_01.png").unlink()


def forget_group(root: Path) -> None:
    (root / "groups.csv").write_text("stem,group\ncase_00,a\n", encoding="utf-8")


def one_group(root: Path) -> None:
    rows = "".join(f"case_{number:02d},a\n" for number in range(6))
    (root / "groups.csv").write_text("stem,group\n" + rows, encoding="utf-8")


def show_in_two_groups(root: Path) -> None:
    for number in range(2, 6):
        write_image(root / "masks" / f"case_{number:02d}.png", EMPTY)


def give_empty_part(root: Path) -> None:
    parts = ("val", "val", "test", "train", "train", "train")
    rows = "".join(f"case_{number:02d},g{number},{part}\n" for number, part in enumerate(parts))
    (root / "groups.csv").write_text("stem,group,part\n" + rows, encoding="utf-8")
    write_image(root / "masks" / "case_02.png", EMPTY)


def part_group(root: Path) -> None:
    rows = "".join(f"case_{number:02d},a,{'train' if number else 'test'}\n" for number in range(6))
    (root / "groups.csv").write_text("stem,group,part\n" + rows, encoding="utf-8")


def skip_label(root: Path) -> None:
    (root / "masks").rename(root / "labels")
    for path in (root / "labels").iterdir():
        write_image(path, np.where(read_image(path) > 0, np.uint8(3), np.uint8(0)))


def add_modalities(root: Path) -> None:
    for name in ("doppler", "elasto"):
        for path in (root / "images").iterdir():
            write_image(root / f"images_{name}" / path.name, read_image(path))


def lose_modality(root: Path) -> None:
    add_modalities(root)
    (root / "images_doppler" / "case_01.png").unlink()


def shrink_modality(root: Path) -> None:
    add_modalities(root)
    write_image(root / "images_elasto" / "case_01.png", np.zeros((50, 60), np.uint8))


def mark_everything(root: Path) -> None:
    for path in (root / "masks").iterdir():
        write_image(path, np.full(SIZE, 255, np.uint8))


def name_in_latin_1(root: Path) -> None:
    for kind in ("images", "masks"):
        (root / kind / "case_01.png").rename(root / kind / os.fsdecode(b"caf\xe9.png"))


def label(text: str) -> Damage:
    def write_labels(root: Path) -> None:
        (root / "labels.csv").write_text("stem,label\n" + text, encoding="utf-8")

    return write_labels


DAMAGES: dict[str, tuple[str, Damage]] = {
    "image without mask": ("image-without-mask", remove("masks/case_01.png")),
    "mask without image": ("mask-without-image", remove("images/case_01.png")),
    "two files of one name": ("repeated-name", write("images/case_01.bmp", EMPTY)),
    "mask of another size": ("mask-size", write("masks/case_01.png", np.zeros((50, 60), np.uint8))),
    "many values in a mask": ("mask-values", write("masks/case_01.png", draw_case(1)[0])),
    "jpeg mask": ("mask-values", save_jpeg),
    "truncated image": ("unreadable", cut),
    "broken link": ("unreadable", break_link),
    "nothing marked": ("empty-class", clear_masks),
    "everything marked": ("full-class", mark_everything),
    "name that is not UTF-8": ("file-name", name_in_latin_1),
    "image without group": ("image-without-group", forget_group),
    "one group only": ("groups", one_group),
    "two groups that show something": ("groups", show_in_two_groups),
    "given part that shows nothing": ("empty-part", give_empty_part),
    "group in two parts": ("parted-group", part_group),
    "label of no image": ("label-without-image", label("case_00,a\ncase_01,b\nCASE_02,a\n")),
    "one label only": ("one-label", label("case_00,a\ncase_01,a\n")),
}
OTHERS: dict[str, Damage] = {
    "label-values": skip_label,
    "image-without-modality": lose_modality,
    "modality-size": shrink_modality,
}
"""What can be wrong with label maps and modalities, by the kind of the defect."""
