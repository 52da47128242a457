"""What gives a machine away: its processor, its device tree, what is plugged into USB and PCI."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True)
class Signs:
    """What a machine shows of itself; empty where it does not tell."""

    machine: str
    """What `uname -m` says."""
    model: str = ""
    """The device tree's model string."""
    usb: frozenset[str] = frozenset()
    """Identities as lsusb writes them, such as "1a6e:089a"."""
    pci: frozenset[str] = frozenset()


def read_signs(root: Path = ROOT, machine: str = platform.machine()) -> Signs:
    """Read the signs of this machine, or of the one whose files lie below another root."""
    return Signs(
        machine,
        read_text(root / "proc/device-tree/model"),
        _read_ids(root / "sys/bus/usb/devices", "idVendor", "idProduct"),
        _read_ids(root / "sys/bus/pci/devices", "vendor", "device"),
    )


def read_text(path: Path) -> str:
    """Read a file of the kernel's; one that is missing or refuses reads as empty, as boards differ."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""


def _read_ids(folder: Path, vendor: str, product: str) -> frozenset[str]:
    devices = (path.parent for path in folder.glob(f"*/{vendor}"))
    return frozenset(f"{_read_id(device / vendor)}:{_read_id(device / product)}" for device in devices)


def _read_id(path: Path) -> str:
    """Read four hexadecimal digits; PCI writes 0x before them."""
    return read_text(path).removeprefix("0x")
