"""The doctor: every state is produced by files and facts of a made-up machine, never by replacing a check."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from edgeseg.backends.cpu import CpuBackend
from edgeseg.cli.doctor import doctor
from edgeseg.core.board import load_board
from edgeseg.deploy import hardware_checks, package_checks, system_checks
from edgeseg.deploy.check import Check, judge_checks
from edgeseg.deploy.doctor import run_checks
from edgeseg.deploy.machine import Machine, describe_error

MEMINFO = "MemTotal: 4000000 kB\nMemFree: 100 kB\nMemAvailable: {free} kB\n"
GOVERNOR = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
ZONE = "sys/class/thermal/thermal_zone0/temp"
BUILD = "  GUI:                           {gui}\n  Video I/O:\n    GStreamer:                   {gst}\n"

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(doctor)


def fake_import(
    missing: tuple[str, ...] = (), gui: str = "NONE", gst: str = "NO", **found: Any
) -> Callable[[str], Any]:
    """Import packages of given versions; one given as an exception fails with it."""
    known = {"numpy": "2.1.0", "cv2": "4.14.0", "ai_edge_litert": "2.3.0", **found}

    def load(name: str) -> Any:
        top = name.split(".")[0]
        version = known.get(top)
        if isinstance(version, Exception):
            raise version
        if version is None or top in missing:
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)
        return SimpleNamespace(__version__=version, getBuildInformation=lambda: BUILD.format(gui=gui, gst=gst))

    return load


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Describe a board on which all is well."""
    board = Machine(
        root=tmp_path,
        system="Linux",
        architecture="aarch64",
        word_bits=64,
        python=(3, 11),
        libc=("glibc", "2.36"),
        groups=frozenset({"video"}),
        is_root=False,
        free_disk_mb=9000,
        library_folders=(),
        import_module=fake_import(),
    )
    put(board, "proc/device-tree/model", "Made-up Board 3\0")
    put(board, "proc/meminfo", MEMINFO.format(free=2000000))
    put(board, GOVERNOR, "performance\n")
    put(board, ZONE, "45000\n")
    put(board, "dev/video0", "")
    return board


def put(machine: Machine, path: str, text: str) -> None:
    file = machine.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def assert_fault(check: Check, state: str, *words: str) -> None:
    assert check.state == state
    assert check.fix
    assert all(word in check.detail + check.fix for word in words), check


def test_healthy_board(machine: Machine) -> None:
    checks = [check for check in run_checks(machine, load_board("generic-aarch64")) if check.name != "xnnpack"]
    assert [check for check in checks if check.state != "ok" or check.fix] == []
    assert "Made-up Board 3; nearest profile: generic-aarch64" in checks[0].detail


def test_empty_root_never_crashes(tmp_path: Path) -> None:
    bare = Machine(root=tmp_path / "nothing", import_module=fake_import(missing=("numpy", "cv2", "ai_edge_litert")))
    checks = run_checks(bare, load_board("generic-x86_64"))
    assert all(check.detail.endswith(".") for check in checks)
    assert all(bool(check.fix) == (check.state != "ok") for check in checks)


@pytest.mark.parametrize(
    ("facts", "check", "words"),
    [
        ({"word_bits": 32}, system_checks.check_processor, "32-bit"),
        ({"architecture": "riscv64"}, system_checks.check_processor, "riscv64"),
        ({"python": (3, 9)}, system_checks.check_python, "got 3.9"),
        ({"python": (3, 14)}, system_checks.check_python, "got 3.14"),
        ({"libc": ("glibc", "2.26")}, system_checks.check_glibc, "got 2.26"),
        ({"libc": ("", "")}, system_checks.check_glibc, "2.27"),
        ({"free_disk_mb": 10}, system_checks.check_disk, "10 MB"),
    ],
)
def test_system_problems(
    machine: Machine, facts: dict[str, Any], check: Callable[[Machine], Check], words: str
) -> None:
    assert_fault(check(replace(machine, **facts)), "problem", words)


def test_unknown_machine_has_no_profile(machine: Machine) -> None:
    assert_fault(system_checks.check_board(replace(machine, architecture="riscv64")), "warning", "no profile fits")


def test_governor_names_the_command(machine: Machine) -> None:
    put(machine, GOVERNOR.replace("cpu0", "cpu1"), "ondemand\n")
    check = system_checks.check_governor(machine)
    assert_fault(check, "warning", "ondemand", "echo performance | sudo tee /sys/devices/system/cpu/cpu*/")


def test_hottest_sensor_counts(machine: Machine) -> None:
    put(machine, ZONE.replace("zone0", "zone1"), "81500\n")
    put(machine, ZONE.replace("zone0", "zone2"), "not a number\n")
    assert_fault(system_checks.check_temperature(machine), "warning", "of 2 sensors: 82")


@pytest.mark.parametrize(("free", "state"), [(50_000, "problem"), (200_000, "warning")])
def test_little_memory(machine: Machine, free: int, state: str) -> None:
    put(machine, "proc/meminfo", MEMINFO.format(free=free))
    assert_fault(system_checks.check_memory(machine), state, f"{free // 1024} MB")


@pytest.mark.parametrize(
    ("packages", "check", "words"),
    [
        ({"numpy": None}, package_checks.check_numpy, "not installed"),
        ({"numpy": "1.24.4"}, package_checks.check_numpy, "got 1.24.4"),
        ({"cv2": None}, package_checks.check_opencv, "pip install opencv-python-headless"),
        ({"cv2": ImportError("libGL.so.1: no such file")}, package_checks.check_opencv, "libGL.so.1"),
        ({"ai_edge_litert": None}, package_checks.check_runtime, "pip install ai-edge-litert"),
        (
            {"ai_edge_litert": OSError("wrong ELF class")},
            package_checks.check_runtime,
            "--force-reinstall ai-edge-litert",
        ),
        ({"ai_edge_litert": None, "tflite_runtime": "2.14.0"}, package_checks.check_runtime, "numpy below 2"),
    ],
)
def test_package_problems(
    machine: Machine, packages: dict[str, Any], check: Callable[[Machine], Check], words: str
) -> None:
    assert_fault(check(replace(machine, import_module=fake_import(**packages))), "problem", words)


def test_broken_litert_is_not_called_missing(machine: Machine) -> None:
    broken = ModuleNotFoundError("No module named 'flatbuffers'", name="flatbuffers")
    check = package_checks.check_runtime(replace(machine, import_module=fake_import(ai_edge_litert=broken)))
    assert_fault(check, "problem", "does not load: No module named 'flatbuffers'")


def test_legacy_runtime_is_a_warning(machine: Machine) -> None:
    packages = fake_import(ai_edge_litert=None, tflite_runtime="2.14.0", numpy="1.26.4")
    assert_fault(package_checks.check_runtime(replace(machine, import_module=packages)), "warning", "slower")


def test_opencv_build_is_told(machine: Machine) -> None:
    packages = fake_import(gui="GTK3", gst="YES (1.22.0)")
    check = package_checks.check_opencv(replace(machine, import_module=packages))
    assert check.detail == "OpenCV 4.14.0, with windows, with GStreamer."


def test_xnnpack_is_proved_here() -> None:
    assert package_checks.check_xnnpack(Machine()).state == "ok"


def test_xnnpack_off_names_missing_cpu_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CpuBackend, "uses_xnnpack", lambda _self: False)
    check = package_checks.check_xnnpack(Machine(root=tmp_path))
    assert_fault(check, "problem", "/sys/devices/system/cpu/possible and /sys/devices/system/cpu/present")


def test_xnnpack_without_litert_is_not_proved(machine: Machine) -> None:
    check = package_checks.check_xnnpack(replace(machine, import_module=fake_import(ai_edge_litert=None)))
    assert_fault(check, "warning", "Not proved")


def test_no_camera_and_no_right_to_open_one(machine: Machine) -> None:
    (machine.root / "dev/video0").unlink()
    outsider = replace(machine, groups=frozenset({"users"}))
    assert_fault(hardware_checks.check_cameras(outsider), "warning", "phantom://")
    assert_fault(hardware_checks.check_video_group(outsider), "warning", "usermod -aG video")
    assert hardware_checks.check_video_group(replace(outsider, is_root=True)).state == "ok"


@pytest.mark.parametrize(("vendor", "product"), sorted(hardware_checks.EDGETPU_USB))
def test_edgetpu_on_usb(machine: Machine, vendor: str, product: str) -> None:
    put(machine, "sys/bus/usb/devices/1-1/idVendor", vendor + "\n")
    put(machine, "sys/bus/usb/devices/1-1/idProduct", product + "\n")
    assert_fault(hardware_checks.check_edgetpu(machine), "warning", "USB", "libedgetpu1-std")
    put(machine, "opt/libedgetpu.so.1", "")
    check = hardware_checks.check_edgetpu(replace(machine, library_folders=(str(machine.root / "opt"),)))
    assert check == Check("edge tpu", "ok", "An Edge TPU on USB, libedgetpu.so.1 found.")


def test_edgetpu_on_pci_needs_its_driver(machine: Machine) -> None:
    put(machine, "sys/bus/pci/devices/0/vendor", "0x1ac1\n")
    put(machine, "sys/bus/pci/devices/0/device", "0x089a\n")
    put(machine, "etc/ld.so.cache", "ld.so-1.7.0\0libedgetpu.so.1\0/usr/lib/libedgetpu.so.1\0")
    assert_fault(hardware_checks.check_edgetpu(machine), "warning", "gasket")
    put(machine, "dev/apex_0", "")
    assert hardware_checks.check_edgetpu(machine).detail == "An Edge TPU on PCI, libedgetpu.so.1 found."


def test_profile_that_does_not_fit(machine: Machine) -> None:
    put(machine, "proc/meminfo", "MemTotal: 262144 kB\n")
    wrong = replace(machine, python=(3, 9))
    states = {check.name: check.state for check in run_checks(wrong, load_board("generic-x86_64"))}
    assert [states[f"profile {part}"] for part in ("machine", "python", "memory")] == ["problem"] * 3


def test_errors_lose_folders_and_keep_the_first_cause() -> None:
    error = ImportError("IMPORTANT: read this")
    error.__cause__ = OSError(f"libx.so: refused\n by '/data/alice/venv/libx.so' ({Path.home()}/y.py)")
    assert describe_error(error) == "libx.so: refused by 'libx.so' (~/y.py)"


def test_worst_state_decides() -> None:
    fine, poor, bad = Check("a", "ok", "."), Check("b", "warning", ".", "x"), Check("c", "problem", ".", "x")
    assert [judge_checks(checks) for checks in ([fine], [fine, poor], [bad, poor])] == ["ok", "warnings", "problems"]


def test_command_prints_fixes_and_exits_3(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("edgeseg.deploy.machine.Machine", lambda: replace(machine, python=(3, 9)))
    result = CliRunner().invoke(app, ["--device", "generic-aarch64", "--json", str(tmp_path / "out.json")])
    assert result.exit_code == 3
    assert "-> Make the environment with a Python from 3.10 to 3.13" in result.output
    assert "Not ready: 2 problems" in result.output
    report = json.loads((tmp_path / "out.json").read_text())
    assert (report["verdict"], report["board"]) == ("problems", "generic-aarch64")
    assert all(set(check) == {"name", "state", "detail", "fix"} for check in report["checks"])


def test_command_exits_0_with_warnings(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    put(machine, GOVERNOR, "ondemand\n")
    monkeypatch.setattr("edgeseg.deploy.machine.Machine", lambda: machine)
    result = CliRunner().invoke(app, [])
    assert "governor" in result.output
    assert result.exit_code == 0


def test_starts_where_numpy_and_opencv_do_not() -> None:
    block = "import sys; sys.modules.update(numpy=None, cv2=None)\n"
    script = f"{block}from edgeseg.deploy.doctor import run_checks\nfrom edgeseg.deploy.machine import Machine\n"
    run = subprocess.run(
        [sys.executable, "-c", f"{script}print([c.name for c in run_checks(Machine()) if c.state == 'problem'])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "numpy" in run.stdout
    assert "opencv" in run.stdout
