"""Do images without masks help where few are labelled? Scratch against `--unlabelled` and `pretrain`, case by case.

    python benchmarks/unlabelled.py DATA OUT [--share 0.1 0.25 1] [--seeds 0 1 2] [--steps 800]

folds.py trains and judges: five folds by group, of which a share of the training groups keeps its labels, drawn anew by
every seed. Test and validation cases are the same for all shares and recipes. Per fold and seed:

- scratch: the labelled images alone;
- unlabelled: mean teacher, with the training images that lost their labels; with all labels, the same images again;
- pretrained: as scratch, from an encoder that was pretrained on all training images of the fold without their masks;
  once for every fold, whatever the share and the seed.

All take as many labelled steps; pretraining takes as many again, and a step with unlabelled images twice the time. The
same command goes on with what was interrupted; more --share or --seeds add to what stands there.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from folds import read_share
from trained import write_results

from edgeseg.core.stats import show_interval
from edgeseg.data.dataset import open_dataset

FOLDS, SIZE, BATCH = 5, 128, 8
# Of five folds three train.
TRAINED_SHARE = (FOLDS - 2) / FOLDS
PRETRAINED = "pretrained"
HEADER = ("labels", "recipe", "seeds", "Dice", "against scratch, same cases", "Dice below 0.5", "training, min")


def plan_epochs(images: int, share: float, steps: int) -> int:
    """Plan the epochs that make about so many steps with the labelled images of a fold."""
    return max(1, round(steps / math.ceil(share * TRAINED_SHARE * images / BATCH)))


def list_recipes(images: int, share: float, steps: int) -> list[str]:
    """List the recipes of a share as folds.py takes them."""
    course = f"--size {SIZE} --batch {BATCH} --epochs {plan_epochs(images, share, steps)}"
    # all labels are there: then nothing is left over
    frames = "{rest}" if share < 1.0 else "{frames}"
    before = f"--size {SIZE} --batch {BATCH} --epochs {plan_epochs(images, 1.0, steps)}"
    return [
        *("--recipe", f"scratch={course}"),
        *("--recipe", f"unlabelled={course} --unlabelled {frames}"),
        *("--recipe", f"{PRETRAINED}={course} --init {{before}}"),
        *("--before", f"{PRETRAINED}=pretrain {{frames}} {before}"),
    ]


def share_pretraining(out: Path, share: float, seeds: Sequence[int]) -> None:
    """Let a share and its seeds start from the pretraining that each fold has already."""
    for fold in range(1, FOLDS + 1):
        made = sorted(out.glob(f"{PRETRAINED}/seed-*/before-{fold}/pretrain.json"))
        wanted = [out / PRETRAINED / f"seed-{seed}-share-{share:g}" / f"before-{fold}" for seed in seeds]
        for place in wanted if made else ():
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(made[0].parent.resolve())


def run_share(data: Path, out: Path, share: float, seeds: Sequence[int], steps: int) -> None:
    """Train and judge every recipe of a share, and write its table."""
    share_pretraining(out, share, seeds)
    recipes = list_recipes(len(open_dataset(data).cases), share, steps)
    command = [str(Path(__file__).parent / "folds.py"), str(data), str(out), *recipes]
    command += [
        "--folds",
        str(FOLDS),
        "--share",
        f"{share:g}",
        "--seeds",
        *map(str, seeds),
        "--name",
        name_share(share),
    ]
    subprocess.run([sys.executable, *command, "--title", f"{share:.0%} of the labels"], check=True)


def name_share(share: float) -> str:
    """Name the table of a share."""
    return f"share-{share:g}"


def list_rows(out: Path, share: float) -> list[list[str]]:
    """List the rows of a share, from what folds.py has written."""
    table = json.loads((out / f"{name_share(share)}.json").read_text(encoding="utf-8"))
    rows = []
    for row in table["recipes"]:
        figures, against = row["figures"], row["against_first"]
        gain = "" if row["name"] == "scratch" else _show(against.get("dice"), signed=True)
        cells = [f"{share:.0%}", row["name"], _count_seeds(row["recipe"]), _show(figures.get("dice")), gain]
        rows.append([*cells, _show(figures.get("missed")), f"{row['training_minutes']:.0f}"])
    return rows


def _count_seeds(described: str) -> str:
    found = [part.split()[0] for part in described.split("; ")[1:] if "seeds" in part]
    return found[0] if found else "1"


def _show(estimate: dict[str, Any] | None, signed: bool = False) -> str:
    if estimate is None:
        return ""
    low, high = estimate["ci95"]
    return f"{estimate['mean']:{'+' if signed else ''}.3f} ({show_interval((low, high), '.3f')})"


def main() -> None:
    """Run every share that is asked for, and write one table of all that stand there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=read_share, nargs="+", default=[0.1, 0.25, 1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=800)
    chosen = parser.parse_args()
    data, out = chosen.data.resolve(), chosen.out.resolve()
    known = [float(path.stem.removeprefix("share-")) for path in out.glob("share-*.json")]
    shares = sorted({*known, *chosen.share})
    for share in chosen.share:
        # the first seed pretrains, the others start from that
        for seeds in (chosen.seeds[:1], chosen.seeds):
            run_share(data, out, share, seeds, chosen.steps)
    written = [share for share in shares if (out / f"{name_share(share)}.json").is_file()]
    notes = (
        "# Images without masks",
        "",
        "    python benchmarks/unlabelled.py DATA OUT",
        "",
        f"`{data.name}`, {FOLDS} folds by group, {SIZE}x{SIZE}, about {chosen.steps} steps of {BATCH} labelled images,",
        "float32 files. Labels: the share of the training groups that keeps them. Every case is judged by the network",
        "that has not seen its group; differences are paired by case, in brackets 95% intervals over groups. An",
        "interval that holds zero says that these cases cannot tell.",
    )
    write_results(out, "unlabelled", notes, HEADER, [row for share in written for row in list_rows(out, share)])


if __name__ == "__main__":
    main()
