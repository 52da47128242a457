"""A search: what it varies, what is refused, which trials stand on the front, and what is said in the end."""

from __future__ import annotations

import csv
import shlex
import sys
from pathlib import Path

import pytest

from edgeseg.cli.common import need_search_packages
from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import MissingExtraError, UnknownNameError
from edgeseg.core.install import tell_install
from edgeseg.search.network_study import list_front, train_command, write_csv, write_markdown
from edgeseg.search.networks import SearchSpace, StudyPlan, TrialRow, find_front, parse_space, pick_trial
from edgeseg.search.trials import FAILED, FINISHED, RUNNING
from edgeseg.training.run import TrainOptions


def make_row(number: int, dice: float | None, macs: int | None, state: str = FINISHED) -> TrialRow:
    return TrialRow(number, state, "nano", 128, "half", "bce-dice", 2e-3, dice, macs)


def test_space_is_read_from_lists() -> None:
    space = parse_space("nano, micro", "64,128", "half,full", "dice", "1e-4,1e-2")
    assert space == SearchSpace(("nano", "micro"), (64, 128), ("half", "full"), ("dice",), (1e-4, 1e-2))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sizes": "64,x"}, "sizes.*'x'"),
        ({"sizes": "64,100"}, "100"),
        ({"sizes": "64,64"}, "differ"),
        ({"stems": "half,third"}, "third"),
        ({"learning_rates": "1e-2,1e-3"}, "0 < LO <= HI"),
        ({"learning_rates": "nan,1e-3"}, "0 < LO <= HI"),
        ({"learning_rates": "1e-3"}, "learning rates"),
    ],
)
def test_spaces_that_cannot_be_searched(changed: dict[str, str], said: str) -> None:
    given = {"models": "nano", "sizes": "64", "stems": "half", "losses": "bce", "learning_rates": "1e-4,1e-2"}
    with pytest.raises(ValueError, match=said):
        parse_space(**{**given, **changed})


def test_unknown_model_and_no_epochs() -> None:
    with pytest.raises(UnknownNameError, match="model size"):
        SearchSpace(models=("nano", "mirco"))
    with pytest.raises(ValueError, match="expected 1 to 100000 epochs"):
        StudyPlan(SearchSpace(), SplitSpec(0, 0.12, 0.15), epochs=0)


@pytest.mark.parametrize("rate", [0.0, -1e-3, float("inf"), float("nan")])
def test_learning_rate_of_a_training(rate: float) -> None:
    with pytest.raises(ValueError, match="learning rate"):
        TrainOptions(learning_rate=rate)


def test_front_holds_what_no_other_trial_beats() -> None:
    rows = [
        make_row(0, 0.80, 50),
        make_row(1, 0.70, 10),
        make_row(2, 0.79, 60),
        make_row(3, 0.70, 20),
        make_row(4, 0.90, 90),
        make_row(5, None, None, FAILED),
        make_row(6, None, None, RUNNING),
    ]
    front = find_front(rows)
    assert [row.number for row in front] == [1, 0, 4]
    assert pick_trial(front) == rows[4]


def test_equal_trials_stand_on_the_front_together() -> None:
    assert [row.number for row in find_front([make_row(0, 0.5, 10), make_row(1, 0.5, 10)])] == [0, 1]


def test_pick_of_equal_dice_has_least_work() -> None:
    assert pick_trial([make_row(0, 0.5, 20), make_row(1, 0.5, 10)]) == make_row(1, 0.5, 10)
    assert pick_trial(find_front([make_row(0, None, None, FAILED)])) is None


def test_command_trains_the_pick_on_the_same_division() -> None:
    split = SplitSpec(7, 0.12, 0.15, "plain", r"^(p\d+) ")
    command = train_command(Path("my data"), Path("studies/a"), split, make_row(0, 0.5, 10))
    words = shlex.split(command)
    assert words[:5] == ["edgeseg", "train", "my data", "--out", "studies/a-best"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options["--learning-rate"] == "0.002"
    assert (options["--seed"], options["--layout"], options["--group-pattern"]) == ("7", "plain", r"^(p\d+) ")


def test_tables_say_the_same() -> None:
    rows = [make_row(0, 0.5, 10_000_000), make_row(1, None, None, FAILED)]
    first, second = csv.DictReader(write_csv(rows).splitlines())
    assert (first["validation_dice"], first["macs"], second["state"], second["macs"]) == (
        "0.5",
        "10000000",
        "failed",
        "",
    )
    page = write_markdown(rows[:1], rows[0], "edgeseg train")
    assert f"| {' | '.join(list_front(rows[:1], rows[0])[0])} |" in page
    assert page.endswith("    edgeseg train\n")


def test_missing_optuna_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match="optuna") as caught:
        need_search_packages()
    assert tell_install("tune") in caught.value.hint
