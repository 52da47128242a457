"""FROC, average precision and counting, against figures by hand and against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest

from edgeseg.core.decision import DOUBTFUL, FOUND
from edgeseg.core.spec import ClassSpec
from edgeseg.evaluation.detection import ClassMatches, match_case, measure_detection
from edgeseg.inference.instances import Instance, measure_instance

LESION = (ClassSpec("lesion", (255, 176, 0)),)


def make(x: int, y: int, width: int, height: int, confidence: float, state: str = FOUND) -> Instance:
    one = measure_instance(np.ones((height, width), np.uint8), (x, y), "lesion", 1)
    return Instance(**{**one.__dict__, "confidence": confidence, "state": state})


def test_hits_false_positives_and_counts() -> None:
    truth = np.zeros((100, 100), np.uint8)
    truth[10:30, 10:30], truth[60:80, 60:80] = 1, 1
    seen = [make(10, 10, 20, 18, 0.9), make(60, 60, 20, 30, 0.6, DOUBTFUL), make(70, 0, 9, 9, 0.8)]
    empty = match_case([make(0, 0, 5, 5, 0.7)], [np.zeros_like(truth)], LESION)
    figures = measure_detection([match_case(seen, [truth], LESION), empty], ["a", "b"])
    assert figures is not None
    assert figures.sensitivity is not None
    assert figures.false_positives is not None
    assert (figures.truths, figures.findings) == (2, 4)
    assert (figures.sensitivity.mean, figures.false_positives.mean) == (0.5, 1.0)
    assert [(one.threshold, one.false_positives, one.sensitivity) for one in figures.froc] == [
        (0.9, 0.0, 0.5),
        (0.8, 0.5, 0.5),
        (0.7, 1.0, 0.5),
        (0.6, 1.0, 1.0),
    ]
    assert figures.count_error is not None
    assert figures.count_error.mean == 0.5
    # precision 1 up to recall 0.5, then 2 of 4
    assert figures.average_precision_50 is not None
    assert figures.average_precision_50.mean == pytest.approx((51 * 1.0 + 50 * 0.5) / 101, abs=1e-4)


def test_a_true_region_is_hit_once() -> None:
    assert ClassMatches(1, (0.9, 0.8), (True, True), ((0.6,), (0.9,))).match(0.5) == (True, False)
    assert ClassMatches(2, (0.9, 0.8), (True, True), ((0.6, 0.7), (0.9, 0.8))).match(0.5) == (True, True)
    assert ClassMatches(0, (0.9,), (True,), ((),)).match(0.5) == (False,)


def test_nothing_to_judge() -> None:
    assert measure_detection([], []) is None
    assert measure_detection([{}], ["a"]) is None
    figures = measure_detection([{"lesion": ClassMatches(0, (), (), ())}], ["a"])
    assert figures is not None
    assert figures.average_precision is None
    assert figures.froc == ()


def test_average_precision_is_that_of_pycocotools() -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    rng = np.random.default_rng(5)
    cases = []
    truths: list[dict[str, object]] = []
    detections: list[dict[str, object]] = []
    for image in range(1, 16):
        places = [(3 + 33 * n, int(rng.integers(2, 60)), 24, int(rng.integers(16, 30))) for n in range(3)]
        mask = np.zeros((100, 110), np.uint8)
        kept = places[: int(rng.integers(0, 4))]
        for x, y, width, height in kept:
            mask[y : y + height, x : x + width] = 1
            box = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0}
            truths.append({"id": len(truths) + 1, "image_id": image, "category_id": 1, **box})
        seen = []
        for x, y, width, height in places:
            shift = rng.integers(-6, 7, 2)
            moved = (max(0, x + int(shift[0])), max(0, y + int(shift[1])), width, height)
            score = round(float(rng.random()), 3)
            seen.append(make(*moved, score))
            detections.append({"image_id": image, "category_id": 1, "bbox": list(moved), "score": score})
        cases.append(match_case(seen, [mask], LESION))
    coco = coco_module.COCO()
    coco.dataset = {
        "images": [{"id": image} for image in range(1, 16)],
        "annotations": truths,
        "categories": [{"id": 1, "name": "lesion"}],
    }
    coco.createIndex()
    judged = evaluation.COCOeval(coco, coco.loadRes(detections), "bbox")
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    ours = measure_detection(cases, [str(image) for image in range(15)])
    assert ours is not None
    assert ours.average_precision is not None
    assert ours.average_precision_50 is not None
    assert ours.average_precision.mean == pytest.approx(judged.stats[0], abs=1e-4)
    assert ours.average_precision_50.mean == pytest.approx(judged.stats[1], abs=1e-4)
