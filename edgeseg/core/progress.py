"""The one progress bar: what is done, how far, and how long it still takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

Advance = Callable[[str], None]
LINES, LINE_SECONDS = 10, 2.0


def ignore(note: str) -> None:
    """Take a step of progress that nobody watches."""


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Advance]:
    """Show progress on stderr while the block runs; the yielded call goes one step on and says what is new.

    A terminal gets a bar with the time left; a log file gets a line for every tenth of the way, where that takes long.
    """
    with _draw_bar(title, total) if sys.stderr.isatty() else _write_lines(title, total) as advance:
        yield advance


@contextmanager
def _draw_bar(title: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=5) as progress:
        task = progress.add_task(title, total=total, note="")
        yield lambda note: progress.update(task, advance=1, note=note)


@contextmanager
def _write_lines(title: str, total: int) -> Iterator[Advance]:
    done, start, last = 0, monotonic(), monotonic()

    def advance(note: str) -> None:
        nonlocal done, last
        done += 1
        if done * LINES // total > (done - 1) * LINES // total and monotonic() - last > LINE_SECONDS:
            last = monotonic()
            took = last - start
            left = f", about {took / done * (total - done):.0f} s left" if done < total else ""
            print(f"{title}: {done}/{total} after {took:.0f} s{left}  {note}".rstrip(), file=sys.stderr, flush=True)

    yield advance
