"""Work on many items in several threads, in their order and with few results in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")
# Items that wait or are finished for each thread: enough that none pauses while the results are used.
_AHEAD = 4


def count_threads() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_ahead(function: Callable[[T], S], items: Iterable[T], threads: int | None = None) -> Iterator[S]:
    """Call a function for every item in several threads; results come in the items' order, a few of them ahead.

    Args:
        function: What is called; it should spend its time in code that lets other threads run, such as decoding.
        items: The items; few of them are taken ahead.
        threads: How many; None is one for each core.
    """
    threads = threads or count_threads()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    running: deque[Future[S]] = deque()
    try:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) > threads * _AHEAD:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        # an exception, or a caller who stops: what was taken ahead is not begun any more
        pool.shutdown(wait=True, cancel_futures=True)
