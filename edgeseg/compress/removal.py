"""Which channels go, and in which order: always eight of one group, the least important ones for what they cost."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np

from edgeseg.compress.channels import Group, Keep, Numbers, Wiring
from edgeseg.compress.costs import Meter, count_costs
from edgeseg.compress.cut import Network
from edgeseg.compress.importance import Scores

BLOCK = 8
"""Widths are multiples of it where the network's were, and never less: kernels compute on so many channels at once."""


def plan_removals(wiring: Wiring, scores: Scores, cost: str, start: Keep) -> list[Keep]:
    """Plan every removal there can be, one block at a time; the first entry is the start, the last keeps the least.

    Args:
        wiring: The network's channels.
        scores: How much every channel matters.
        cost: What a removal is to save, "parameters" or "work".
        start: The channels there still are.
    """
    plans = [start]
    while blocks := list(_list_blocks(wiring.groups, scores, plans[-1])):
        before = getattr(count_costs(wiring, plans[-1]), cost)
        left = [_remove(plans[-1], block) for block in blocks]
        prices = [
            scores[block].sum() / (before - getattr(count_costs(wiring, keep), cost))
            for block, keep in zip(blocks, left, strict=True)
        ]
        plans.append(left[int(np.argmin(prices))])
    return plans


def keep_least(wiring: Wiring) -> Keep:
    """Keep no more channels than every group must keep."""
    keep = wiring.keep_all()
    for group in wiring.groups:
        keep[group.channels[BLOCK:]] = False
    return keep


def find_removal(network: Network, plans: Sequence[Keep], meter: Meter, share: float) -> Keep:
    """Find the first plan that costs no more than a share; the last one where none does."""
    index = bisect_left(range(len(plans) - 1), True, key=lambda number: meter(network, plans[number]) <= share)
    return plans[index]


def _list_blocks(groups: Sequence[Group], scores: Scores, keep: Keep) -> Iterator[Numbers]:
    """List the weakest channels of every group that can spare some, so many that a multiple of eight is left."""
    for group in groups:
        left = group.channels[keep[group.channels]]
        count = len(left) % BLOCK or BLOCK
        if len(left) - count >= BLOCK:
            yield left[np.argsort(scores[left], kind="stable")[:count]]


def _remove(keep: Keep, block: Numbers) -> Keep:
    left = keep.copy()
    left[block] = False
    return left
