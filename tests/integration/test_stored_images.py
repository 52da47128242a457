"""A training whose images lie on disk is the training that it would be in memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgeseg.compression.context import open_run, pick_calibration
from edgeseg.core.cache import list_cache
from edgeseg.data.stored import StoredRows, StoredSet
from edgeseg.training.grids import to_grid
from edgeseg.training.options import TrainOptions
from edgeseg.training.trainer import train_run
from edgeseg.training.validation import EpochResult, read_history
from tests.discs import make_disc_data

pytestmark = pytest.mark.integration
OPTIONS = TrainOptions(model="nano", size=32, epochs=2, denoise="median")


def read_figures(run: Path) -> list[EpochResult]:
    """Read the history without its times."""
    return [dataclasses.replace(row, seconds=0.0, waiting_share=0.0) for row in read_history(run)]


@pytest.mark.usefixtures("shallow_nano")
def test_a_stored_training_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, place = make_disc_data(tmp_path / "discs", 24), tmp_path / "cache"
    monkeypatch.setenv("EDGESEG_CACHE", str(place))
    in_memory = train_run(data, tmp_path / "memory", OPTIONS)
    assert not place.exists()
    monkeypatch.setenv("EDGESEG_IMAGE_MB", "0")
    # validation is judged block by block
    monkeypatch.setattr("edgeseg.training.validation.BLOCK", 2)
    stored = train_run(data, tmp_path / "stored", OPTIONS)
    assert dataclasses.replace(stored, timing=None) == dataclasses.replace(in_memory, timing=None)
    assert read_figures(tmp_path / "stored") == read_figures(tmp_path / "memory")
    (entry,) = list_cache(place)

    context = open_run(tmp_path / "stored")
    assert isinstance(context.data.images, StoredSet)
    assert isinstance(context.train.pixels, StoredRows)
    assert [one.path for one in list_cache(place)] == [entry.path]
    monkeypatch.delenv("EDGESEG_IMAGE_MB")
    plain = open_run(tmp_path / "stored")
    assert np.array_equal(pick_calibration(context.train, 8), pick_calibration(plain.train, 8))
    for part in ("val", "test"):
        ours, theirs = (to_grid(one.data.part(part), one.record.input) for one in (context, plain))
        assert np.array_equal(ours.masks[:], theirs.masks[:])
