"""Which channels matter? Prune one run by each measure of importance, to the same budgets with the same epochs.

    python benchmarks/pruning_importance.py RUN [EPOCHS [SEEDS]]

RUN is a finished run; EPOCHS (2) is how long each of the four steps trains, and four times as long the recovery; SEEDS
(2) is how often that is done. Each figure is the float network's Dice on the run's test cases: first after one cut
without any training, then after steps and recovery, mean over the seeds with the smallest and largest.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgeseg.compress.costs import choose_meter
from edgeseg.compress.cut import Network, cut_network, wire_network
from edgeseg.compress.importance import MEASURES
from edgeseg.compress.lesson import Lesson, plan_lesson
from edgeseg.compress.prune import SAVED, prune_network
from edgeseg.compress.recipe import PruneStep
from edgeseg.compress.removal import find_removal, plan_removals
from edgeseg.compress.steps import StepStore
from edgeseg.compress.workshop import open_run
from edgeseg.train.arrays import GridArrays, grid_dice, to_grid, to_reals
from edgeseg.train.pipeline import shrink_masks

BUDGETS = (("macs", 0.5), ("parameters", 0.15))


def measure_dice(network: Network, test: GridArrays) -> float:
    """Measure the Dice on the network's own grid."""
    drawn = network.model.predict(to_reals(test.images), batch_size=16, verbose=0)
    shrink = test.masks.shape[1] // drawn.shape[1]
    return grid_dice(drawn, (shrink_masks(test.masks, shrink) > 0.5).astype(np.uint8))


def cut_at_once(network: Network, lesson: Lesson, measure: str, budget: str, share: float) -> Network:
    """Remove everything at once and train nothing."""
    plans = plan_removals(network.wiring, MEASURES[measure](network, lesson), SAVED[budget], network.wiring.keep_all())
    return cut_network(network, find_removal(network, plans, choose_meter(budget, network), share))


def prune_once(parent: Network, step: PruneStep, lesson: Lesson) -> Network:
    """Prune in steps, with recovery."""
    with TemporaryDirectory() as folder:
        return prune_network(parent.spec, parent.model, step, lesson, StepStore(Path(folder)))


def main() -> None:
    """Print a table."""
    if len(sys.argv) < 2:
        raise SystemExit("usage: python benchmarks/pruning_importance.py RUN [EPOCHS [SEEDS]]")
    epochs, seeds = map(int, [*sys.argv[2:], *"22"][:2])
    shop = open_run(Path(sys.argv[1]))
    parent, lesson = wire_network(shop.record.spec, shop.model), plan_lesson(shop)
    test = to_grid(shop.data.part("test"), shop.record.input)
    print(f"parent: Dice {measure_dice(parent, test):.4f}")
    print(f"{'budget':<18}{'measure':<10}{'one cut':<10}{'after recovery'}")
    for (budget, share), measure in ((pair, measure) for pair in BUDGETS for measure in MEASURES):
        step = PruneStep(epochs, 4 * epochs, 5e-4, 0.5, importance=measure, **{budget: share})
        at_once = measure_dice(cut_at_once(parent, lesson, measure, budget, share), test)
        lessons = [dataclasses.replace(lesson, seed=seed) for seed in range(seeds)]
        pruned = [prune_once(parent, step, taught) for taught in lessons]
        dice = [measure_dice(network, test) for network in pruned]
        name = f"{share:g} of {budget}"
        print(
            f"{name:<18}{measure:<10}{at_once:<10.4f}{np.mean(dice):.4f} ({min(dice):.4f} to {max(dice):.4f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
