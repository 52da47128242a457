"""Write one small set of labelled images as every labelling tool leaves it, with the tools' own libraries.

Run by a Python that has them, not edgeseg's:

    TOOLS/bin/pip install supervision datumaro pycocotools
    pip install --no-deps labelme imgviz cmap loguru natsort
    python benchmarks/label_trees.py PLAIN_FOLDER OUT

OUT/NAME/ is the tree, OUT/NAME.npz holds the masks as the tool's own library reads them back, OUT/trees.json what each
tree was written and read by. Trees that no library writes follow the tool's documentation.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]
CLASSES = ("lesion", "vessel")
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Case:
    """One image, and the mask of each class that the tool is given."""

    stem: str
    image: NDArray[np.uint8]
    masks: dict[str, Mask]
    part: str
    group: str

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width."""
        return int(self.image.shape[0]), int(self.image.shape[1])


@dataclass
class Tree:
    """How a tree was written, and the masks that the tool's library reads from it, by case and class."""

    writer: str
    reader: str
    masks: dict[str, dict[str, Mask]] = field(default_factory=dict)
    parts: bool = False
    groups: bool = False
    classes: tuple[str, ...] = CLASSES


def read_cases(folder: Path) -> list[Case]:
    """Read images and masks of a plain folder; every third is a part, every second a patient."""
    found = []
    for number, path in enumerate(sorted((folder / "images").glob("*.png"))):
        read = {
            name: cv2.imread(str(folder / kind / path.name), cv2.IMREAD_GRAYSCALE)
            for name, kind in zip(CLASSES, ("masks", "masks_vessel"), strict=True)
        }
        masks = {name: (mask > 0).astype(np.uint8) for name, mask in read.items()}
        height, width = masks["lesion"].shape
        masks["vessel"][height // 3 : height // 3 + 5, width // 3 : width // 3 + 7] = 1
        # a hole, and a region at the border of the image
        masks["lesion"][height // 2 : height // 2 + 3, width // 2 : width // 2 + 3] ^= 1
        masks["lesion"][:4, :9] = 1
        masks["vessel"][masks["lesion"] > 0] = 0
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        found.append(Case(path.stem, image, masks, PARTS[number % 3], f"patient{number // 2:02d}"))
    return found


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an image and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def write_text(path: Path, text: str) -> None:
    """Write a text and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def find_outlines(mask: Mask) -> list[NDArray[np.int32]]:
    """Trace outer outlines as OpenCV does: points are pixels."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [points.reshape(-1, 2) for points in outlines if len(points) > 2]


def read_coco(files: list[Path]) -> dict[str, dict[str, Mask]]:
    """Read masks as pycocotools draws them."""
    from pycocotools.coco import COCO

    masks: dict[str, dict[str, Mask]] = {}
    for path in files:
        table = COCO(str(path))
        names = {one["id"]: one["name"] for one in table.loadCats(table.getCatIds())}
        for entry in table.loadImgs(table.getImgIds()):
            size = (entry["height"], entry["width"])
            drawn = {name: np.zeros(size, np.uint8) for name in CLASSES}
            for annotation in table.loadAnns(table.getAnnIds(entry["id"])):
                if names[annotation["category_id"]] in drawn:
                    drawn[names[annotation["category_id"]]] |= table.annToMask(annotation)
            masks[Path(entry["file_name"]).stem] = drawn
    return masks


def make_supervision(case_list: list[Case], folder: Path) -> Any:
    """Make a data set of supervision, whose images are written into a folder."""
    import supervision as sv

    images, annotations = [], {}
    for case in case_list:
        path = folder / f"{case.stem}.png"
        write_image(path, case.image)
        images.append(str(path))
        masks = np.stack([case.masks[name] for name in CLASSES]).astype(bool)
        boxes = sv.mask_to_xyxy(masks)
        annotations[str(path)] = sv.Detections(xyxy=boxes.astype(float), mask=masks, class_id=np.arange(len(CLASSES)))
    return sv.DetectionDataset(classes=list(CLASSES), images=images, annotations=annotations)


def write_coco_supervision(cases: list[Case], root: Path) -> Tree:
    """Write polygons with supervision."""
    data = make_supervision(cases, root.parent / "supervision-images")
    data.as_coco(images_directory_path=str(root / "images"), annotations_path=str(root / "annotations.json"))
    return Tree("supervision as_coco (polygons)", "pycocotools", read_coco([root / "annotations.json"]))


def make_datumaro(cases: list[Case], polygons: bool) -> Any:
    """Make a data set of datumaro with masks or polygons."""
    import datumaro as dm

    items = []
    for case in cases:
        shapes: list[Any] = []
        for number, name in enumerate(CLASSES):
            if polygons:
                shapes += [
                    dm.Polygon(points.ravel().astype(float).tolist(), label=number)
                    for points in find_outlines(case.masks[name])
                ]
            elif case.masks[name].any():
                shapes.append(dm.Mask(case.masks[name].astype(bool), label=number))
        image = dm.Image.from_numpy(cv2.cvtColor(case.image, cv2.COLOR_GRAY2BGR))
        items.append(dm.DatasetItem(case.stem, subset=case.part, media=image, annotations=shapes))
    return dm.Dataset.from_iterable(items, categories=list(CLASSES))


def write_coco_datumaro(cases: list[Case], root: Path) -> Tree:
    """Write run lengths of three parts with datumaro."""
    make_datumaro(cases, polygons=False).export(str(root), "coco_instances", save_media=True)
    files = sorted((root / "annotations").glob("instances_*.json"))
    return Tree("datumaro coco_instances (runs, three parts)", "pycocotools", read_coco(files), parts=True)


def write_coco_packed(cases: list[Case], root: Path) -> Tree:
    """Write runs packed by pycocotools, one of them a crowd, and lists of runs."""
    from pycocotools import mask as tool

    images, annotations = [], []
    for number, case in enumerate(cases):
        write_image(root / "JPEGImages" / f"{case.stem}.png", case.image)
        size = {"height": case.size[0], "width": case.size[1]}
        images.append({"id": number, "file_name": f"JPEGImages/{case.stem}.png", **size})
        for kind, name in enumerate(CLASSES):
            runs = tool.encode(np.asfortranarray(case.masks[name]))
            runs = {"size": runs["size"], "counts": runs["counts"].decode()}
            if kind:
                flat = case.masks[name].T.ravel()
                ends = np.flatnonzero(np.diff(flat)) + 1
                counts = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
                runs = {"size": list(case.size), "counts": [0, *counts] if flat[0] else counts}
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": kind + 1, "iscrowd": kind}
                | {"segmentation": runs, "area": int(case.masks[name].sum()), "bbox": [0, 0, 1, 1]}
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]
    table = {"images": images, "annotations": annotations, "categories": categories}
    write_text(root / "annotations.json", json.dumps(table))
    return Tree(
        "pycocotools encode (packed and listed runs, crowds)", "pycocotools", read_coco([root / "annotations.json"])
    )


def write_coco_roboflow(cases: list[Case], root: Path) -> Tree:
    """Write polygons as Roboflow's export has them: a file beside the images of each part."""
    files = []
    for part, folder in zip(PARTS, ("train", "valid", "test"), strict=True):
        images: list[Any] = []
        annotations: list[Any] = []
        for case in (one for one in cases if one.part == part):
            name = f"{case.stem}_png.rf.0123456789abcdef.png"
            write_image(root / folder / name, case.image)
            images.append(
                {"id": len(images), "license": 1, "file_name": name, "height": case.size[0], "width": case.size[1]}
            )
            for kind, class_name in enumerate(CLASSES):
                for points in find_outlines(case.masks[class_name]):
                    annotations.append(
                        {"id": len(annotations), "image_id": len(images) - 1, "category_id": kind + 1, "iscrowd": 0}
                        | {"bbox": [0, 0, 1, 1], "area": 1, "segmentation": [(points + 0.5).ravel().tolist()]}
                    )
        categories = [{"id": 0, "name": "us", "supercategory": "none"}]
        categories += [
            {"id": number, "name": name, "supercategory": "us"} for number, name in enumerate(CLASSES, start=1)
        ]
        files.append(root / folder / "_annotations.coco.json")
        write_text(
            files[-1], json.dumps({"info": {}, "categories": categories, "images": images, "annotations": annotations})
        )
    return Tree("as Roboflow documents it (polygons)", "pycocotools", read_coco(files), parts=True)


def import_labelme() -> tuple[Any, Any]:
    """Import LabelMe without its windows."""
    wanted = ("onnxruntime", "PyQt5", "PyQt5.QtCore", "PyQt5.QtGui", "PyQt5.QtWidgets", "osam", "tifffile")
    plain = [name.split(".")[0] for name in wanted if name.split(".")[0] not in sys.modules]
    missing = {name for name in plain if importlib.util.find_spec(name) is None}
    for name in (name for name in wanted if name.split(".")[0] in missing):
        stub = MagicMock()
        stub.__path__, stub.__spec__ = [], None
        sys.modules[name] = stub
    return importlib.import_module("labelme._label_file"), importlib.import_module("labelme.utils.shape")


def write_labelme(cases: list[Case], root: Path, masks: bool) -> Tree:
    """Write polygons, rectangles and circles, or masks, with LabelMe itself."""
    files, shapes = import_labelme()
    read: dict[str, dict[str, Mask]] = {}
    for case in cases:
        folder = root / case.group
        write_image(folder / f"{case.stem}.png", case.image)
        drawn: list[dict[str, Any]] = []
        for name in CLASSES:
            drawn += draw_labelme_mask(case.masks[name], name) if masks else draw_labelme(case.masks[name], name)
        path = folder / f"{case.stem}.json"
        files.write_label_file(
            str(path), shapes=drawn, image_path=path.with_suffix(".png").name, image_height=case.size[0],
            image_width=case.size[1], image_data=path.with_suffix(".png").read_bytes(), flags={},
        )  # fmt: skip
        loaded = files.read_label_file(str(path)).shapes
        read[case.stem] = {
            name: np.asarray(
                shapes.shapes_to_label(case.size, [one for one in loaded if one["label"] == name], {name: 1})[0],
                np.uint8,
            )
            for name in CLASSES
        }
    return Tree("labelme " + ("(masks)" if masks else "(polygons, rectangles, circles)"), "labelme", read, groups=True)


def draw_labelme(mask: Mask, name: str) -> list[dict[str, Any]]:
    """Draw polygons between pixels as on LabelMe's canvas, a rectangle and a circle."""
    plain = {"label": name, "group_id": None, "description": "", "flags": {}, "mask": None}
    shapes = [
        {**plain, "shape_type": "polygon", "points": (points + 0.5).astype(float).tolist()}
        for points in find_outlines(mask)
    ]
    if name == "vessel":
        shapes.append({**plain, "shape_type": "rectangle", "points": [[20.3, 30.2], [40.7, 50.9]]})
        shapes.append({**plain, "shape_type": "circle", "points": [[60.5, 60.5], [70.5, 60.5]]})
    return shapes


def draw_labelme_mask(mask: Mask, name: str) -> list[dict[str, Any]]:
    """Draw a mask in its box, whose second corner is the last pixel."""
    if not mask.any():
        return []
    rows, columns = np.nonzero(mask)
    top, left, bottom, right = rows.min(), columns.min(), rows.max(), columns.max()
    cut = mask[top : bottom + 1, left : right + 1]
    import base64

    png = base64.b64encode(cv2.imencode(".png", cut)[1].tobytes()).decode()
    points = [[float(left), float(top)], [float(right), float(bottom)]]
    plain = {"label": name, "group_id": None, "description": "", "flags": {}}
    return [{**plain, "shape_type": "mask", "points": points, "mask": png}]


def write_yolo_supervision(cases: list[Case], root: Path) -> Tree:
    """Write polygons with supervision."""
    import supervision as sv

    data = make_supervision(cases, root.parent / "supervision-images")
    places = {
        "images_directory_path": str(root / "images" / "train"),
        "annotations_directory_path": str(root / "labels" / "train"),
        "data_yaml_path": str(root / "data.yaml"),
    }
    data.as_yolo(**places)
    read: dict[str, dict[str, Mask]] = {}
    for path, _, found in sv.DetectionDataset.from_yolo(**places, force_masks=True):
        read[Path(path).stem] = {
            name: np.bitwise_or.reduce(found.mask[found.class_id == number], axis=0).astype(np.uint8)
            for number, name in enumerate(CLASSES)
        }
    return Tree("supervision as_yolo", "supervision from_yolo", read)


def write_yolo_documented(cases: list[Case], root: Path) -> Tree:
    """Write polygons as ultralytics documents them, and draw them as its loader does."""
    read: dict[str, dict[str, Mask]] = {}
    for case in cases:
        write_image(root / "images" / case.part / f"{case.stem}.png", case.image)
        lines, drawn = [], {name: np.zeros(case.size, np.uint8) for name in CLASSES}
        for number, name in enumerate(CLASSES):
            for points in find_outlines(case.masks[name]):
                shares = points / case.size[::-1]
                lines.append(f"{number} " + " ".join(f"{value:.6f}" for value in shares.ravel()))
                # ultralytics.data.utils.polygon2mask
                cv2.fillPoly(drawn[name], [(shares.round(6) * case.size[::-1]).astype(np.int32)], (1,))
        write_text(root / "labels" / case.part / f"{case.stem}.txt", "\n".join(lines))
        read[case.stem] = drawn
    names = "\n".join(f"  {number}: {name}" for number, name in enumerate(CLASSES))
    write_text(
        root / "data.yaml", f"path: ../us\ntrain: images/train\nval: images/val\ntest: images/test\n\nnames:\n{names}\n"
    )
    return Tree("as ultralytics documents it", "cv2.fillPoly, as ultralytics", read, parts=True)


def write_cvat_datumaro(cases: list[Case], root: Path) -> Tree:
    """Write polygons with datumaro."""
    from pycocotools import mask as tool

    make_datumaro(cases, polygons=True).export(str(root), "cvat", save_media=True)
    read = {}
    for case in cases:
        drawn = {name: np.zeros(case.size, np.uint8) for name in CLASSES}
        for name in CLASSES:
            for points in find_outlines(case.masks[name]):
                runs = tool.frPyObjects([points.ravel().astype(float).tolist()], *case.size)
                drawn[name] |= tool.decode(tool.merge(runs))
        read[case.stem] = drawn
    return Tree("datumaro cvat (polygons)", "pycocotools, as CVAT", read, parts=True)


def write_cvat_documented(cases: list[Case], root: Path) -> Tree:
    """Write masks and boxes as CVAT documents them."""
    images = []
    for number, case in enumerate(cases):
        write_image(root / "images" / f"{case.stem}.png", case.image)
        shapes = []
        for name in CLASSES:
            flat = case.masks[name].ravel()
            ends = np.flatnonzero(np.diff(flat)) + 1
            runs = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
            text = ", ".join(map(str, [0, *runs] if flat[0] else runs))
            place = f'left="0" top="0" width="{case.size[1]}" height="{case.size[0]}"'
            shapes.append(
                f'<mask label="{name}" source="manual" occluded="0" rle="{text}" {place} z_order="0">\n</mask>'
            )
        size = f'width="{case.size[1]}" height="{case.size[0]}"'
        images.append(f'<image id="{number}" name="{case.stem}.png" {size}>\n' + "\n".join(shapes) + "\n</image>")
    labels = "".join(f"<label><name>{name}</name><type>any</type></label>" for name in CLASSES)
    meta = f"<meta><job><id>1</id><labels>{labels}</labels></job></meta>"
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{meta}\n'
    write_text(root / "annotations.xml", text + "\n".join(images) + "\n</annotations>\n")
    return Tree("as CVAT documents it (masks)", "the masks given", {case.stem: case.masks for case in cases})


def write_nnunet(cases: list[Case], root: Path) -> Tree:
    """Write label maps as nnU-Net documents them."""
    for case in cases:
        write_image(root / "imagesTr" / f"{case.stem}_0000.png", case.image)
        write_image(root / "labelsTr" / f"{case.stem}.png", join_masks(case))
    labels = {"background": 0, **{name: number for number, name in enumerate(CLASSES, start=1)}}
    table = {"channel_names": {"0": "US"}, "labels": labels, "numTraining": len(cases), "file_ending": ".png"}
    write_text(root / "dataset.json", json.dumps(table))
    return Tree("as nnU-Net v2 documents it", "the masks given", {case.stem: case.masks for case in cases})


def join_masks(case: Case) -> Mask:
    """Draw all classes into one label map."""
    labels = np.zeros(case.size, np.uint8)
    for number, name in enumerate(CLASSES, start=1):
        labels[case.masks[name] > 0] = number
    return labels


def write_folders(
    cases: list[Case], root: Path, image: str, mask: str, parts: bool = False, groups: bool = False, ending: str = "png"
) -> Tree:
    """Write images and masks of one class under names with {part}, {group} and {stem}."""
    for case in cases:
        names = {"part": case.part, "group": case.group, "stem": case.stem}
        write_image(root / (image.format(**names) + ".png"), case.image)
        write_image(root / f"{mask.format(**names)}.{ending}", case.masks["lesion"] * np.uint8(255))
    masks = {case.stem: {"lesion": case.masks["lesion"]} for case in cases}
    return Tree("by hand", "the masks given", masks, parts, groups, ("lesion",))


def write_labelmap(cases: list[Case], root: Path) -> Tree:
    """Write label maps."""
    for case in cases:
        write_image(root / "images" / f"{case.stem}.png", case.image)
        write_image(root / "labels" / f"{case.stem}.png", join_masks(case))
    return Tree("by hand", "the masks given", {case.stem: case.masks for case in cases})


def write_arrays(cases: list[Case], root: Path) -> Tree:
    """Write NumPy arrays."""
    root.mkdir(parents=True)
    np.save(root / "train_images.npy", np.stack([case.image for case in cases]))
    np.save(root / "train_masks.npy", np.stack([np.stack([case.masks[n] for n in CLASSES], -1) for case in cases]))
    return Tree("numpy.save", "the masks given", {f"train_{n:05d}": case.masks for n, case in enumerate(cases)})


def write_busi(cases: list[Case], root: Path) -> Tree:
    """Write names as BUSI has them."""
    masks = {}
    for number, case in enumerate(cases, start=1):
        name = f"benign ({number})"
        write_image(root / "benign" / f"{name}.png", case.image)
        write_image(root / "benign" / f"{name}_mask.png", case.masks["lesion"] * np.uint8(255))
        masks[name] = {"lesion": case.masks["lesion"]}
    return Tree("as BUSI is published", "the masks given", masks, classes=("lesion",))


def write_nerve(cases: list[Case], root: Path) -> Tree:
    """Write names as Kaggle's nerves have them."""
    masks = {}
    for number, case in enumerate(cases):
        name = f"{number // 2 + 1}_{number % 2 + 1}"
        write_image(root / "train" / f"{name}.tif", case.image)
        write_image(root / "train" / f"{name}_mask.tif", case.masks["lesion"] * np.uint8(255))
        masks[name] = {"lesion": case.masks["lesion"]}
    return Tree("as Kaggle's nerves are published", "the masks given", masks, groups=True, classes=("lesion",))


TREES: dict[str, Callable[[list[Case], Path], Tree]] = {
    "coco-polygons": write_coco_supervision,
    "coco-runs": write_coco_datumaro,
    "coco-packed": write_coco_packed,
    "coco-roboflow": write_coco_roboflow,
    "labelme-polygons": lambda cases, root: write_labelme(cases, root, masks=False),
    "labelme-masks": lambda cases, root: write_labelme(cases, root, masks=True),
    "yolo-supervision": write_yolo_supervision,
    "yolo-ultralytics": write_yolo_documented,
    "cvat-polygons": write_cvat_datumaro,
    "cvat-masks": write_cvat_documented,
    "nnunet": write_nnunet,
    "images-masks": lambda cases, root: write_folders(cases, root, "Images/{stem}", "Masks/{stem}"),
    "image-label": lambda cases, root: write_folders(cases, root, "image/{stem}", "label/{stem}"),
    "beside": lambda cases, root: write_folders(cases, root, "{stem}", "{stem}_mask"),
    "parts": lambda cases, root: write_folders(cases, root, "{part}/images/{stem}", "{part}/masks/{stem}", parts=True),
    "patients": lambda cases, root: write_folders(
        cases, root, "images/{group}/{stem}", "masks/{group}/{stem}", groups=True
    ),
    "jpeg-masks": lambda cases, root: write_folders(cases, root, "images/{stem}", "masks/{stem}", ending="jpg"),
    "plain": lambda cases, root: write_folders(cases, root, "images/{stem}", "masks/{stem}"),
    "labelmap": write_labelmap,
    "arrays": write_arrays,
    "busi": write_busi,
    "nerve": write_nerve,
}


def main() -> None:
    """Write all trees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plain", type=Path, help="images/, masks/ and masks_vessel/ of `edgeseg data synth --vessels`")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    cases = read_cases(options.plain)
    options.out.mkdir(parents=True, exist_ok=True)
    described: dict[str, Any] = {}
    for name, write in TREES.items():
        shutil.rmtree(options.out / name, ignore_errors=True)
        tree = write(cases, options.out / name)
        arrays = {f"{stem}/{key}": mask for stem, masks in tree.masks.items() for key, mask in masks.items()}
        np.savez_compressed(options.out / f"{name}.npz", **arrays)
        described[name] = {
            "writer": tree.writer, "reader": tree.reader, "parts": tree.parts, "groups": tree.groups,
            "classes": tree.classes, "cases": len(tree.masks),
        }  # fmt: skip
        print(name, tree.writer)
    given = {f"{case.stem}/{name}": mask for case in cases for name, mask in case.masks.items()}
    np.savez_compressed(options.out / "given.npz", **given)
    libraries = ("supervision", "datumaro", "pycocotools", "labelme", "numpy", "opencv-python-headless")
    versions = {name: importlib.metadata.version(name) for name in libraries}
    write_text(options.out / "trees.json", json.dumps({"trees": described, "versions": versions}, indent=2))


if __name__ == "__main__":
    main()
