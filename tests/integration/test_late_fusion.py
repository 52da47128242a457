"""A network that fuses two modalities late is trained, compressed, predicted with and judged as any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeseg
from edgeseg.compression.compress import compress_run
from edgeseg.compression.gate import Gate
from edgeseg.compression.recipe import load_recipe
from edgeseg.core.files import staged_folder
from edgeseg.core.modelfile import read_model
from edgeseg.phantom.synthesis import SynthOptions, write_phantom_set
from edgeseg.training.options import TrainOptions
from edgeseg.training.run import read_run
from edgeseg.training.trainer import plain_split, train_run

pytestmark = pytest.mark.integration
OPTIONS = TrainOptions("nano", 32, epochs=1, fusion="late", batch=4)


def test_from_two_pictures_to_an_int8_file(tmp_path: Path) -> None:
    data, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "files"
    with staged_folder(data) as folder:
        write_phantom_set(folder, SynthOptions(14, 3, (48, 48), clips=0, second="elastography"))
    train_run(data, run, OPTIONS, split=plain_split(0))
    spec = read_run(run).spec
    assert (spec.fusion, spec.channels) == ("late", 2)
    with staged_folder(out) as folder:
        compress_run(run, folder, [load_recipe("int8-ptq")], Gate(max_drop=1.0))
    file = out / "int8-ptq.tflite"
    card = read_model(file).card
    assert card.input.modalities == ("bmode", "elastography")
    assert edgeseg.evaluate(file, data, split="all").cases == 14
    result = edgeseg.predict(file, data, tmp_path / "masks", overlay=True)
    assert (result.summary.files, result.failed) == (14, ())
    shown = edgeseg.read_image(tmp_path / "masks/overlays/images/case_0000.jpg", True)
    assert shown.shape[:2] == (48, 96)
    pictures = [data / folder / "case_0000.png" for folder in ("images", "images_elastography")]
    labels = edgeseg.load(file)([edgeseg.read_image(path) for path in pictures]).labels
    assert np.array_equal(labels, edgeseg.read_image(tmp_path / "masks/masks/images/case_0000.png"))
