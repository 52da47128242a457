"""A search for a network: its space, what is refused, the Pareto front, the pick, and the tables."""

from __future__ import annotations

import csv
import shlex
import sys
from pathlib import Path

import pytest

from edgeseg.cli.common import need_tune_packages
from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import UnknownNameError
from edgeseg.core.install import MissingExtraError, install_command
from edgeseg.search.networks import (
    NETWORKS,
    NetworkChoice,
    NetworkScore,
    NetworkTrial,
    SearchSpace,
    StudyPlan,
    parse_space,
    summarise_study,
    train_command,
)
from edgeseg.search.results import (
    FAILED,
    FINISHED,
    RUNNING,
    Trial,
    find_front,
    format_csv,
    format_markdown,
    list_front,
    pick_trial,
    to_json,
)
from edgeseg.training.options import TrainOptions

CHOICE = NetworkChoice("nano", 128, "half", "bce-dice", 2e-3)
OBJECTIVES = NETWORKS.objectives
SPLIT = SplitSpec(7, 0.12, 0.15, "plain", r"^(p\d+) ")


def make_row(number: int, dice: float | None, macs: int | None, state: str = FINISHED) -> NetworkTrial:
    score = None if dice is None or macs is None else NetworkScore(dice, macs)
    return Trial(number, state, CHOICE, score)


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


def test_front_holds_what_no_other_trial_dominates() -> None:
    rows = [
        make_row(0, 0.80, 50),
        make_row(1, 0.70, 10),
        make_row(2, 0.79, 60),
        make_row(3, 0.70, 20),
        make_row(4, 0.90, 90),
        make_row(5, None, None, FAILED),
        make_row(6, None, None, RUNNING),
    ]
    front = find_front(rows, OBJECTIVES)
    assert [row.number for row in front] == [1, 0, 4]
    assert pick_trial(front, OBJECTIVES) == rows[4]


def test_equal_trials_are_on_the_front_together() -> None:
    assert [row.number for row in find_front([make_row(0, 0.5, 10), make_row(1, 0.5, 10)], OBJECTIVES)] == [0, 1]


def test_pick_of_equal_dice_has_least_work() -> None:
    assert pick_trial([make_row(0, 0.5, 20), make_row(1, 0.5, 10)], OBJECTIVES) == make_row(1, 0.5, 10)
    assert pick_trial(find_front([make_row(0, None, None, FAILED)], OBJECTIVES), OBJECTIVES) is None


def test_command_trains_the_pick_on_the_same_division() -> None:
    command = train_command(Path("my data"), Path("studies/a"), SPLIT, CHOICE)
    words = shlex.split(command)
    assert words[:5] == ["edgeseg", "train", "my data", "--out", "studies/a-best"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options["--learning-rate"] == "0.002"
    assert (options["--seed"], options["--layout"], options["--group-pattern"]) == ("7", "plain", r"^(p\d+) ")


def test_tables_say_the_same() -> None:
    rows = [make_row(0, 0.5, 10_000_000), make_row(1, None, None, FAILED)]
    first, second = csv.DictReader(format_csv(rows, NETWORKS).splitlines())
    assert (first["validation_dice"], first["macs"], second["state"], second["macs"]) == (
        "0.5",
        "10000000",
        "failed",
        "",
    )
    report = summarise_study(Path("data"), Path("study"), StudyPlan(SearchSpace(), SPLIT), "abc", rows)
    page = format_markdown(report, NETWORKS)
    (cells,) = list_front(report, NETWORKS)
    assert cells == ["0 *", "nano", "128", "half", "bce-dice", "0.002", "10.0", "0.5000"]
    assert f"| {' | '.join(cells)} |" in page
    assert page.endswith(f"    {report.command}\n")
    failed = to_json(report, NETWORKS)["trials"][1]
    assert (failed["model"], failed["validation_dice"], failed["macs"], failed["seconds"]) == ("nano", None, None, None)


def test_missing_optuna_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match="optuna") as caught:
        need_tune_packages()
    assert install_command("tune") in caught.value.hint
