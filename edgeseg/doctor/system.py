"""Checks of the system: board, processor, Python, C library, memory, disk, clock, heat and power supply."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgeseg.doctor import Check, State
from edgeseg.machine.boards import find_nearest_board, is_plugged_in, list_boards, load_board
from edgeseg.machine.host import Machine, parse_version
from edgeseg.machine.thermal import (
    GOVERNORS,
    LOW_VOLTAGE,
    SLOWED,
    read_clock_coolers,
    read_firmware_flags,
    read_governors,
    read_temperatures,
)

PYTHON_RANGE = (3, 10), (3, 13)
WHEEL_PROCESSORS = ("x86_64", "aarch64", "arm64", "AMD64")
WHEEL_GLIBC = (2, 27)
MEMORY_MB: Mapping[State, int] = {"problem": 128, "warning": 256}
PAGE_PORT = 8765
DISK_MB: Mapping[State, int] = {"problem": 50, "warning": 500}
# A board without a real-time clock starts in an earlier year, and then no TLS certificate is valid.
EARLIEST_YEAR = 2025
# A Raspberry Pi begins to throttle at 80 degrees.
WARM_CELSIUS = 75
CPU = "sys/devices/system/cpu"
# Jetson's counters of over-current events, which lower the clock; not verified on hardware.
_OVERLOADS = "sys/class/hwmon/hwmon*/oc*_event_cnt"


def check_board(machine: Machine) -> Check:
    """Find the profile that fits this machine best."""
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
    """Check that LiteRT has a wheel for this processor and word size."""
    detail = f"{machine.architecture or 'unknown'} processor, {machine.word_bits}-bit Python"
    if machine.word_bits != 64:
        fix = "Install a 64-bit operating system if the processor allows it."
        return Check("processor", "problem", f"{detail}: LiteRT has no 32-bit wheel.", fix)
    if machine.architecture not in WHEEL_PROCESSORS:
        fix = "Use a board with a 64-bit ARM or x86 processor."
        return Check("processor", "problem", f"{detail}: LiteRT has no wheel for it.", fix)
    return Check("processor", "ok", f"{detail}.")


def check_python(machine: Machine) -> Check:
    """Check that this Python can run edgeseg."""
    low, high = (".".join(map(str, version)) for version in PYTHON_RANGE)
    version = ".".join(map(str, machine.python))
    if PYTHON_RANGE[0] <= machine.python <= PYTHON_RANGE[1]:
        return Check("python", "ok", f"Python {version}.")
    fix = f"Make the environment with a Python from {low} to {high}, for example: python{high} -m venv ~/edgeseg"
    return Check("python", "problem", f"Expected Python {low} to {high}, got {version}.", fix)


def check_glibc(machine: Machine) -> Check:
    """Check that the C library can load LiteRT's wheel."""
    if machine.system != "Linux":
        return Check("glibc", "ok", f"Not Linux ({machine.system}): no glibc is needed.")
    name, version = machine.libc
    needed = ".".join(map(str, WHEEL_GLIBC))
    fix = f"Use a system with glibc {needed} or newer, such as Debian 11, Ubuntu 20.04 or later."
    if name != "glibc":
        detail = f"Expected glibc {needed} or newer, got {name or 'an unknown C library'}."
        return Check("glibc", "problem", detail, fix)
    if parse_version(version) < WHEEL_GLIBC:
        return Check("glibc", "problem", f"Expected glibc {needed} or newer for LiteRT, got {version}.", fix)
    return Check("glibc", "ok", f"glibc {version}.")


def check_memory(machine: Machine) -> Check:
    """Check that a model and a stream fit in the free memory."""
    free = machine.read_memory_mb("MemAvailable")
    if free is None:
        return Check("memory", "ok", "The size of this machine's free memory is unknown.")
    fix = "Close other programs, such as the desktop: sudo systemctl set-default multi-user.target && sudo reboot"
    return _grade_room("memory", free, MEMORY_MB, f"{free} MB of memory free.", fix)


def check_disk(machine: Machine) -> Check:
    """Check that the disk has space for recordings and updates."""
    free = machine.free_disk_mb
    detail = f"{free} MB free on the disk that holds this Python environment."
    return _grade_room("disk", free, DISK_MB, detail, "Make room, for example: pip cache purge; sudo apt-get clean")


def _grade_room(name: str, free: int, limits: Mapping[State, int], detail: str, fix: str) -> Check:
    for state, limit in limits.items():
        if free < limit:
            return Check(name, state, f"{detail[:-1]}, expected at least {limit} MB.", fix)
    return Check(name, "ok", detail)


def check_date(machine: Machine) -> Check:
    """Check that the clock is plausible: with a wrong one, TLS certificates are invalid and downloads fail."""
    if machine.year >= EARLIEST_YEAR:
        return Check("date", "ok", f"The clock says {machine.year}.")
    detail = f"Expected the year {EARLIEST_YEAR} or later, the clock says {machine.year}."
    return Check("date", "warning", detail, "sudo timedatectl set-ntp true    (or: sudo date -s 'YYYY-MM-DD HH:MM')")


def check_port(machine: Machine) -> Check:
    """Check that the live page's port is free."""
    if machine.is_port_free(PAGE_PORT):
        return Check("port", "ok", f"Port {PAGE_PORT} of the live page is free.")
    fix = f"edgeseg stream MODEL --port 0    (or end the program that this shows: ss -ltnp 'sport = :{PAGE_PORT}')"
    return Check("port", "warning", f"Port {PAGE_PORT} of the live page is in use.", fix)


def check_governor(machine: Machine) -> Check:
    """Check the CPU governor, which may slow the cores down between frames."""
    governors = read_governors(machine.root)
    if not governors:
        return Check("governor", "ok", "This machine offers no CPU governor to choose.")
    if governors == ("performance",):
        return Check("governor", "ok", "CPU governor: performance.")
    detail = f"CPU governor: {', '.join(governors)}; latencies vary until it is performance."
    return Check("governor", "warning", detail, f"echo performance | sudo tee /{GOVERNORS}")


def check_temperature(machine: Machine) -> Check:
    """Check that the hottest sensor is well below the temperature at which the clock is lowered."""
    known = read_temperatures(machine.root)
    if not known:
        return Check("temperature", "ok", "This machine has no readable temperature sensor.")
    detail = f"Hottest of {len(known)} sensors: {max(known):.0f} degrees Celsius"
    if max(known) < WARM_CELSIUS:
        return Check("temperature", "ok", f"{detail}.")
    fix = "Let it cool down and fit a heat sink or a fan before you measure."
    return Check("temperature", "warning", f"{detail}, expected below {WARM_CELSIUS}.", fix)


def check_throttling(machine: Machine) -> Check:
    """Check that the machine does not throttle."""
    # bits 0 to 3 are now, bits 16 to 19 since the start (vcgencmd get_throttled)
    flags = read_firmware_flags(machine.root) or 0
    cooling = [kind for kind, level in read_clock_coolers(machine.root).items() if level]
    fix = "Let it cool down and fit a heat sink or a fan before you measure."
    if flags & SLOWED or cooling:
        return Check(
            "throttling", "warning", f"The clock is lowered right now ({', '.join(cooling) or 'firmware'}).", fix
        )
    if flags >> 16 & SLOWED:
        return Check("throttling", "warning", "The clock was lowered since the last start.", fix)
    return Check("throttling", "ok", "No sign of throttling.")


def check_supply(machine: Machine) -> Check:
    """Check the power supply, as far as a Raspberry Pi or a Jetson reports it."""
    flags = read_firmware_flags(machine.root) or 0
    overloads = sum(machine.read_number(path) or 0 for path in machine.find(_OVERLOADS))
    fix = "Use the board's own power supply and a short cable; give USB devices a powered hub."
    if flags & LOW_VOLTAGE:
        return Check("supply", "problem", "The supply voltage is too low right now.", fix)
    if flags >> 16 & LOW_VOLTAGE:
        return Check("supply", "warning", "The supply voltage was too low since the last start.", fix)
    if overloads:
        return Check("supply", "warning", f"The clock was lowered {overloads} times for too high a current.", fix)
    return Check("supply", "ok", "No sign of a low supply voltage.")


def check_clock_limit(machine: Machine) -> Check:
    """Check that the cores may reach their highest clock."""
    capped = [path for path in machine.find(f"{CPU}/cpu*/cpufreq") if _is_capped(machine, path)]
    if not capped:
        return Check("clock limit", "ok", "No limit below the highest clock.")
    low = machine.read_number(f"{capped[0]}/scaling_max_freq")
    high = machine.read_number(f"{capped[0]}/cpuinfo_max_freq")
    detail = f"{len(capped)} cores may only reach {(low or 0) // 1000} of {(high or 0) // 1000} MHz."
    fix = f"for c in /{CPU}/cpu*/cpufreq; do sudo cp $c/cpuinfo_max_freq $c/scaling_max_freq; done"
    return Check("clock limit", "warning", detail, fix)


def _is_capped(machine: Machine, path: str) -> bool:
    low, high = (machine.read_number(f"{path}/{kind}_max_freq") for kind in ("scaling", "cpuinfo"))
    return low is not None and high is not None and low < high


def check_cores(machine: Machine) -> Check:
    """Check that no core is switched off, as some power modes of a Jetson do."""
    online, present = machine.read(f"{CPU}/online"), machine.read(f"{CPU}/present")
    if not online:
        return Check("cores", "ok", "This machine does not list its cores.")
    # both are lists of ranges, such as 0-3
    if online == present:
        return Check("cores", "ok", f"Every core is on ({online}).")
    detail = f"Cores {online} of {present} are on."
    return Check("cores", "warning", detail, "Choose a faster power mode, on a Jetson: sudo nvpmodel -m 0")


def check_load(machine: Machine) -> Check:
    """Check that no other programs use the processor."""
    # the average over a minute, in runnable processes (proc(5))
    load = re.match(r"\d+\.\d+", machine.read("proc/loadavg"))
    if load is None or float(load[0]) <= machine.cores / 2:
        return Check("load", "ok", "No sign that other programs use the processor.")
    detail = f"The load is {load[0]} on {machine.cores} cores: latencies will vary."
    return Check("load", "warning", detail, "End other programs; top lists them.")
