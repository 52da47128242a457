"""Temperature and thermal throttling, from the kernel's thermal files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeseg.machine.boards import ROOT, read_text

SENSORS = ("sys/class/thermal/thermal_zone*/temp", "sys/class/apex/apex_*/temp")
# Raspberry Pi: bits 0 to 3 are the present state, bits 16 to 19 the same since boot (vcgencmd get_throttled).
FIRMWARE = "sys/devices/platform/soc*/soc*firmware/get_throttled"
LOW_VOLTAGE, SLOWED = 0x1, 0xE
_COOLERS = "sys/class/thermal/cooling_device*"
# Fans are cooling devices, too; devices that lower the clock are named after the processor.
_COOLED_BY_CLOCK = ("cpu", "processor")
GOVERNORS = "sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"


@dataclass(frozen=True)
class Thermal:
    """The hottest sensor, and whether the clock is lowered because of heat; None if unknown."""

    celsius: float | None
    throttled: bool | None


def read_thermal(root: Path = ROOT) -> Thermal:
    """Read temperature and throttling of this machine now."""
    sensors = read_temperatures(root)
    return Thermal(max(sensors) if sensors else None, _read_throttled(root))


def describe_heat(before: Thermal, after: Thermal) -> str:
    """Describe two readings in a clause."""
    known = before.celsius is not None and after.celsius is not None
    heat = f"{before.celsius:.0f} to {after.celsius:.0f} degrees Celsius" if known else "temperature unknown"
    return f"{heat}, the clock was lowered for heat" if before.throttled or after.throttled else heat


def read_temperatures(root: Path = ROOT) -> list[float]:
    """List the temperatures of all readable sensors in degrees Celsius."""
    readings = [read_text(path) for pattern in SENSORS for path in sorted(root.glob(pattern))]
    return [int(reading) / 1000 for reading in readings if re.fullmatch(r"-?\d+", reading)]


def read_firmware_flags(root: Path = ROOT) -> int | None:
    """Read the throttling flags of a Raspberry Pi's firmware; None on other machines."""
    texts = [read_text(path) for path in sorted(root.glob(FIRMWARE))]
    return next((int(text, 16) for text in texts if re.fullmatch(r"(0x)?[0-9a-fA-F]+", text)), None)


def read_clock_coolers(root: Path = ROOT) -> dict[str, int]:
    """Read the state of each cooling device that lowers the clock: 0 is idle."""
    levels: dict[str, int] = {}
    for folder in sorted(root.glob(_COOLERS)):
        kind, level = read_text(folder / "type"), read_text(folder / "cur_state")
        if any(word in kind.lower() for word in _COOLED_BY_CLOCK) and level.isdigit():
            levels[kind] = max(int(level), levels.get(kind, 0))
    return levels


def _read_throttled(root: Path) -> bool | None:
    """Read the firmware's flags, else the cooling devices that lower the clock."""
    flags, levels = read_firmware_flags(root), read_clock_coolers(root)
    if flags is not None:
        return bool(flags & SLOWED)
    return any(levels.values()) if levels else None


def read_governors(root: Path = ROOT) -> tuple[str, ...]:
    """List the CPU frequency governors in use, each once; empty without frequency scaling."""
    return tuple(sorted({read_text(path) for path in root.glob(GOVERNORS)} - {""}))
