"""What does drawing heads as ellipses gain? One run's file, its masks drawn freely and as ellipses, on the same cases.

    python benchmarks/head_shape.py RUN DATA

Prints a line for the validation cases and one for the test cases.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from trained import mean_dice, show_estimate

from edgeseg.core.modelfile import read_model
from edgeseg.core.spec import SHAPES
from edgeseg.evaluation.score import ScoredCase, estimate_drop, score_part


def score_shape(path: Path, data: Path, part: str, shape: str) -> list[ScoredCase]:
    """Score the file on a part of the data, its masks drawn in a shape whatever its card says."""
    model = read_model(path)
    card = dataclasses.replace(model.card, output=dataclasses.replace(model.card.output, shape=shape))
    return score_part(dataclasses.replace(model, card=card), data, part)


def main() -> None:
    """Print a line for the validation cases, which the choice may look at, and one for the test cases."""
    run, data = Path(sys.argv[1]), Path(sys.argv[2])
    for part in ("val", "test"):
        free, ellipse = (score_shape(run / "model.tflite", data, part, shape) for shape in SHAPES)
        drawn = ", ".join(
            f"{shape} {show_estimate(mean_dice(scored), 4)}"
            for shape, scored in zip(SHAPES, (free, ellipse), strict=True)
        )
        print(f"{part}, {len(free)} cases: {drawn}, gain {show_estimate(estimate_drop(ellipse, free), 4)}")


if __name__ == "__main__":
    main()
