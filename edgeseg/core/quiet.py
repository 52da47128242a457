"""Keep the chatter of native libraries off the terminal, and show it when something goes wrong."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

OUTPUTS = (1, 2)


@dataclass
class NativeLog:
    """What was written; there when the block has ended."""

    text: str = ""


@contextlib.contextmanager
def captured_native_output() -> Iterator[NativeLog]:
    """Hold back what C and C++ code writes to stdout and stderr, for one who knows what to look for in it."""
    _flush()
    kept, log = {output: os.dup(output) for output in OUTPUTS}, NativeLog()
    with tempfile.TemporaryFile() as file:
        for output in OUTPUTS:
            os.dup2(file.fileno(), output)
        try:
            yield log
        finally:
            _flush()
            for output, copy in kept.items():
                os.dup2(copy, output)
                os.close(copy)
            file.seek(0)
            log.text = file.read().decode("utf-8", "replace")


def _flush() -> None:
    """Empty Python's buffers and C's, which would come out after the block."""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)


@contextlib.contextmanager
def quiet_native_output() -> Iterator[None]:
    """Hold back what C and C++ code writes; it is shown on stderr after all when the block raises."""
    log = NativeLog()
    try:
        with captured_native_output() as log:
            yield
    except BaseException:
        os.write(2, log.text.encode("utf-8"))
        raise
