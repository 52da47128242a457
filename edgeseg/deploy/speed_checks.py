"""What makes a machine slower than it could be: governor, heat, power supply, cores that are off, other work."""

from __future__ import annotations

import re

from edgeseg.core.clock import GOVERNORS, read_governors
from edgeseg.core.thermal import (
    LOW_VOLTAGE,
    SLOWED,
    read_clock_coolers,
    read_firmware_flags,
    read_temperatures,
)
from edgeseg.deploy.check import Check
from edgeseg.deploy.machine import Machine

WARM_CELSIUS = 75
CPU = "sys/devices/system/cpu"
_OVERLOADS = "sys/class/hwmon/hwmon*/oc*_event_cnt"
"""Where a Jetson counts how often too high a current lowered its clock; not verified on hardware."""


def check_governor(machine: Machine) -> Check:
    """Tell whether the cores are allowed to slow down between frames."""
    governors = read_governors(machine.root)
    if not governors:
        return Check("governor", "ok", "This machine offers no CPU governor to choose.")
    if governors == ("performance",):
        return Check("governor", "ok", "CPU governor: performance.")
    detail = f"CPU governor: {', '.join(governors)}; latencies vary until it is performance."
    return Check("governor", "warning", detail, f"echo performance | sudo tee /{GOVERNORS}")


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


def check_throttling(machine: Machine) -> Check:
    """Tell whether the machine slows itself down against heat."""
    flags = read_firmware_flags(machine.root) or 0
    cooling = [kind for kind, level in read_clock_coolers(machine.root).items() if level]
    fix = "Let it cool down and fit a heat sink or a fan before you measure."
    if flags & SLOWED or cooling:
        return Check(
            "throttling", "warning", f"The clock is lowered right now ({', '.join(cooling) or 'firmware'}).", fix
        )
    if flags >> 16 & SLOWED:
        return Check("throttling", "warning", "The clock was lowered since the last start.", fix)
    return Check("throttling", "ok", "Nothing tells that the clock is lowered.")


def check_supply(machine: Machine) -> Check:
    """Tell whether the power supply is strong enough, as far as a Raspberry Pi or a Jetson tells."""
    flags = read_firmware_flags(machine.root) or 0
    overloads = sum(machine.read_number(path) or 0 for path in machine.find(_OVERLOADS))
    fix = "Use the board's own power supply and a short cable; give USB devices a powered hub."
    if flags & LOW_VOLTAGE:
        return Check("supply", "problem", "The supply voltage is too low right now.", fix)
    if flags >> 16 & LOW_VOLTAGE:
        return Check("supply", "warning", "The supply voltage was too low since the last start.", fix)
    if overloads:
        return Check("supply", "warning", f"The clock was lowered {overloads} times for too high a current.", fix)
    return Check("supply", "ok", "Nothing tells that the supply voltage is low.")


def check_clock_limit(machine: Machine) -> Check:
    """Tell whether the cores may reach their highest clock."""
    capped = [path for path in machine.find(f"{CPU}/cpu*/cpufreq") if _is_capped(machine, path)]
    if not capped:
        return Check("clock limit", "ok", "Nothing tells that the highest clock is forbidden.")
    low = machine.read_number(f"{capped[0]}/scaling_max_freq")
    high = machine.read_number(f"{capped[0]}/cpuinfo_max_freq")
    detail = f"{len(capped)} cores may only reach {(low or 0) // 1000} of {(high or 0) // 1000} MHz."
    fix = f"for c in /{CPU}/cpu*/cpufreq; do sudo cp $c/cpuinfo_max_freq $c/scaling_max_freq; done"
    return Check("clock limit", "warning", detail, fix)


def _is_capped(machine: Machine, path: str) -> bool:
    low, high = (machine.read_number(f"{path}/{kind}_max_freq") for kind in ("scaling", "cpuinfo"))
    return low is not None and high is not None and low < high


def check_cores(machine: Machine) -> Check:
    """Tell whether cores are switched off, as a Jetson's power modes do."""
    online, present = machine.read(f"{CPU}/online"), machine.read(f"{CPU}/present")
    if not online:
        return Check("cores", "ok", "This machine does not list its cores.")
    if online == present:
        return Check("cores", "ok", f"Every core is on ({online}).")
    detail = f"Cores {online} of {present} are on."
    return Check("cores", "warning", detail, "Choose a faster power mode, on a Jetson: sudo nvpmodel -m 0")


def check_load(machine: Machine) -> Check:
    """Tell whether other programs take the processor."""
    load = re.match(r"\d+\.\d+", machine.read("proc/loadavg"))
    if load is None or float(load[0]) <= machine.cores / 2:
        return Check("load", "ok", "Nothing tells that other programs take the processor.")
    detail = f"{load[0]} programs want to run on {machine.cores} cores: latencies will vary."
    return Check("load", "warning", detail, "End what need not run: top shows it.")
