"""Which price makes pruning faster: plain multiplications, or the work that kernels do for them?

    python benchmarks/pruning_price.py RUN

Takes a finished run, removes channels down to several shares of its multiplications with either price and times what is
left as int8 against the whole network, on one thread. Nothing is trained. Prints a table.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgeseg.compress.costs import choose_meter
from edgeseg.compress.cut import wire_network
from edgeseg.compress.importance import MEASURES
from edgeseg.compress.lesson import plan_lesson
from edgeseg.compress.removal import find_removal, plan_removals
from edgeseg.compress.workshop import open_run

PRICES = ("macs", "work")
SHARES = (0.5, 0.4, 0.3, 0.2)


def main() -> None:
    """Print a table."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python benchmarks/pruning_price.py RUN")
    shop = open_run(Path(sys.argv[1]))
    network = wire_network(shop.record.spec, shop.model)
    scores = MEASURES["taylor"](network, plan_lesson(shop))
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
