"""The tables of peers.py: which file of a network counts, its figures, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from peer_side import FILES, UNET
from trained import describe_place, show_estimate, write_results

from edgeseg.core.files import write_json
from edgeseg.core.schema import to_plain
from edgeseg.core.stats import Estimate, estimate_any
from edgeseg.data.split import Split
from edgeseg.evaluation.score import ScoredCase

FOLDS, NEAR = 5, 0.02
# A Dice below this is a gross miss.
MISSED = 0.5
HEADER = (
    "network", "file", "Dice", "lesions missed", "empty images marked", "shown as found", "network ms", "float32 ms",
    "640x480 frame to mask ms", "file kB", "training min", "installed MB", "packages",
)  # fmt: skip
ALL = ("network", "file", "Dice", "validation Dice", "empty images marked", "network ms", "frame to mask ms", "file kB")


@dataclass
class Measured:
    """One file of a network, over all folds."""

    file: str
    test: list[ScoredCase] = field(default_factory=list)
    validation: list[ScoredCase] = field(default_factory=list)
    kilobytes: float = 0.0
    network_ms: float | None = None
    whole_ms: float | None = None
    failed: str = ""

    @property
    def dice(self) -> Estimate | None:
        """Average Dice over the test cases with something to find."""
        return _average(self.test, lambda case: case.mean("dice"), empty=False)

    @property
    def validation_dice(self) -> float:
        """The same on the validation cases; 0 where there are none."""
        found = _average(self.validation, lambda case: case.mean("dice"), empty=False)
        return 0.0 if found is None else found.mean


@dataclass
class Network:
    """A row of the table."""

    name: str
    files: dict[str, Measured]
    minutes: list[float] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    parameters: int | None = None
    chosen: str = ""
    kept: tuple[str, ...] = ()
    """Files that could be used as well: they are in float32, or have kept their Dice."""
    install: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What is asked for."""

    data: Path
    out: Path
    python: Path
    folds: tuple[int, ...]
    minutes: float
    size: int
    batch: int
    runs: int
    peers: tuple[str, ...]


def _average(cases: Sequence[ScoredCase], value: Callable[[ScoredCase], float], empty: bool) -> Estimate | None:
    chosen = [case for case in cases if case.empty == empty]
    return estimate_any([value(case) for case in chosen], [case.group for case in chosen])


def choose(network: Network) -> None:
    """Choose a peer's file: the fastest int8 one that keeps its Dice, or else the fastest one in float32."""
    timed = {name: one for name, one in network.files.items() if one.whole_ms is not None and one.test}
    if not timed:
        raise SystemExit(f"expected a file of {network.name} that runs, got none")
    whole = {name: one for name, one in timed.items() if FILES.get(name) == 32} or timed
    best = min(whole, key=lambda name: whole[name].network_ms or 0.0)
    least = whole[best].validation_dice - NEAR
    kept = {name: one for name, one in timed.items() if FILES.get(name) == 8 and one.validation_dice >= least}
    network.kept = (*whole, *kept)
    fast = {name: one for name, one in kept.items() if (one.network_ms or 0.0) < (whole[best].network_ms or 0.0)}
    network.chosen = min(fast, key=lambda name: fast[name].network_ms or 0.0) if fast else best


def show(estimate: Estimate | None, percent: bool = False) -> str:
    """Show a mean with its interval, or that there is none."""
    if estimate is None:
        return "-"
    if not percent:
        return show_estimate(estimate)
    interval = "" if estimate.ci95 is None else f" ({estimate.ci95[0]:.0%} to {estimate.ci95[1]:.0%})"
    return f"{estimate.mean:.0%}{interval}"


def name_install(network: Network) -> str:
    """Name what has to be installed for a peer's chosen file."""
    runtime = "openvino" if network.chosen.startswith("openvino") else "onnxruntime"
    return runtime if network.name == UNET else f"ultralytics, {runtime}"


def list_figures(network: Network) -> dict[str, Estimate | None]:
    """List the figures of a network's chosen file on the test cases."""
    cases = network.files[network.chosen].test
    decided = all(case.outcomes for case in cases)
    return {
        "dice": network.files[network.chosen].dice,
        "missed": _average(cases, lambda case: float(case.mean("dice") < MISSED), empty=False),
        "marked_empty": _average(cases, lambda case: float(bool(case.false_positives)), empty=True),
        "shown_empty": _average(cases, _is_shown, empty=True) if decided else None,
    }


def _is_shown(case: ScoredCase) -> float:
    return float(any(outcome.found for outcome in case.outcomes))


def make_row(network: Network) -> list[str]:
    """Put a network into cells."""
    one, figures, install = network.files[network.chosen], list_figures(network), network.install
    plain = [file.network_ms for name, file in network.files.items() if "float32" in name and file.network_ms]
    cuda = "" if install["mb"] == install["mb_without_cuda"] else f" ({install['mb_without_cuda']:.0f} without CUDA)"
    return [
        network.name,
        network.chosen,
        show(figures["dice"]),
        show(figures["missed"], percent=True),
        show(figures["marked_empty"], percent=True),
        show(figures["shown_empty"], percent=True),
        _show_ms(one.network_ms),
        _show_ms(min(plain, default=None)),
        _show_whole(network),
        f"{one.kilobytes:.0f}",
        f"{np.mean(network.minutes):.1f}",
        f"{install['mb']:.0f}{cuda}",
        str(install["packages"]),
    ]


def _show_ms(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.2f}"


def _show_whole(network: Network) -> str:
    """Show the time from a frame to its mask, of another file where that is faster."""
    best = min((network.chosen, *network.kept), key=lambda name: network.files[name].whole_ms or 0.0)
    return _show_ms(network.files[best].whole_ms) + ("" if best == network.chosen else f" with {best}")


def make_rows(network: Network) -> list[list[str]]:
    """Put all files of a network into cells."""
    rows = []
    for file, one in network.files.items():
        marked = _average(one.test, lambda case: float(bool(case.false_positives)), empty=True)
        held = f"{one.validation_dice:.3f}" if one.validation else "-"
        cells = [show(one.dice), held, show(marked, percent=True), _show_ms(one.network_ms), _show_ms(one.whole_ms)]
        rows.append([network.name, file, *(["failed"] * 6 if one.failed else [*cells, f"{one.kilobytes:.0f}"])])
    return rows


def write_tables(plan: Plan, networks: Sequence[Network], splits: Sequence[Split], told: Mapping[str, Any]) -> None:
    """Write both tables, and everything for other programs."""
    tests = [splits[fold - 1].test for fold in plan.folds]
    empty = len([case for case in networks[0].files[networks[0].chosen].test if case.empty])
    first = ["| " + " | ".join(cells) + " |" for cells in (HEADER, ["---"] * len(HEADER), *map(make_row, networks))]
    lengths = [
        f"{one.name} {one.parameters / 1e6:.2f} million{f', {np.mean(one.epochs):.0f} epochs' if one.epochs else ''}"
        for one in networks
        if one.parameters
    ]
    notes = [
        "# edgeseg and other small networks on the same images",
        "",
        "    python benchmarks/peers.py DATA OUT --python PEERS/bin/python "
        f"--ours NAME=FOLDS --fold {' '.join(map(str, plan.folds))} --minutes {plan.minutes:g}",
        "",
        f"{plan.data.name}, fold {', '.join(map(str, plan.folds))} of {FOLDS} by group: {sum(map(len, tests))} test",
        f"cases, {empty} of them empty. Input {plan.size}x{plan.size}, one processor, medians of {plan.runs} runs. The",
        f"peers trained for {plan.minutes:g} minutes each from random weights (none of ImageNet or COCO: nothing is",
        f"downloaded), with batches of {plan.batch} and the settings that come with them; more time and pretrained",
        "weights would help them. edgeseg trained as long as its folds took, which is longer where the table says so;",
        "networks with lite0 in their name start from ImageNet weights. Intervals are 95%, by group. A lesion is",
        "missed where Dice is below 0.5. Shown as found: the share of empty images on which edgeseg's file reports a",
        "finding by its own threshold; the peers have no such decision. Installed is what the file needs to run:",
        "edgeseg without its training packages, ultralytics with torch, without which it does not run.",
        f"Parameters: {'; '.join(lengths)}.",
        "",
        *first,
        "",
        f"Peers: Python {told['python']}, {', '.join(f'{name} {one}' for name, one in told['versions'].items())}.",
        "",
        "## Every file",
    ]  # fmt: skip
    write_results(plan.out, "peers", notes, ALL, [row for one in networks for row in make_rows(one)])
    write_json(plan.out / "peers.json", describe(plan, networks, told))


def describe(plan: Plan, networks: Sequence[Network], told: Mapping[str, Any]) -> dict[str, Any]:
    """Describe everything for other programs."""
    return {
        "measured": describe_place(),
        "data": plan.data.name,
        "folds": plan.folds,
        "minutes": plan.minutes,
        "size": plan.size,
        "batch": plan.batch,
        "peers": told,
        "networks": [
            {
                "name": one.name,
                "chosen": one.chosen,
                "figures": to_plain(list_figures(one)),
                "minutes": one.minutes,
                "epochs": one.epochs,
                "parameters": one.parameters,
                "install": one.install,
                "files": [
                    {
                        "file": file.file,
                        "dice": to_plain(file.dice),
                        "validation_dice": file.validation_dice if file.validation else None,
                        "network_ms": file.network_ms,
                        "whole_ms": file.whole_ms,
                        "kilobytes": file.kilobytes,
                        "failed": file.failed,
                    }
                    for file in one.files.values()
                ],
            }
            for one in networks
        ],
    }
