"""Groups that were changed after a training would let a model be judged on what it has learned: they are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgeseg.core.card import Card, SplitSpec
from edgeseg.core.errors import DataError
from edgeseg.core.schema import from_plain, to_plain
from edgeseg.data.dataset import fingerprint_dataset
from edgeseg.data.reading import Case
from edgeseg.data.split import Split, fingerprint_split
from edgeseg.evaluation.score import pick_cases
from edgeseg.training.loading import LoadedData, load_data, load_same_data
from edgeseg.training.options import TrainOptions
from edgeseg.training.run import TRAINING, RunRecord
from tests.discs import make_disc_data
from tests.networks import describe_network

SPEC = SplitSpec(seed=0, validation=0.2, test=0.2)
OPTIONS = TrainOptions(model="nano", size=32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Make data whose groups are named."""
    root = make_disc_data(tmp_path / "discs", 12)
    write_groups(root, [number // 2 for number in range(12)])
    return root


def write_groups(root: Path, groups: Sequence[int]) -> None:
    rows = [f"case_{number:02d},g{group}" for number, group in enumerate(groups)]
    (root / "groups.csv").write_text("\n".join(["stem,group", *rows]), encoding="utf-8")


def begin_record(loaded: LoadedData) -> RunRecord:
    output = describe_network({}).output
    return RunRecord(
        name="discs-nano",
        status=TRAINING,
        data="",
        data_fingerprint=fingerprint_dataset(loaded.dataset),
        split=loaded.split_spec,
        input=OPTIONS.input,
        output=output,
        spec=OPTIONS.describe_network(output.channels),
        options=OPTIONS,
        libraries={},
        edgeseg="0",
        split_fingerprint=fingerprint_split(loaded.split),
    )


def make_card(record: RunRecord) -> Card:
    return dataclasses.replace(describe_network({}), provenance=record.provenance("float32"))


def test_same_groups_are_taken_in_any_order(data: Path) -> None:
    loaded = load_data(data, SPEC)
    record = begin_record(loaded)
    lines = (data / "groups.csv").read_text(encoding="utf-8").splitlines()
    (data / "groups.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]), encoding="utf-8")
    assert load_same_data(data, record, data).split == loaded.split
    assert pick_cases(make_card(record), data, None).cases == loaded.split.test


def test_changed_groups_are_refused(data: Path) -> None:
    record = begin_record(load_data(data, SPEC))
    write_groups(data, [number // 3 for number in range(12)])
    with pytest.raises(DataError, match="groups or parts") as caught:
        load_same_data(data, record, data)
    assert "groups.csv" in caught.value.hint
    for part in (None, "train", "val", "test"):
        with pytest.raises(DataError, match="groups or parts"):
            pick_cases(make_card(record), data, part)
    assert len(pick_cases(make_card(record), data, "all").cases) == 12


def test_groups_of_an_older_run_and_card_are_not_known(data: Path) -> None:
    record = begin_record(load_data(data, SPEC))
    table = to_plain(record)
    del table["split_fingerprint"]
    old = from_plain(RunRecord, table)
    write_groups(data, [number // 3 for number in range(12)])
    assert load_same_data(data, old, data).split == load_data(data, SPEC).split
    assert pick_cases(make_card(old), data, None).part == "test"


def test_fingerprint_tells_every_change_of_a_division() -> None:
    first, second, third = (Case(f"c{number}", Path("x"), (), f"g{number}") for number in range(3))
    regrouped = dataclasses.replace(first, group="g1")
    splits = (
        Split((first,), (second,), (third,)),
        Split((second,), (first,), (third,)),
        Split((regrouped,), (second,), (third,)),
        Split((first,), (second,), ()),
    )
    assert len({fingerprint_split(split) for split in splits}) == 4
    assert fingerprint_split(Split((first, second), (), ())) == fingerprint_split(Split((second, first), (), ()))
