"""A tiny copy of every layout, named byte for byte as the originals are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.data.annotations.shapes import AnnotatedImage, trace_mask
from edgeseg.data.annotations.writers import open_writer
from edgeseg.frame.images import write_image
from tests.discs import draw_case

SIZE = (72, 96)


def make_plain(root: Path) -> None:
    """Write two classes, groups and pixel sizes."""
    for number in range(4):
        frame, mask = draw_case(number)
        write_image(root / "images" / f"p{number}.png", frame)
        write_image(root / "masks" / f"p{number}.png", mask)
        write_image(root / "masks_vessel" / f"p{number}.png", mask[::-1])
    rows = "".join(f"p{number},g{number},0.{number + 1}\n" for number in range(4))
    (root / "groups.csv").write_text("stem,group,pixel_size_mm\n" + rows, encoding="utf-8")


def make_labelmap(root: Path) -> None:
    """Write label maps with two classes."""
    for number in range(4):
        frame, mask = draw_case(number)
        labels = (mask > 0).astype(np.uint8)
        labels[:5] = 2
        write_image(root / "images" / f"m{number}.png", frame)
        write_image(root / "labels" / f"m{number}.png", labels)


def make_busi(root: Path) -> None:
    """Write each finding, one with two masks and one with an empty one."""
    for number, kind in enumerate(("benign", "malignant", "normal", "benign")):
        frame, mask = draw_case(number)
        name = f"{kind} ({number + 1})"
        write_image(root / kind / f"{name}.png", cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
        write_image(root / kind / f"{name}_mask.png", mask * np.uint8(kind != "normal"))
    extra = np.zeros(SIZE, np.uint8)
    extra[:6, :6] = 255
    write_image(root / "benign" / "benign (4)_mask_1.png", extra)


def make_hc18(root: Path) -> None:
    """Write outlines, the table, two images of one exam, and a test set that is passed over."""
    lines = ["filename,pixel size(mm),head circumference (mm)"]
    for name, column in (("000_HC", 48), ("010_HC", 48), ("010_2HC", 90), ("011_HC", 40)):
        frame, _ = draw_case(len(lines))
        outline = np.zeros(SIZE, np.uint8)
        cv2.ellipse(outline, (column, 36), (30, 20), 0, 0, 360, 255, 1)
        write_image(root / "training_set" / f"{name}.png", frame)
        write_image(root / "training_set" / f"{name}_Annotation.png", outline)
        lines.append(f"{name}.png,0.0691358041432,44.3")
    (root / "training_set_pixel_size_and_HC.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_image(root / "test_set" / "000_HC.png", draw_case(9)[0])
    (root / "test_set_pixel_size.csv").write_text("filename,pixel size(mm)\n000_HC.png,0.07\n", encoding="utf-8")


def make_nerve(root: Path) -> None:
    """Write three subjects with four images, and what else Kaggle gives."""
    (root / "train").mkdir(parents=True)
    for number, name in enumerate(("1_1", "1_2", "2_1", "10_1")):
        frame, mask = draw_case(number)
        cv2.imwrite(str(root / "train" / f"{name}.tif"), frame)
        cv2.imwrite(str(root / "train" / f"{name}_mask.tif"), mask)
    (root / "test").mkdir()
    cv2.imwrite(str(root / "test" / "1.tif"), draw_case(9)[0])
    (root / "train_masks.csv").write_text("subject,img,pixels\n1,1,1 2\n", encoding="utf-8")


def make_arrays(root: Path) -> None:
    """Write three parts: bytes, reals, and masks with a channel."""
    root.mkdir(parents=True)
    frames, masks = (np.stack(many) for many in zip(*(draw_case(number) for number in range(4)), strict=True))
    np.save(root / "train_images.npy", frames)
    np.save(root / "train_masks.npy", masks > 0)
    np.save(root / "val_images.npy", (frames / 255.0).astype(np.float32)[:2, ::-1])
    np.save(root / "val_masks.npy", (masks[:2, ::-1] > 0).astype(np.float32))
    np.save(root / "test_images.npy", np.repeat(frames[:3, :, ::-1, np.newaxis], 3, axis=3))
    np.save(root / "test_masks.npy", masks[:3, :, ::-1, np.newaxis])


def make_camus(root: Path, ending: str = ".nii.gz") -> None:
    """Write two patients with two views each, and a sequence that is passed over."""
    import SimpleITK

    for number, name in enumerate(
        ("patient0001_2CH_ED", "patient0001_4CH_ES", "patient0002_2CH_ED", "patient0003_2CH_ES")
    ):
        frame, mask = draw_case(number)
        labels = (mask > 0).astype(np.uint8)
        labels[:5], labels[-5:] = 2, 3
        folder = root / name.split("_")[0]
        folder.mkdir(parents=True, exist_ok=True)
        for kind, values in (("", frame), ("_gt", labels)):
            image = SimpleITK.GetImageFromArray(values)
            image.SetSpacing((0.3, 0.3 if number else 0.15))
            SimpleITK.WriteImage(image, str(folder / f"{name}{kind}{ending}"))
    sequence = SimpleITK.GetImageFromArray(np.zeros((3, *SIZE), np.uint8))
    for kind in ("", "_gt"):
        SimpleITK.WriteImage(sequence, str(root / "patient0001" / f"patient0001_2CH_half_sequence{kind}{ending}"))
    (root / "patient0001" / "Info_2CH.cfg").write_text("ED: 1\nES: 16\nImageQuality: Good\n", encoding="utf-8")


def make_dicom(root: Path) -> None:
    """Write DICOM images with masks; the spacing stands in a region, in the header, or nowhere."""
    for number in range(4):
        frame, mask = draw_case(number)
        write_dicom(root / "images" / f"d{number}.dcm", frame, ("region", "header", "", "")[number])
        write_image(root / "masks" / f"d{number}.png", mask)


def write_dicom(path: Path, frame: NDArray[Any], spacing: str = "") -> None:
    """Write an ultrasound image with a patient's name in its header."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    header.PatientName, header.PatientID = "Secret^Name", "SecretNumber"
    header.Rows, header.Columns = frame.shape[:2]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = frame.dtype.itemsize * 8
    header.HighBit, header.PixelRepresentation = header.BitsStored - 1, 0
    header.PixelData = frame.tobytes()
    if spacing == "header":
        header.PixelSpacing = [0.2, 0.2]
    if spacing == "region":
        region = Dataset()
        region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
        region.PhysicalDeltaX = region.PhysicalDeltaY = 0.01
        header.SequenceOfUltrasoundRegions = [region]
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)


def write_cine(path: Path, frames: NDArray[np.uint8], **tags: Any) -> Path:
    """Write a cine without compression; the header holds a patient's name."""
    import pydicom

    write_dicom(path, frames[0])
    cine = pydicom.dcmread(path)
    cine.NumberOfFrames, cine.FrameTime = len(frames), 50.0
    if frames.ndim == 4:
        cine.SamplesPerPixel, cine.PhotometricInterpretation, cine.PlanarConfiguration = 3, "RGB", 0
    cine.PixelData = frames.tobytes()
    for name, value in tags.items():
        setattr(cine, name, value)
    cine.save_as(path)
    return path


def make_coco(root: Path) -> None:
    """Write three parts with two classes."""
    write_for_tool(root, "coco", ("train", "train", "val", "test"))


def make_labelme(root: Path) -> None:
    """Write four patients, whose images have the same names."""
    write_for_tool(root, "labelme", names=("p1/a.png", "p2/a.png", "p3/a.png", "p4/a.png"))


def make_yolo(root: Path) -> None:
    """Write three parts with two classes."""
    write_for_tool(root, "yolo", ("train", "train", "val", "test"))


def make_cvat(root: Path) -> None:
    """Write one task."""
    write_for_tool(root, "cvat")


def write_for_tool(
    root: Path, name: str, parts: Sequence[str] = ("",) * 4, names: Sequence[str] = ("a.png", "b.png", "c.png", "d.png")
) -> None:
    """Write images with discs, one of which has a hole and one is empty, with a second class."""
    writer = open_writer(name, root, ("target", "vessel"))
    for number, (file_name, part) in enumerate(zip(names, parts, strict=True)):
        frame, mask = draw_case(number)
        marked = mask * np.uint8(number != 1)
        marked[30:34, 40:44] = 0
        shapes = (*trace_mask(marked, "target"), *trace_mask(mask[::-1] * np.uint8(number != 1), "vessel"))
        write_image(writer.place(file_name, part), frame)
        writer.add(AnnotatedImage(file_name, SIZE[1], SIZE[0], shapes), part)
    writer.close()


def make_nnunet(root: Path) -> None:
    """Write two classes, of which one is a region of several values, a label to be ignored, and a test part."""
    for number, end in enumerate(("Tr", "Tr", "Tr", "Ts")):
        frame, mask = draw_case(number)
        labels = (mask > 0).astype(np.uint8)
        labels[:5], labels[5:8], labels[8:9] = 2, 3, 4
        write_image(root / f"images{end}" / f"us_{number}_0000.png", frame)
        write_image(root / f"labels{end}" / f"us_{number}.png", labels)
    names = {"background": 0, "lesion": 1, "vessel": [2, 3], "ignore": 4}
    table = {"channel_names": {"0": "us"}, "labels": names, "numTraining": 3, "file_ending": ".png"}
    (root / "dataset.json").write_text(json.dumps(table), encoding="utf-8")


def make_folders(root: Path) -> None:
    """Write three parts with folders named as people name them, and names that repeat."""
    for number, part in enumerate(("train", "train", "valid", "Test")):
        frame, mask = draw_case(number)
        write_image(root / part / "Image" / f"{number % 2}.png", frame)
        write_image(root / part / "Ground Truth" / f"{number % 2}_mask.png", mask)


def make_beside(root: Path) -> None:
    """Write patients in folders of their own, one image with two masks."""
    for number in range(4):
        frame, mask = draw_case(number)
        write_image(root / f"patient{max(number - 1, 0)}" / f"x{number}.png", frame)
        write_image(root / f"patient{max(number - 1, 0)}" / f"x{number}_seg.png", mask)
    write_image(root / "patient0" / "x0_seg_1.png", draw_case(3)[1])


MAKERS: dict[str, Callable[[Path], None]] = {
    "plain": make_plain,
    "labelmap": make_labelmap,
    "busi": make_busi,
    "hc18": make_hc18,
    "nerve": make_nerve,
    "camus": make_camus,
    "arrays": make_arrays,
    "dicom": make_dicom,
    "coco": make_coco,
    "labelme": make_labelme,
    "yolo": make_yolo,
    "cvat": make_cvat,
    "nnunet": make_nnunet,
    "folders": make_folders,
    "beside": make_beside,
}
NEEDED = {"camus": "SimpleITK", "dicom": "pydicom"}
