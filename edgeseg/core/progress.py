"""The one progress bar: what is done, how far, and how long it still takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[str], None]


def ignore(note: str) -> None:
    """Take a step of progress that nobody watches."""


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Advance]:
    """Show a bar on stderr while the block runs; the yielded call moves it one step on and says what is new."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=5) as progress:
        task = progress.add_task(title, total=total, note="")

        def advance(note: str = "") -> None:
            progress.update(task, advance=1, note=note)

        yield advance
