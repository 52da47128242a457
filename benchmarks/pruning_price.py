"""Which price makes pruning faster: plain multiplications, or the work that kernels do for them?

    python benchmarks/pruning_price.py RUN

Takes a finished run, removes channels down to several shares of its multiplications with either price and times what is
left as int8 against the whole network, on one thread. Nothing is trained. Prints a table.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgeseg.compression.channels import choose_meter, wire_network
from edgeseg.compression.context import open_run, plan_distillation
from edgeseg.compression.pruning import MEASURES, find_removal, plan_removals

PRICES = ("macs", "work")
SHARES = (0.5, 0.4, 0.3, 0.2)


def main() -> None:
    """Print a table."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python benchmarks/pruning_price.py RUN")
    context = open_run(Path(sys.argv[1]))
    network = wire_network(context.record.spec, context.model)
    scores = MEASURES["taylor"](network, plan_distillation(context))
    macs, work, latency = (choose_meter(name, network) for name in ("macs", "work", "latency"))
    print(f"{'price':<8}{'asked':<8}{'macs left':<12}{'work left':<12}{'time left':<12}importance lost")
    for price in PRICES:
        plans = plan_removals(network.wiring, scores, price, network.wiring.keep_all())
        for share in SHARES:
            keep = find_removal(network, plans, macs, share)
            left = "".join(f"{meter(network, keep):<12.3f}" for meter in (macs, work, latency))
            print(f"{price:<8}{share:<8.2f}{left}{scores[~keep].sum() / scores.sum():.3f}", flush=True)


if __name__ == "__main__":
    main()
