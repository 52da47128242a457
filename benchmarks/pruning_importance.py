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

from edgeseg.compression.channels import Network, choose_meter, cut_network, wire_network
from edgeseg.compression.context import DistillationData, open_run, plan_distillation
from edgeseg.compression.pruning import MEASURES, SAVED, StepStore, find_removal, plan_removals, prune_network
from edgeseg.compression.recipe import PruneStep
from edgeseg.training.grids import GridArrays, to_grid
from edgeseg.training.validation import Validator

BUDGETS = (("macs", 0.5), ("parameters", 0.15))


def measure_dice(network: Network, test: GridArrays) -> float:
    """Measure the Dice on the network's own grid."""
    return Validator(test, network.model).dice(network.model)


def cut_at_once(network: Network, distillation: DistillationData, measure: str, budget: str, share: float) -> Network:
    """Remove everything at once and train nothing."""
    plans = plan_removals(
        network.wiring, MEASURES[measure](network, distillation), SAVED[budget], network.wiring.keep_all()
    )
    return cut_network(network, find_removal(network, plans, choose_meter(budget, network), share))


def prune_once(parent: Network, step: PruneStep, distillation: DistillationData) -> Network:
    """Prune in steps, with recovery."""
    with TemporaryDirectory() as folder:
        return prune_network(parent.spec, parent.model, step, distillation, StepStore(Path(folder)))


def main() -> None:
    """Print a table."""
    if len(sys.argv) < 2:
        raise SystemExit("usage: python benchmarks/pruning_importance.py RUN [EPOCHS [SEEDS]]")
    epochs, seeds = map(int, [*sys.argv[2:], *"22"][:2])
    context = open_run(Path(sys.argv[1]))
    parent, distillation = wire_network(context.record.spec, context.model), plan_distillation(context)
    test = to_grid(context.data.part("test"), context.record.input)
    print(f"parent: Dice {measure_dice(parent, test):.4f}")
    print(f"{'budget':<18}{'measure':<10}{'one cut':<10}{'after recovery'}")
    for (budget, share), measure in ((pair, measure) for pair in BUDGETS for measure in MEASURES):
        step = PruneStep(epochs, 4 * epochs, 5e-4, 0.5, importance=measure, **{budget: share})
        at_once = measure_dice(cut_at_once(parent, distillation, measure, budget, share), test)
        seeded = [dataclasses.replace(distillation, seed=seed) for seed in range(seeds)]
        pruned = [prune_once(parent, step, one) for one in seeded]
        dice = [measure_dice(network, test) for network in pruned]
        name = f"{share:g} of {budget}"
        print(
            f"{name:<18}{measure:<10}{at_once:<10.4f}{np.mean(dice):.4f} ({min(dice):.4f} to {max(dice):.4f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
