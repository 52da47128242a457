"""A training whose images lie on disk sees what it would see in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeseg.compression.context import open_run, pick_calibration
from edgeseg.core.cache import list_cache
from edgeseg.data.augment import AugmentSpec
from edgeseg.data.stored import StoredRows, StoredSet
from edgeseg.training.grids import to_grid
from edgeseg.training.loading import Feed, build_pipeline, load_data
from edgeseg.training.options import TrainOptions
from edgeseg.training.trainer import begin_record, plain_split, train_run
from tests.discs import make_disc_data

pytestmark = pytest.mark.integration
OPTIONS = TrainOptions(model="nano", size=32, epochs=1, denoise="median")


def test_batches_and_record_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_disc_data(tmp_path / "discs", 24)
    monkeypatch.setenv("EDGESEG_CACHE", str(tmp_path / "cache"))
    memory = load_data(data, plain_split(0), OPTIONS.input)
    monkeypatch.setenv("EDGESEG_IMAGE_MB", "0")
    stored = load_data(data, plain_split(0), OPTIONS.input)
    assert isinstance(stored.images, StoredSet)
    ours, theirs = (begin_record(one, data, tmp_path / "run", OPTIONS, None) for one in (stored, memory))
    assert ours == theirs
    batches = []
    for one in (stored, memory):
        arrays = to_grid(one.part("train"), ours.input, ours.finding)
        batches.append(list(build_pipeline(Feed(arrays, 8, 0, 4, AugmentSpec()), 2)))
    for one, other in zip(*batches, strict=True):
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])


@pytest.mark.usefixtures("shallow_sizes")
def test_a_stored_training_is_judged_and_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, place = make_disc_data(tmp_path / "discs", 24), tmp_path / "cache"
    monkeypatch.setenv("EDGESEG_CACHE", str(place))
    monkeypatch.setenv("EDGESEG_IMAGE_MB", "0")
    # validation is judged block by block
    monkeypatch.setattr("edgeseg.training.validation.BLOCK", 2)
    assert train_run(data, tmp_path / "run", OPTIONS).evaluation is not None
    (entry,) = list_cache(place)
    context = open_run(tmp_path / "run")
    assert isinstance(context.train.pixels, StoredRows)
    assert [one.path for one in list_cache(place)] == [entry.path]
    monkeypatch.delenv("EDGESEG_IMAGE_MB")
    assert np.array_equal(pick_calibration(context.train, 8), pick_calibration(open_run(tmp_path / "run").train, 8))
