"""What the operating system must bring: processor, Python, C library, memory, disk, speed and heat settings."""

from __future__ import annotations

from collections.abc import Mapping

from edgeseg.core.board import Board, find_nearest_board
from edgeseg.core.thermal import read_temperatures
from edgeseg.deploy.check import Check, State
from edgeseg.deploy.machine import Machine, parse_version

PYTHON_RANGE = (3, 10), (3, 13)
WHEEL_PROCESSORS = ("x86_64", "aarch64", "arm64", "AMD64")
WHEEL_GLIBC = (2, 27)
MEMORY_MB: Mapping[State, int] = {"problem": 128, "warning": 256}
DISK_MB: Mapping[State, int] = {"problem": 50, "warning": 500}
WARM_CELSIUS = 75
_GOVERNORS = "sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"


def check_board(machine: Machine) -> Check:
    """Guess which profile fits this machine best."""
    model = machine.read("proc/device-tree/model")
    nearest = find_nearest_board(model, machine.architecture)
    what = model or f"{machine.architecture or 'Unknown'} machine without a device tree"
    if nearest is None:
        fix = "Choose the nearest one of: edgeseg devices; devices/README.md says how to add a board."
        return Check("board", "warning", f"{what}; no profile fits.", fix)
    return Check("board", "ok", f"{what}; nearest profile: {nearest}.")


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


def check_governor(machine: Machine) -> Check:
    """Tell whether the cores are allowed to slow down between frames."""
    governors = sorted({machine.read(path) for path in machine.find(_GOVERNORS)} - {""})
    if not governors:
        return Check("governor", "ok", "This machine offers no CPU governor to choose.")
    if governors == ["performance"]:
        return Check("governor", "ok", "CPU governor: performance.")
    detail = f"CPU governor: {', '.join(governors)}; latencies vary until it is performance."
    return Check("governor", "warning", detail, f"echo performance | sudo tee /{_GOVERNORS}")


def check_temperature(machine: Machine) -> Check:
    """Tell whether the hottest sensor leaves room before the clock is lowered."""
    known = read_temperatures(machine.root)
    if not known:
        return Check("temperature", "ok", "This machine has no readable temperature sensor.")
    detail = f"Hottest of {len(known)} sensors: {max(known):.0f} degrees Celsius"
    if max(known) < WARM_CELSIUS:
        return Check("temperature", "ok", f"{detail}.")
    fix = "Let it cool down and fit a heat sink or a fan before you measure."
    return Check("temperature", "warning", f"{detail}, expected below {WARM_CELSIUS}.", fix)


def check_profile_machine(machine: Machine, board: Board) -> Check:
    """Tell whether this is the kind of machine that the profile is about."""
    wanted = " or ".join(board.machine)
    if machine.architecture in board.machine:
        return Check("profile machine", "ok", f"{machine.architecture}, as the profile says.")
    detail = f"Expected {wanted} for this profile, got {machine.architecture or 'no answer'}."
    return Check("profile machine", "problem", detail, "Run this on the board itself, or name another --device.")


def check_profile_python(machine: Machine, board: Board) -> Check:
    """Tell whether the profile counts on this Python."""
    version = ".".join(map(str, machine.python))
    if version in board.python:
        return Check("profile python", "ok", f"Python {version}, as the profile says.")
    detail = f"Expected Python {', '.join(board.python)} for this profile, got {version}."
    return Check("profile python", "problem", detail, "Make the environment again with the board's setup.sh.")


def check_profile_memory(machine: Machine, board: Board) -> Check:
    """Tell whether the machine has the memory that the profile counts on."""
    total = machine.read_memory_mb("MemTotal")
    if total is None:
        return Check("profile memory", "ok", "This machine does not say how much memory it has.")
    if total >= board.min_memory_mb:
        return Check("profile memory", "ok", f"{total} MB of memory, the profile needs {board.min_memory_mb}.")
    detail = f"Expected at least {board.min_memory_mb} MB of memory for this profile, got {total}."
    return Check("profile memory", "problem", detail, "Use a board with more memory, or name another --device.")
