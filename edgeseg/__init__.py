"""edgeseg: train, compress and stream ultrasound segmentation on small boards."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeseg.streaming.api import stream

__all__ = ["__version__", "stream"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Load the stream when it is asked for: importing edgeseg alone stays light."""
    if name == "stream":
        return importlib.import_module("edgeseg.streaming.api").stream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
