"""A training that diverges, meets a full disk or is interrupted: it is told, and what was good is kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.errors import OutputError, TrainingError
from edgeseg.core.files import explained_writes
from edgeseg.model.keras import keras
from edgeseg.model.losses import find_loss
from edgeseg.model.spec import UNetSpec
from edgeseg.model.unet import build_unet
from edgeseg.training import loop as courses
from edgeseg.training.ema import WeightEma
from edgeseg.training.grids import GridArrays
from edgeseg.training.hardware import computing_in
from edgeseg.training.loading import Feed
from edgeseg.training.loop import TrainingSchedule, build_optimizer, fit_model
from edgeseg.training.resume import Checkpoint
from edgeseg.training.validation import (
    EpochCost,
    EpochEvaluator,
    EpochResult,
    Judgement,
    RunLog,
    draw_curve,
    read_history,
    write_history,
)
from tests.commands import full_disk, read_files

pytestmark = pytest.mark.integration

SPEC = UNetSpec(16, 16, 1, 1, "sigmoid", (4, 4), dropout=0.0)
OnResult = Callable[[EpochResult], None]


class BrokenFeed(Feed):
    """From the second epoch on, masks hold what is no number."""

    def make_case(self, epoch: int, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        image, masks = super().make_case(epoch, number)
        return image, masks if epoch < 1 else masks * np.float32("nan")


class Workbench:
    """A tiny training in a folder, begun or continued."""

    def __init__(self, folder: Path, training_schedule: TrainingSchedule, feed: type[Feed] = Feed) -> None:
        keras.utils.set_random_seed(1)
        random = np.random.default_rng(0)
        masks = np.zeros((8, 16, 16, 1), np.uint8)
        masks[:, 4:12, 4:12] = 1
        arrays = GridArrays((random.integers(0, 90, masks.shape) + 120 * masks).astype(np.uint8), masks)
        self.folder, self.training_schedule, self.feed = folder, training_schedule, feed(arrays, 4, 0, 1, None)
        self.model, self.ema_model = build_unet(SPEC), build_unet(SPEC)
        self.model.compile(build_optimizer(training_schedule, self.feed.steps), find_loss("bce-dice"))
        self.evaluator = EpochEvaluator("Training", self.model, self.ema_model, arrays, folder / "weights.h5")
        self.checkpoint = Checkpoint(folder, folder, self.model, self.evaluator.ema)

    def run(self, on_result: OnResult) -> EpochResult:
        with explained_writes(self.folder):
            return fit_model(
                self.model,
                self.feed,
                self.evaluator,
                self.training_schedule,
                checkpoint=self.checkpoint,
                on_result=on_result,
            )


def ignore(_: EpochResult) -> None:
    pass


def is_finite(average: WeightEma, twin: object) -> bool:
    average.copy_to(twin)
    return all(np.isfinite(weight).all() for weight in twin.get_weights())  # type: ignore[attr-defined]


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_what_was_good(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, TrainingSchedule(4, 1e-3), BrokenFeed)
    with pytest.raises(TrainingError, match=r"nan.*batch 1 .*epoch 2") as caught:
        bench.run(ignore)
    assert "--learning-rate" in caught.value.hint
    assert is_finite(bench.evaluator.ema, bench.ema_model)
    assert [row.epoch for row in read_history(tmp_path)] == [1]
    assert (tmp_path / "weights.h5").is_file()
    again = Workbench(tmp_path, TrainingSchedule(4, 1e-3))
    assert again.checkpoint.restore() == 1
    assert is_finite(again.evaluator.ema, again.ema_model)


def test_a_rate_far_too_high_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="loss"):
        Workbench(tmp_path, TrainingSchedule(3, 1e30, "plateau")).run(ignore)
    assert not (tmp_path / "checkpoint").exists()


def test_a_full_disk_is_told_and_the_training_goes_on_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Workbench(tmp_path, TrainingSchedule(4, 1e-3))
    save = bench.checkpoint.save

    def save_on_full_disk(epoch: int) -> None:
        with full_disk() if epoch == 3 else nullcontext():
            save(epoch)

    monkeypatch.setattr(bench.checkpoint, "save", save_on_full_disk)
    with pytest.raises(OutputError, match="File too large") as caught:
        bench.run(ignore)
    assert "disk" in caught.value.hint
    assert {path.name.split(".")[0] for path in (tmp_path / "checkpoint").iterdir()} == {"checkpoint", "ckpt-2"}

    again = Workbench(tmp_path, TrainingSchedule(4, 1e-3))
    again.run(ignore)
    assert [row.epoch for row in read_history(tmp_path)] == [1, 2, 3, 4]


@pytest.mark.parametrize("room", [20, 10_000])
def test_a_full_disk_leaves_the_last_weights_whole(tmp_path: Path, room: int) -> None:
    bench = Workbench(tmp_path, TrainingSchedule(1, 1e-3))
    bench.run(ignore)
    before = read_files(tmp_path)
    bench.evaluator.history.clear()
    with full_disk(room), pytest.raises(OutputError, match=r"weights\.h5.*File too large"):
        bench.evaluator.evaluate(1, EpochCost(loss=0.5))
    assert read_files(tmp_path) == before


def test_a_full_disk_leaves_the_last_history_whole(tmp_path: Path) -> None:
    history = [EpochResult(1, 0.5, 0.5)]
    write_history(tmp_path, history)
    before = read_files(tmp_path)
    with full_disk(20), pytest.raises(OutputError):
        write_history(tmp_path, [*history, EpochResult(2, 0.4, 0.6)])
    assert read_files(tmp_path) == before


def test_plateau_and_patience_are_the_same_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courses, "STALL", 2)
    (tmp_path / "whole").mkdir()
    (tmp_path / "parted").mkdir()

    def open_bench(part: str) -> Workbench:
        """Open a training of which the second epoch is the best."""
        bench = Workbench(tmp_path / part, TrainingSchedule(10, 0.3, "plateau", patience=6))

        def judge(_: object) -> Judgement:
            return Judgement(0.5 if len(bench.evaluator.history) == 1 else 0.1)

        monkeypatch.setattr(bench.evaluator._validator, "judge", judge)
        return bench

    open_bench("whole").run(ignore)

    def stop(result: EpochResult) -> None:
        if result.epoch == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_bench("parted").run(stop)
    open_bench("parted").run(ignore)
    whole, parted = (
        [(row.epoch, row.learning_rate, row.loss) for row in read_history(tmp_path / part)]
        for part in ("whole", "parted")
    )
    assert parted == whole
    assert len(whole) == 8
    assert [rate for _, rate, _ in whole[3:]] == pytest.approx([0.3, 0.15, 0.15, 0.075, 0.075])


def test_logs_and_curve_show_the_history(tmp_path: Path) -> None:
    from edgeseg.model.keras import tf

    history = [EpochResult(number, 1.0 / number, 0.2 * number, 1e-3, 1.0, 0.1) for number in (1, 2, 3)]
    for part in (history[:2], history[2:]):
        log = RunLog(tmp_path)
        for row in part:
            log.write(row)
    seen = [
        (value.tag, event.step, float(tf.make_ndarray(value.tensor)))
        for path in sorted((tmp_path / "logs").iterdir())
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    ]
    dice = {step: value for tag, step, value in seen if tag == "validation_dice"}
    assert dice == pytest.approx({row.epoch: row.validation_dice for row in history})
    draw_curve(tmp_path, history, history[-1])
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"


def test_mixed_precision_keeps_float32_weights_and_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeseg.training import hardware

    monkeypatch.setattr(hardware, "_read_capabilities", lambda: ((8, 0),))
    with computing_in("mixed"):
        model = build_unet(SPEC)
        model.compile(build_optimizer(TrainingSchedule(1, 1e-3), 2), find_loss("dice"))
    assert keras.mixed_precision.global_policy().name == "float32"
    assert type(model.optimizer).__name__.startswith("LossScale")
    assert model.get_layer("head").compute_dtype == "float16"
    assert {weight.dtype.name for weight in model.weights} == {"float32"}
    assert model.output.dtype.name == "float32"
    build_unet(SPEC).set_weights(model.get_weights())


def test_mixed_precision_is_refused_where_nothing_has_it() -> None:
    from edgeseg.training.hardware import find_mixed_policy

    assert find_mixed_policy(frozenset({"amx_bf16"}), ()) == "mixed_bfloat16"
    for flags, gpus in ((frozenset[str](), ()), (frozenset({"avx512_bf16"}), ((6, 1),))):
        with pytest.raises(TrainingError, match="--precision mixed"):
            find_mixed_policy(flags, gpus)
