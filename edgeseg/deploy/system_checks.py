"""What the operating system must bring: processor, Python, C library, memory, disk, the date."""

from __future__ import annotations

from collections.abc import Mapping

from edgeseg.core.board import load_board
from edgeseg.core.catalog import list_boards
from edgeseg.core.nearest import find_nearest_board, is_plugged_in
from edgeseg.deploy.check import Check, State
from edgeseg.deploy.machine import Machine, parse_version

PYTHON_RANGE = (3, 10), (3, 13)
WHEEL_PROCESSORS = ("x86_64", "aarch64", "arm64", "AMD64")
WHEEL_GLIBC = (2, 27)
MEMORY_MB: Mapping[State, int] = {"problem": 128, "warning": 256}
PAGE_PORT = 8765
DISK_MB: Mapping[State, int] = {"problem": 50, "warning": 500}
EARLIEST_YEAR = 2025
"""A board without a clock of its own wakes up before it, and then no certificate is valid."""


def check_board(machine: Machine) -> Check:
    """Guess which profile fits this machine best."""
    signs = machine.read_signs()
    nearest = find_nearest_board(signs)
    what = signs.model or f"{machine.architecture or 'Unknown'} machine without a device tree"
    if nearest is None:
        fix = "Choose the nearest one of: edgeseg devices; devices/README.md says how to add a board."
        return Check("board", "warning", f"{what}; no profile fits.", fix)
    plugged = [name for name in list_boards() if name != nearest and is_plugged_in(load_board(name), signs)]
    also = f"; plugged in: {', '.join(plugged)}" if plugged else ""
    return Check("board", "ok", f"{what}; nearest profile: {nearest}{also}.")


def check_processor(machine: Machine) -> Check:
    """Tell whether LiteRT has a wheel for this processor and word size."""
    detail = f"{machine.architecture or 'unknown'} processor, {machine.word_bits}-bit Python"
    if machine.word_bits != 64:
        fix = "Install a 64-bit operating system if the processor allows it."
        return Check("processor", "problem", f"{detail}: LiteRT has no 32-bit wheel.", fix)
    if machine.architecture not in WHEEL_PROCESSORS:
        fix = "Use a board with a 64-bit ARM or x86 processor."
        return Check("processor", "problem", f"{detail}: LiteRT has no wheel for it.", fix)
    return Check("processor", "ok", f"{detail}.")


def check_python(machine: Machine) -> Check:
    """Tell whether this Python can run edgeseg."""
    low, high = (".".join(map(str, version)) for version in PYTHON_RANGE)
    version = ".".join(map(str, machine.python))
    if PYTHON_RANGE[0] <= machine.python <= PYTHON_RANGE[1]:
        return Check("python", "ok", f"Python {version}.")
    fix = f"Make the environment with a Python from {low} to {high}, for example: python{high} -m venv ~/edgeseg"
    return Check("python", "problem", f"Expected Python {low} to {high}, got {version}.", fix)


def check_glibc(machine: Machine) -> Check:
    """Tell whether the C library can load LiteRT's wheel."""
    if machine.system != "Linux":
        return Check("glibc", "ok", f"Not Linux ({machine.system}): no glibc is needed.")
    name, version = machine.libc
    needed = ".".join(map(str, WHEEL_GLIBC))
    fix = f"Use a system with glibc {needed} or newer, such as Debian 11, Ubuntu 20.04 or later."
    if name != "glibc":
        detail = f"Expected glibc {needed} or newer, got {name or 'a C library that does not name itself'}."
        return Check("glibc", "problem", detail, fix)
    if parse_version(version) < WHEEL_GLIBC:
        return Check("glibc", "problem", f"Expected glibc {needed} or newer for LiteRT, got {version}.", fix)
    return Check("glibc", "ok", f"glibc {version}.")


def check_memory(machine: Machine) -> Check:
    """Tell whether a model, a stream and a browser view fit in the free memory."""
    free = machine.read_memory_mb("MemAvailable")
    if free is None:
        return Check("memory", "ok", "This machine does not say how much memory is free.")
    fix = "Close other programs, such as the desktop: sudo systemctl set-default multi-user.target && sudo reboot"
    return _grade_room("memory", free, MEMORY_MB, f"{free} MB of memory free.", fix)


def check_disk(machine: Machine) -> Check:
    """Tell whether recordings and updates have room."""
    free = machine.free_disk_mb
    detail = f"{free} MB free on the disk that holds this Python environment."
    return _grade_room("disk", free, DISK_MB, detail, "Make room, for example: pip cache purge; sudo apt-get clean")


def _grade_room(name: str, free: int, limits: Mapping[State, int], detail: str, fix: str) -> Check:
    for state, limit in limits.items():
        if free < limit:
            return Check(name, state, f"{detail[:-1]}, expected at least {limit} MB.", fix)
    return Check(name, "ok", detail)


def check_date(machine: Machine) -> Check:
    """Tell whether the clock can be right: downloads fail on certificates when it is not."""
    if machine.year >= EARLIEST_YEAR:
        return Check("date", "ok", f"The clock says {machine.year}.")
    detail = f"Expected the year {EARLIEST_YEAR} or later, the clock says {machine.year}."
    return Check("date", "warning", detail, "sudo timedatectl set-ntp true    (or: sudo date -s 'YYYY-MM-DD HH:MM')")


def check_port(machine: Machine) -> Check:
    """Tell whether the live page's port is free."""
    if machine.is_port_free(PAGE_PORT):
        return Check("port", "ok", f"Port {PAGE_PORT} of the live page is free.")
    fix = f"edgeseg stream MODEL --port 0    (or end the program that this shows: ss -ltnp 'sport = :{PAGE_PORT}')"
    return Check("port", "warning", f"Port {PAGE_PORT} of the live page is in use.", fix)
