"""Train the folds of a data set one by one, with or without teachers: for each fold its own runs.

    python benchmarks/distil.py DATA OUT --model micro --epochs 60 --batch 16 [--teachers FOLDS ...]

Fold k follows FOLDS/fold-k of every folder, the mean of what they draw: networks that were trained on the same cases as
it will be, of another size or seed. Finished folds stay, and an interrupted one goes on. OUT is then a recipe for
folds.py (--done NAME=OUT).
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from edgeseg.core.files import partial_path
from edgeseg.model.keras import keras
from edgeseg.training.options import TrainOptions
from edgeseg.training.resume import has_checkpoint
from edgeseg.training.trainer import plain_split, resume_run, train_run


def train_fold(data: Path, out: Path, options: TrainOptions, teachers: list[Path], folds: int, fold: int) -> None:
    """Train a fold, counted from 0, or go on with it.

    Args:
        data: Labelled images.
        out: The folder of all folds.
        options: What is trained.
        teachers: Folders of folds, trained on the same division.
        folds: How many folds there are.
        fold: Which one.
    """
    name = f"fold-{fold + 1}"
    run = out / name
    if run.is_dir():
        return
    print(f"{run}: begins", flush=True)
    if has_checkpoint(partial_path(run)):
        resume_run(data, run)
        return
    # one division for all seeds of the weights
    split = dataclasses.replace(plain_split(0), folds=folds, fold=fold)
    train_run(data, run, options, overwrite=True, split=split, teachers=[folder / name for folder in teachers])


def main() -> None:
    """Train all folds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--teachers", type=Path, nargs="*", default=[])
    parser.add_argument("--model", default="small")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folds", type=int, default=5)
    chosen = parser.parse_args()
    options = TrainOptions(model=chosen.model, epochs=chosen.epochs, batch=chosen.batch, seed=chosen.seed)
    chosen.out.mkdir(parents=True, exist_ok=True)
    for fold in range(chosen.folds):
        train_fold(chosen.data, chosen.out, options, chosen.teachers, chosen.folds, fold)
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
