"""Progress of long work: what is done, and how long the rest takes.

A program that uses edgeseg as a library sees no bar: progress goes to the logger of this module at the level INFO.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

Advance = Callable[[str], None]
# Lines in all; the shortest time between two, and the longest.
LINES, LINE_SECONDS, SILENT_SECONDS = 10, 2.0, 300.0
# How long the speed is averaged over; a shorter time would show no speed for steps that take a minute.
SPEED_SECONDS = 600.0
_DRAWN: ContextVar[Progress | None] = ContextVar("drawn", default=None)
_BARS: ContextVar[bool] = ContextVar("bars", default=False)
_LOG = logging.getLogger(__name__)


def ignore(note: str) -> None:
    """Take a step of progress without showing it."""


def allow_bars(allowed: bool) -> None:
    """Say whether progress may be drawn on stderr where that is a terminal; the command line allows it."""
    _BARS.set(allowed)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Advance]:
    """Show progress while the block runs; call what it yields after each step, with a note.

    Where bars are allowed, a terminal shows one with the time left, and one more below it for a bar inside the block.
    Otherwise a line is logged for each tenth of the steps, at most every two seconds, and at least every five minutes.
    """
    # below a bar, rich stands in for stderr, and before version 15 denies that it is a terminal
    draws = _BARS.get() and (_DRAWN.get() is not None or sys.stderr.isatty())
    with _draw_bar(title, total) if draws else _log_lines(title, total) as advance:
        yield advance


@contextmanager
def _draw_bar(title: str, total: int) -> Iterator[Advance]:
    outer = _DRAWN.get()
    with nullcontext(outer) if outer is not None else _open_display() as display:
        task = display.add_task(title, total=total, note="")
        try:
            yield lambda note: display.update(task, advance=1, note=note)
        finally:
            if outer is not None:
                display.remove_task(task)


@contextmanager
def _open_display() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(
        *columns, console=Console(stderr=True), refresh_per_second=5, speed_estimate_period=SPEED_SECONDS
    ) as display:
        token = _DRAWN.set(display)
        try:
            yield display
        finally:
            _DRAWN.reset(token)


@contextmanager
def _log_lines(title: str, total: int) -> Iterator[Advance]:
    done, start, last = 0, monotonic(), monotonic()

    def advance(note: str) -> None:
        nonlocal done, last
        done += 1
        silent = monotonic() - last
        tenth = done * LINES // total > (done - 1) * LINES // total
        if (tenth and silent > LINE_SECONDS) or silent > SILENT_SECONDS:
            last = monotonic()
            took = last - start
            left = f", about {took / done * (total - done):.0f} s left" if done < total else ""
            _LOG.info("%s", f"{title}: {done}/{total} after {took:.0f} s{left}  {note}".rstrip())

    yield advance
