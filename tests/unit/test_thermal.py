"""Temperature and throttling as boards tell them: files as the kernel and the firmware document them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeseg.machine.thermal import Thermal, read_thermal


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert read_thermal(tmp_path) == Thermal(None, None)


def test_the_hottest_sensor_counts_and_nonsense_does_not(tmp_path: Path) -> None:
    for number, text in enumerate(("41500\n", "62000\n", "broken\n")):
        write(tmp_path, f"sys/class/thermal/thermal_zone{number}/temp", text)
    assert read_thermal(tmp_path).celsius == 62.0


@pytest.mark.parametrize(("state", "throttled"), [("0", False), ("3", True)])
def test_cooling_by_the_clock(tmp_path: Path, state: str, throttled: bool) -> None:
    write(tmp_path, "sys/class/thermal/cooling_device0/type", "thermal-cpufreq-0\n")
    write(tmp_path, "sys/class/thermal/cooling_device0/cur_state", f"{state}\n")
    write(tmp_path, "sys/class/thermal/cooling_device1/type", "pwm-fan\n")
    write(tmp_path, "sys/class/thermal/cooling_device1/cur_state", "4\n")
    assert read_thermal(tmp_path).throttled is throttled


@pytest.mark.parametrize(("bits", "throttled"), [("0", False), ("50000", False), ("4", True), ("0x50005", True)])
def test_the_firmware_of_a_raspberry_pi(tmp_path: Path, bits: str, throttled: bool) -> None:
    write(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", f"{bits}\n")
    assert read_thermal(tmp_path).throttled is throttled
