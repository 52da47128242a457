"""Who sets the clock of this machine's cores: the kernel's governors, which decide how steady its times are."""

from __future__ import annotations

from pathlib import Path

from edgeseg.core.signs import ROOT, read_text

GOVERNORS = "sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"


def read_governors(root: Path = ROOT) -> tuple[str, ...]:
    """List the governors in use, each once; empty where the machine offers none to choose."""
    return tuple(sorted({read_text(path) for path in root.glob(GOVERNORS)} - {""}))
