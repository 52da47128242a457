"""Folders as `train --folds` leaves them, with networks of one operator: made in a moment, without a training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from edgeseg.core.card import SplitSpec
from edgeseg.core.decision import VALIDATION, ClassDecision, Decision, OperatingPoint
from edgeseg.core.modelfile import read_model, write_model
from edgeseg.core.stats import Estimate
from tests.tinymodels import write_bright_model

SPLIT = SplitSpec(1, 0.1, 0.2, folds=3)


def make_folds(root: Path, folds: int = 3, **summary: Any) -> Path:
    """Make the folder of a cross-validation whose networks all mark what is bright."""
    for number in range(folds):
        path = root / f"fold-{number + 1}" / "model.tflite"
        path.parent.mkdir(parents=True)
        write_bright_model(path)
        change_member(root, number, split=dataclasses.replace(SPLIT, folds=folds, fold=number))
    (root / "folds.json").write_text(json.dumps({"dice": [0.5] * folds, **summary}), encoding="utf-8")
    return root


def change_member(
    root: Path, number: int, split: SplitSpec | None = None, data: str | None = None, **card: Any
) -> None:
    """Write the file of a fold, counted from 0, again with another card."""
    path = root / f"fold-{number + 1}" / "model.tflite"
    model = read_model(path)
    provenance = model.card.provenance
    provenance = dataclasses.replace(
        provenance, split=split or provenance.split, data_fingerprint=data or provenance.data_fingerprint
    )
    write_model(path, model.flatbuffer, dataclasses.replace(model.card, provenance=provenance, **card))


def make_decision(threshold: float, temperature: float = 1.0) -> Decision:
    """Make the decision of a card for the class of these networks."""
    half = Estimate(0.5, 0.5, (0.4, 0.6))
    point = OperatingPoint(threshold, "sensitivity", 0.9, VALIDATION, 20, 10, half, half, half)
    return Decision((ClassDecision("bright0", point),), (temperature,))
