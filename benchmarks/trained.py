"""What the benchmarks on labelled images share: runs trained once through the command line, and tables of results."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgeseg.bench.measure import describe_host
from edgeseg.core.files import partial_path, write_json, write_text
from edgeseg.core.modelfile import read_model
from edgeseg.core.stats import Estimate, estimate_mean, show_interval
from edgeseg.evaluation.score import ScoredCase, score_part


def train_once(data: Path, run: Path, options: Sequence[str] = ()) -> dict[str, Any]:
    """Train with `edgeseg train`, go on with an interrupted training, or take the finished run that stands there.

    Returns:
        The content of run.json.
    """
    if not (run / "run.json").is_file():
        how = ["--resume"] if (partial_path(run) / "run.json").is_file() else options
        command = ["train", str(data), "--out", str(run), *how]
        print("edgeseg", *command, flush=True)
        subprocess.run([sys.executable, "-m", "edgeseg", *command], check=True)
    return dict(json.loads((run / "run.json").read_text(encoding="utf-8")))


def add_course(parser: argparse.ArgumentParser) -> None:
    """Let a table of many trainings ask for shorter ones."""
    parser.add_argument("--epochs", type=int, help="of every training; as edgeseg train has it where left out")
    parser.add_argument("--batch", type=int, help="of every training; as edgeseg train has it where left out")


def list_course(chosen: argparse.Namespace) -> list[str]:
    """List the options of edgeseg train that were asked for."""
    asked = {"--epochs": chosen.epochs, "--batch": chosen.batch}
    return [word for name, value in asked.items() if value for word in (name, str(value))]


def describe_course(chosen: argparse.Namespace) -> str:
    """Say how every training was run."""
    return " ".join(list_course(chosen)) or "as long as edgeseg train does"


def score_run(run: Path, data: Path) -> list[ScoredCase]:
    """Score a run's file on its own test cases."""
    return score_file(run / "model.tflite", data)


def score_file(path: Path, data: Path) -> list[ScoredCase]:
    """Score a model file on the test cases of the data it was trained on."""
    return score_part(read_model(path), data, "test")


def mean_dice(scored: Sequence[ScoredCase]) -> Estimate:
    """Average Dice over the cases with something to find."""
    filled = [case for case in scored if not case.empty]
    return estimate_mean([case.mean("dice") for case in filled], [case.group for case in filled])


def show_estimate(estimate: Estimate, digits: int = 3) -> str:
    """Show a mean with its interval."""
    return f"{estimate.mean:.{digits}f} ({show_interval(estimate.ci95, f'.{digits}f')})"


def describe_place() -> str:
    """Say when and on what a table was measured."""
    host = describe_host("LiteRT")
    day = datetime.now(timezone.utc).date().isoformat()
    return f"{day}, {host['cpu']} ({host['machine']}), {os.cpu_count()} cores, edgeseg {host['edgeseg']}"


def write_results(
    folder: Path, name: str, notes: Sequence[str], header: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    """Write a table as Markdown, and as JSON for other programs."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
    place = describe_place()
    text = "\n".join([*notes, "", *lines, "", f"Measured {place}.", ""])
    write_text(folder / f"{name}.md", text)
    write_json(
        folder / f"{name}.json", {"measured": place, "rows": [dict(zip(header, row, strict=True)) for row in rows]}
    )
    print(text)
