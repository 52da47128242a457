"""The pick: the trial to take, reported on the test cases at last, and the command that makes its file again."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from edgeseg.compress.judge import Judgement, judge_files
from edgeseg.compress.make import RECIPES, name_file
from edgeseg.compress.recipe import PARENT
from edgeseg.core.files import staged_folder, write_bytes
from edgeseg.core.marks import MARK
from edgeseg.search.results import SearchRow
from edgeseg.search.trial import Bench
from edgeseg.train.run import MODEL

PICK = "pick"


def name_compression(run: Path, out: Path, trial: Path, row: SearchRow) -> str:
    """Name the command that makes a trial's file again."""
    recipe = trial / RECIPES / f"{row.name}.toml"
    return shlex.join(["edgeseg", "compress", str(run), "--out", f"{out}-again", "--recipe", str(recipe)])


def judge_pick(bench: Bench, run: Path, folder: Path, trial: Path, row: SearchRow) -> tuple[Judgement, ...]:
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
        shutil.copytree(trial, growing, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MARK))
        write_bytes(growing / name_file(PARENT), (run / MODEL).read_bytes())
        files = {name: growing / name_file(name) for name in (PARENT, recipe.name)}
        judged = judge_files(bench.shop, files, {recipe.name: recipe}, bench.threads)
    return tuple(judged.values())
