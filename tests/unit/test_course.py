"""What a training decides from its history: the rate, when to stop, and the same again after an interruption."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeseg.core.schema import list_options
from edgeseg.training.loop import (
    LOWEST,
    STALL,
    TrainingSchedule,
    count_reductions,
)
from edgeseg.training.options import FEWEST_EPOCHS, MOST_EPOCHS, STEPS, TrainOptions, plan_epochs, plan_longer
from edgeseg.training.validation import (
    EpochCost,
    EpochResult,
    Judgement,
    best_result,
    make_result,
    read_history,
    summarise_timing,
    write_history,
)


def tell(*dice: float) -> list[EpochResult]:
    return [EpochResult(number, 1.0, value) for number, value in enumerate(dice, start=1)]


def test_the_rate_warms_up_and_is_halved_at_every_stall() -> None:
    training_schedule = TrainingSchedule(100, 0.8, "plateau")
    assert [training_schedule.plateau_rate(tell(*range(count))) for count in (0, 1, 2, 3)] == pytest.approx(
        [0.8 / 3, 1.6 / 3, 0.8, 0.8]
    )
    stalled = tell(0.1, 0.2, 0.9, *[0.5] * STALL)
    assert training_schedule.plateau_rate(stalled[:-1]) == 0.8
    assert training_schedule.plateau_rate(stalled) == 0.4
    assert training_schedule.plateau_rate(tell(0.9, *[0.5] * 2 * STALL)) == 0.2
    assert training_schedule.plateau_rate(tell(0.9, *[0.5] * 50 * STALL)) == 0.8 * LOWEST


def test_a_better_epoch_begins_the_waiting_anew() -> None:
    assert count_reductions(tell(0.5, *[0.4] * (STALL - 1), 0.6, *[0.4] * (STALL - 1))) == 0


def test_patience_ends_a_training_and_none_does_not() -> None:
    history = tell(0.5, 0.6, 0.6, 0.4)
    assert TrainingSchedule(9, 0.1, patience=2).stops_early(history)
    assert not TrainingSchedule(9, 0.1, patience=3).stops_early(history)
    assert not TrainingSchedule(9, 0.1).stops_early(history)
    assert not TrainingSchedule(9, 0.1, patience=1).stops_early([])


def test_history_comes_back_as_it_was(tmp_path: Path) -> None:
    costs = (EpochCost(0.1234567, 0.00123456, 1.23456, 0.2), EpochCost(0.1, 2e-9, 0.7, 0.1))
    history = [make_result(number, cost, Judgement(1 / 3), 0.5) for number, cost in enumerate(costs, start=1)]
    write_history(tmp_path, history)
    assert read_history(tmp_path) == history
    assert best_result(history).epoch == 1


def test_a_single_peak_is_not_the_best_epoch() -> None:
    history = tell(0.1, 0.6, 0.2, 0.5, 0.55, 0.5)
    assert best_result(history).epoch == 2
    assert best_result(history, window=3).epoch == 6
    assert (TrainingSchedule(100, 0.1).window, TrainingSchedule(8, 0.1).window) == (10, 1)


@pytest.mark.parametrize(("images", "epochs"), [(584, 100), (456, 128), (145, 383), (10, 400), (5000, 50)])
def test_few_images_are_seen_more_often(images: int, epochs: int) -> None:
    assert plan_epochs(images, batch=8) == epochs


def test_a_longer_training_has_at_least_the_usual_epochs() -> None:
    assert [plan_longer(epochs, 145, batch=8) for epochs in (2, 300)] == [383, 600]
    assert plan_longer(7, 0, batch=8) == 14


@pytest.mark.parametrize(
    ("options", "images", "side"),
    [
        (TrainOptions(), 456, 128),
        (TrainOptions(), 145, 256),
        (TrainOptions(size=288), 300, 160),
        (TrainOptions(size=224), 456, 224),
        (TrainOptions(size=224, first_size=96), 145, 96),
        (TrainOptions(encoder="lite0"), 456, 256),
    ],
)
def test_the_first_epochs_of_many_images_see_half_of_the_size(options: TrainOptions, images: int, side: int) -> None:
    assert options.plan_first_size(images) == side


def test_images_cannot_shrink() -> None:
    with pytest.raises(ValueError, match="first_size"):
        TrainOptions(size=64, first_size=96)


def test_help_says_how_many_epochs_are_planned() -> None:
    text = next(spec.help for field, spec in list_options(TrainOptions) if field.name == "epochs")
    assert f"{FEWEST_EPOCHS} to {MOST_EPOCHS}, for about {STEPS:,} steps" in text


def test_history_of_an_older_run_is_read(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("epoch,loss,validation_dice\n1,0.5,0.25\n", encoding="utf-8")
    assert read_history(tmp_path) == [EpochResult(1, 0.5, 0.25)]


def test_waiting_is_told_against_all_the_time() -> None:
    history = [
        make_result(1, EpochCost(1.0, 0.1, 3.0, 2.0), Judgement(0.5), 1.0),
        make_result(2, EpochCost(1.0, 0.1, 3.0), Judgement(0.5), 1.0),
    ]
    timing = summarise_timing(history, 100.0)
    assert (timing.seconds_per_epoch, timing.waiting_share) == (4.0, 0.25)


@pytest.mark.parametrize(
    "option",
    [
        {"schedule": "step"},
        {"precision": "float16"},
        {"strategy": "two"},
        {"class_weights": "all"},
        {"patience": 0},
        {"batch": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
    ],
)
def test_options_that_do_not_check_out(option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"^expected"):
        TrainOptions(**option)  # type: ignore[arg-type]
