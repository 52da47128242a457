"""How hot this machine is and whether it slows down for it: the one place that reads the kernel's thermal files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
_CAPPED_THROTTLED_OR_SOFT_LIMIT = 0b1110
_COOLED_BY_CLOCK = ("cpufreq", "Processor")


@dataclass(frozen=True)
class Thermal:
    """The hottest sensor, and whether the clock is lowered because of heat; None where the machine does not tell."""

    celsius: float | None
    throttled: bool | None


def read_thermal(root: Path = ROOT) -> Thermal:
    """Read what this machine tells at this moment."""
    sensors = read_temperatures(root)
    return Thermal(max(sensors) if sensors else None, _read_throttled(root))


def read_temperatures(root: Path = ROOT) -> list[float]:
    """List the degrees Celsius of all sensors that can be read."""
    readings = [_read(path) for path in sorted(root.glob("sys/class/thermal/thermal_zone*/temp"))]
    return [int(reading) / 1000 for reading in readings if re.fullmatch(r"-?\d+", reading)]


def _read_throttled(root: Path) -> bool | None:
    """Ask a Raspberry Pi's firmware, else the devices that cool by lowering the clock."""
    firmware = _read(root / _FIRMWARE)
    if re.fullmatch(r"(0x)?[0-9a-fA-F]+", firmware):
        return bool(int(firmware, 16) & _CAPPED_THROTTLED_OR_SOFT_LIMIT)
    coolers = [folder for folder in root.glob("sys/class/thermal/cooling_device*") if _cools_by_clock(folder)]
    states = [_read(folder / "cur_state") for folder in coolers]
    known = [int(state) for state in states if state.isdigit()]
    return any(known) if known else None


def _cools_by_clock(folder: Path) -> bool:
    return any(word in _read(folder / "type") for word in _COOLED_BY_CLOCK)


def _read(path: Path) -> str:
    """Read a small file; one that is missing or refuses reads as empty, as machines differ."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""
