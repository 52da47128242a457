"""A reference file with the times of a machine, and the comparison of later times with it.

Only times of the same machine, file, backend and number of threads are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgeseg.bench.measure import BenchResult, describe_host
from edgeseg.core.errors import EdgesegError
from edgeseg.core.files import write_json
from edgeseg.core.limits import TABLE_BYTES, read_regular
from edgeseg.core.schema import from_plain, parse_json, to_plain
from edgeseg.core.stats import Percentiles
from edgeseg.machine.boards import find_nearest_board, read_signs

SCHEMA = 1


@dataclass(frozen=True)
class ReferenceRow:
    """The times of one model file on one backend."""

    model: str
    sha256: str
    backend: str
    threads: int
    invoke_ms: Percentiles
    total_ms: Percentiles


@dataclass(frozen=True)
class Reference:
    """The contents of a reference file."""

    schema: int
    saved: str
    board: str | None
    host: dict[str, Any]
    rows: tuple[ReferenceRow, ...]


@dataclass(frozen=True)
class Comparison:
    """The median time of a frame before and now."""

    model: str
    backend: str
    threads: int
    before_ms: float
    now_ms: float
    ratio: float
    slower: bool
    """By more than the tolerance."""


def make_reference(results: Sequence[BenchResult]) -> Reference:
    """Make a reference from benchmark results."""
    rows = tuple(
        ReferenceRow(r.model, r.sha256, r.ran_as, r.threads, r.latency_ms["invoke"], r.latency_ms["total"])
        for r in results
    )
    today = datetime.now(timezone.utc).date().isoformat()
    return Reference(SCHEMA, today, name_machine()[0], results[0].host, rows)


def save_reference(path: Path, results: Sequence[BenchResult]) -> None:
    """Write a reference file."""
    write_json(path, to_plain(make_reference(results)))


def read_reference(path: Path) -> Reference:
    """Read a reference file of this machine."""
    try:
        reference = from_plain(Reference, parse_json(read_regular(path, TABLE_BYTES).decode("utf-8")))
    except (OSError, ValueError) as error:
        raise EdgesegError(
            f"Expected a reference of edgeseg bench in {path}, got: {error}.", "Write one with edgeseg bench --save."
        ) from error
    if reference.schema != SCHEMA:
        raise EdgesegError(
            f"Expected a reference of schema {SCHEMA} in {path}, got {reference.schema}.",
            "Write it again with edgeseg bench --save.",
        )
    here, there = name_machine(), (reference.board, reference.host.get("machine"), reference.host.get("cpu"))
    if here != there:
        raise EdgesegError(
            f"Expected a reference of this machine ({_list(here)}), got one of another ({_list(there)}).",
            "Times of two machines say nothing about a change; write one here with edgeseg bench --save.",
        )
    return reference


def name_machine() -> tuple[str | None, str, str]:
    """Name board, architecture and processor, which must be the same for a comparison; software may differ."""
    host = describe_host("")
    return find_nearest_board(read_signs()), host["machine"], host["cpu"]


def _list(parts: Sequence[str | None]) -> str:
    return ", ".join(str(part) for part in parts)


def compare_results(results: Sequence[BenchResult], reference: Reference, tolerance: float) -> list[Comparison]:
    """Compare times with a reference.

    Args:
        results: The times of now.
        reference: Of the same machine.
        tolerance: Share of the old time by which the new one may be longer.

    Raises:
        EdgesegError: The reference lacks one of these files, backends or threads.
    """
    # by hash: a file that was renamed is the same, one of the same name may be another
    kept = {(row.sha256, row.backend, row.threads): row for row in reference.rows}
    return [
        _compare(row, kept.get((row.sha256, row.backend, row.threads)), tolerance)
        for row in make_reference(results).rows
    ]


def _compare(now: ReferenceRow, then: ReferenceRow | None, tolerance: float) -> Comparison:
    if then is None:
        raise EdgesegError(
            f"Expected a row in the reference for {now.model} (sha256 {now.sha256[:12]}) on {now.backend} with "
            f"{now.threads} threads, got none.",
            "Compare the files, backends and threads that were saved, or save these with edgeseg bench --save.",
        )
    # medians: the tail of a run belongs to whatever else ran on the machine
    before, after = then.total_ms.p50, now.total_ms.p50
    if before <= 0:
        raise EdgesegError(
            f"Expected a time above 0 in the reference for {now.model}, got {before:g} ms.",
            "Write it again with edgeseg bench --save.",
        )
    ratio = after / before
    return Comparison(now.model, now.backend, now.threads, before, after, round(ratio, 3), ratio > 1.0 + tolerance)
