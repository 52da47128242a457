"""How good are the defaults on real ultrasound? Each data set trained twice: with edgeseg and the tutorials' way.

    python benchmarks/real_data.py DATA OUT [SET ...]

DATA holds one folder per set, each in a layout that `edgeseg data check` knows. A set that was trained before is not
trained again. Writes OUT/real-data.md and .json; without SET all folders of DATA that hold images.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from plain_unet import EPOCHS as PLAIN_EPOCHS
from trained import mean_dice, score_run, show_estimate, train_once, write_results

from edgeseg.core.modelfile import read_model
from edgeseg.core.schema import from_plain
from edgeseg.core.stats import Estimate
from edgeseg.evaluation.score import ScoredCase, estimate_drop

HEADER = (
    "data",
    "test cases",
    "Dice, `edgeseg train DATA --model small`",
    "Dice, plain U-Net",
    "gain on the same cases",
    "95% surface distance, px",
    "head circumference error, mm",
    "parameters",
    "training, min",
    "s per epoch",
    "waiting for data",
    "peak memory, MB",
)
NOTES = (
    "# Real ultrasound",
    "",
    "    python benchmarks/real_data.py DATA OUT",
    "",
    "Split by group; means over test cases with something to find, intervals by bootstrap over groups. The plain",
    f"U-Net is `benchmarks/plain_unet.py`: the tutorials' recipe, {PLAIN_EPOCHS} epochs at 128x128 on the same cases.",
)


def train_plainly(data: Path, out: Path) -> list[ScoredCase]:
    """Train the tutorials' network in a process of its own, or take the scores that stand there."""
    if not out.is_file():
        subprocess.run([sys.executable, str(Path(__file__).with_name("plain_unet.py")), data, out], check=True)
    return [from_plain(ScoredCase, case) for case in json.loads(out.read_text(encoding="utf-8"))["cases"]]


def make_row(data: Path, out: Path) -> list[str]:
    """Train a set both ways and compare."""
    run = out / data.name
    record = train_once(data, run, ("--model", "small"))
    careful, plain = score_run(run, data), train_plainly(data, out / f"{data.name}-plain.json")
    evaluation: dict[str, Any] = record["evaluation"]
    head = evaluation.get("circumference_error_mm")
    timing = record["timing"]
    return [
        data.name,
        str(evaluation["cases"]),
        show_estimate(mean_dice(careful)),
        show_estimate(mean_dice(plain)),
        show_estimate(estimate_drop(careful, plain)),
        show_estimate(from_plain(Estimate, evaluation["hd95_px"]), 1),
        show_estimate(from_plain(Estimate, head), 2) if head else "",
        str(read_model(run / "model.tflite").card.parameters),
        f"{timing['seconds'] / 60:.1f}",
        f"{timing['seconds_per_epoch']:.1f}",
        f"{timing['waiting_share']:.1%}",
        f"{timing['peak_memory_mb']:.0f}",
    ]


def main() -> None:
    """Train every set and write the table."""
    root, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    names = sys.argv[3:] or sorted(path.name for path in root.iterdir() if (path / "images").is_dir())
    write_results(out, "real-data", NOTES, HEADER, [make_row(root / name, out) for name in names])


if __name__ == "__main__":
    main()
