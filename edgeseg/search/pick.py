"""The pick: the trial to take, judged on the test cases at last, and the sentence where the promise does not hold."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.compress.gate import Gate, explain_gate
from edgeseg.compress.judge import PARENT, judge_files
from edgeseg.compress.make import name_file
from edgeseg.compress.variant import Variant
from edgeseg.core.files import staged_folder, write_bytes
from edgeseg.search.results import SearchRow
from edgeseg.search.trial import Bench
from edgeseg.train.run import MODEL

PICK = "pick"


@dataclass(frozen=True)
class Promise:
    """What the pick must hold: the time of one inference, median, and the Dice it may lose on the test cases."""

    budget_ms: float
    max_drop: float = 0.01

    def __post_init__(self) -> None:
        Gate(self.max_drop, self.budget_ms)

    @property
    def gate(self) -> Gate:
        """Give what the test cases decide; the time was decided when the pick was."""
        return Gate(self.max_drop)


def judge_pick(bench: Bench, run: Path, folder: Path, trial: Path, row: SearchRow) -> tuple[Variant, ...]:
    """Copy the pick's files, and judge them beside the float parent as a compression would.

    Args:
        bench: The run, opened.
        run: Its folder.
        folder: Where the files go; what stands there is replaced.
        trial: The folder of the picked trial.
        row: The picked trial.
    """
    recipe = row.choice.recipe
    with staged_folder(folder, overwrite=True) as growing:
        shutil.copytree(trial, growing, dirs_exist_ok=True)
        write_bytes(growing / name_file(PARENT), (run / MODEL).read_bytes())
        files = {name: growing / name_file(name) for name in (PARENT, recipe.name)}
        judged = judge_files(bench.shop, files, {recipe.name: recipe}, bench.threads)
    return tuple(judgement.variant for judgement in judged.values())


def explain_late(fastest: SearchRow, promise: Promise) -> str:
    """Say that no trial is fast enough, and what to do."""
    return (
        f"No trial stays within {promise.budget_ms:g} ms: the fastest, trial {fastest.number} ({fastest.name}), "
        f"needs {fastest.ms:.2f} ms (median); raise --budget-ms, or train a smaller model or size."
    )


def explain_loss(judged: Sequence[Variant], promise: Promise) -> str:
    """Say what the pick loses on the test cases where that is too much; empty where it is not."""
    pick = judged[-1]
    return "" if promise.gate.keeps_accuracy(pick) else explain_gate(pick, promise.gate)
