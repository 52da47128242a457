"""Close a run: its float32 file with card and golden pairs, judged on the test cases through the device's runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeseg.convert.pack import compact_flatbuffer
from edgeseg.convert.package import build_card, make_golden
from edgeseg.convert.tflite import convert_model
from edgeseg.core.card import Metrics
from edgeseg.core.images import write_image
from edgeseg.core.modelfile import read_model, write_model
from edgeseg.core.progress import progress_bar
from edgeseg.core.schema import to_plain
from edgeseg.core.stats import Estimate
from edgeseg.data.dataset import LabelledImage
from edgeseg.evaluate.overlays import draw_telling, pick_telling
from edgeseg.evaluate.score import score_cases, summarise_cases, write_cases
from edgeseg.runtime.segmenter import Segmenter
from edgeseg.train.run import MODEL, TEST_CASES, TEST_ROWS, RunRecord

NO_DROP = Estimate(0.0, 0.0, (0.0, 0.0))


def export_run(folder: Path, model: Any, record: RunRecord, test: Sequence[LabelledImage] | None) -> RunRecord:
    """Write the run's float32 file and judge it.

    Args:
        folder: The run folder.
        model: The Keras model with its best weights.
        record: The run so far.
        test: Cases that took no part in the training; None leaves the file unjudged and without golden pairs.

    Returns:
        The record, with the evaluation where there is one.
    """
    path = folder / MODEL
    flatbuffer = compact_flatbuffer(convert_model(model, "float32"))
    card = build_card(flatbuffer, record.name, (record.input, record.output), record.provenance("float32"))
    write_model(path, flatbuffer, card)
    if test is None:
        return record
    segmenter = Segmenter(read_model(path))
    with progress_bar("Judging test cases", len(test)) as advance:
        scored = score_cases(segmenter, test, advance)
    write_image(folder / TEST_CASES, draw_telling(segmenter, pick_telling(scored), test.__getitem__))
    write_cases(folder / TEST_ROWS, scored, card.output.classes)
    evaluation = summarise_cases(scored, card.output.classes)
    dice = evaluation.dice
    metrics = Metrics(evaluation.cases, dice, dice, NO_DROP) if dice is not None else None
    write_model(path, flatbuffer, dataclasses.replace(card, metrics=metrics), make_golden(flatbuffer, card))
    return dataclasses.replace(record, evaluation=to_plain(evaluation))
