"""The doctor: every state is produced by files and facts of a made-up machine, never by replacing a check."""

from __future__ import annotations

import errno
import importlib
import json
import socket
import struct
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
from edgeseg.deploy import (
    backend_checks,
    edgetpu_checks,
    hardware_checks,
    package_checks,
    profile_checks,
    speed_checks,
    system_checks,
    v4l2,
)
from edgeseg.deploy.check import Check, judge_checks
from edgeseg.deploy.doctor import CHECKS, run_checks
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
    """Import edgeseg for real and packages of given versions; one given as an exception fails with it."""
    known = {"numpy": "2.1.0", "cv2": "4.14.0", "ai_edge_litert": "2.3.0", **found}

    def load(name: str) -> Any:
        top = name.split(".")[0]
        version = known.get(top)
        if top == "edgeseg" and version is None:
            return importlib.import_module(name)
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
        cores=4,
        page_size=4096,
        year=2026,
        import_module=fake_import(),
        find_version=lambda _name: "",
        is_port_free=lambda _port: True,
        can_write=lambda _path: True,
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
    checks = run_checks(machine, load_board("generic-aarch64"))
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
    check = speed_checks.check_governor(machine)
    assert_fault(check, "warning", "ondemand", "echo performance | sudo tee /sys/devices/system/cpu/cpu*/")


def test_hottest_sensor_counts(machine: Machine) -> None:
    put(machine, ZONE.replace("zone0", "zone1"), "81500\n")
    put(machine, ZONE.replace("zone0", "zone2"), "not a number\n")
    assert_fault(speed_checks.check_temperature(machine), "warning", "of 2 sensors: 82")


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


def plug_usb(machine: Machine, identity: str) -> None:
    for name, text in zip(("idVendor", "idProduct", "busnum", "devnum"), (*identity.split(":"), "1", "7"), strict=True):
        put(machine, f"sys/bus/usb/devices/1-1/{name}", text + "\n")


def plug_pci(machine: Machine) -> None:
    put(machine, "sys/bus/pci/devices/0/vendor", "0x1ac1\n")
    put(machine, "sys/bus/pci/devices/0/device", "0x089a\n")


@pytest.mark.parametrize("identity", sorted(edgetpu_checks.USB_IDS))
def test_edgetpu_on_usb(machine: Machine, identity: str) -> None:
    plug_usb(machine, identity)
    assert_fault(edgetpu_checks.check_edgetpu(machine), "warning", "USB", "libedgetpu1-std")
    put(machine, "opt/libedgetpu.so.1", "")
    check = edgetpu_checks.check_edgetpu(replace(machine, library_folders=(str(machine.root / "opt"),)))
    assert check == Check("edge tpu", "ok", "An Edge TPU on USB, libedgetpu.so.1 found.")


def test_edgetpu_on_pci_needs_its_driver(machine: Machine) -> None:
    plug_pci(machine)
    put(machine, "etc/ld.so.cache", "ld.so-1.7.0\0libedgetpu.so.1\0/usr/lib/libedgetpu.so.1\0")
    assert_fault(edgetpu_checks.check_edgetpu(machine), "warning", "gasket")
    put(machine, "dev/apex_0", "")
    assert edgetpu_checks.check_edgetpu(machine).detail == "An Edge TPU on PCI, libedgetpu.so.1 found."


def test_edgetpu_that_is_closed_to_this_user(machine: Machine) -> None:
    outsider = replace(machine, can_write=lambda _path: False)
    assert edgetpu_checks.check_edgetpu_rights(outsider).state == "ok"
    plug_usb(machine, "1a6e:089a")
    assert_fault(edgetpu_checks.check_edgetpu_rights(outsider), "problem", "/dev/bus/usb/001/007", "plugdev")
    put(machine, "dev/apex_0", "")
    assert_fault(edgetpu_checks.check_edgetpu_rights(outsider), "problem", "/dev/apex_0", "-aG apex")


@pytest.mark.parametrize("packages", [{}, {"ai_edge_litert": None, "tflite_runtime": "2.14.0"}])
def test_libedgetpu_that_crashes_in_this_runtime(machine: Machine, packages: dict[str, Any]) -> None:
    here = replace(machine, import_module=fake_import(**packages))
    status = "Package: bash\nVersion: 5.2\n\nPackage: libedgetpu1-std\nStatus: install ok installed\nVersion: {}\n"
    put(machine, "var/lib/dpkg/status", status.format("16.0"))
    assert_fault(edgetpu_checks.check_edgetpu_pair(here), "problem", "libedgetpu 16.0 does not fit", "2.12")
    put(machine, "var/lib/dpkg/status", status.format("16.0tf2.19.1"))
    assert edgetpu_checks.check_edgetpu_pair(here).state == "ok"


def test_large_pages_and_the_pci_driver(machine: Machine) -> None:
    large = replace(machine, page_size=16384)
    assert edgetpu_checks.check_page_size(large).state == "ok"
    plug_pci(machine)
    assert_fault(edgetpu_checks.check_page_size(large), "warning", "16 kB", "kernel8.img")


@pytest.mark.parametrize(
    ("bits", "slowed", "supply"),
    [
        ("0", "ok", "ok"),
        ("4", "warning", "ok"),
        ("50005", "warning", "problem"),
        ("0x10000", "ok", "warning"),
        ("80000", "warning", "ok"),
    ],
)
def test_raspberry_pi_tells_heat_and_power(machine: Machine, bits: str, slowed: str, supply: str) -> None:
    put(machine, "sys/devices/platform/soc/soc:firmware/get_throttled", bits + "\n")
    assert (speed_checks.check_throttling(machine).state, speed_checks.check_supply(machine).state) == (slowed, supply)


def test_processor_that_is_cooled_by_slowing(machine: Machine) -> None:
    cooler = "sys/class/thermal/cooling_device0"
    put(machine, f"{cooler}/type", "cpufreq-cpu0\n")
    put(machine, f"{cooler}/cur_state", "0\n")
    assert speed_checks.check_throttling(machine).state == "ok"
    put(machine, f"{cooler}/cur_state", "2\n")
    assert_fault(speed_checks.check_throttling(machine), "warning", "cpufreq-cpu0")


def test_cores_that_are_off_capped_or_busy(machine: Machine) -> None:
    put(machine, "sys/devices/system/cpu/present", "0-3\n")
    put(machine, "sys/devices/system/cpu/online", "0-1\n")
    assert_fault(speed_checks.check_cores(machine), "warning", "0-1 of 0-3", "nvpmodel")
    put(machine, "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "600000\n")
    put(machine, "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "1800000\n")
    assert_fault(speed_checks.check_clock_limit(machine), "warning", "600 of 1800 MHz")
    put(machine, "proc/loadavg", "3.10 2.00 1.00 5/300 4242\n")
    assert_fault(speed_checks.check_load(machine), "warning", "3.10 programs", "4 cores")


def test_edgetpu_chip_is_a_sensor(machine: Machine) -> None:
    put(machine, "sys/class/apex/apex_0/temp", "91000\n")
    assert_fault(speed_checks.check_temperature(machine), "warning", "91 degrees")


def test_clock_that_was_never_set(machine: Machine) -> None:
    assert_fault(system_checks.check_date(replace(machine, year=1970)), "warning", "1970", "timedatectl")


def test_port_in_use() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert not Machine().is_port_free(server.getsockname()[1])
    busy = Machine(is_port_free=lambda _port: False)
    assert_fault(system_checks.check_port(busy), "warning", "8765", "--port 0")


def test_opencv_installed_twice(machine: Machine) -> None:
    twice = replace(machine, find_version=lambda name: "4.14.0" if "contrib" not in name else "")
    assert_fault(package_checks.check_opencv_once(twice), "warning", "opencv-python and opencv-python-headless are")


def answer_as_camera(*formats: str) -> Callable[[int, int, bytearray], int]:
    """Answer as Video4Linux documents it: no camera can be had here."""

    def control(_descriptor: int, request: int, answer: bytearray) -> int:
        if request == v4l2.QUERY_CAPABILITIES:
            answer[:] = struct.pack("16s32s32sIII12x", b"uvcvideo", b"Made-up Cam", b"usb-1", 1, 0x84A00001, 0x04200001)
            return 0
        index = struct.unpack_from("I", answer)[0]
        if index >= len(formats):
            raise OSError(errno.EINVAL, "no more formats")
        struct.pack_into("4s", answer, 44, formats[index].encode())
        return 0

    return control


def test_camera_formats(machine: Machine) -> None:
    webcam = replace(machine, control_device=answer_as_camera("MJPG", "YUYV"))
    check = hardware_checks.check_camera_formats(webcam)
    assert (check.state, check.detail) == ("ok", "/dev/video0 Made-up Cam: MJPG, YUYV.")
    sensor = replace(machine, control_device=answer_as_camera("RG10", "BA81"))
    assert_fault(hardware_checks.check_camera_formats(sensor), "warning", "bare sensors", "csi://0")
    assert hardware_checks.check_camera_formats(machine).state == "ok"  # a plain file is no video device


def test_gpu_is_tried_only_where_vulkan_is(machine: Machine) -> None:
    assert backend_checks.check_gpu_backend(machine).detail == "Not usable: libvulkan.so.1 is not here."
    put(machine, "usr/lib/libvulkan.so.1", "")
    broken = replace(machine, import_module=fake_import(edgeseg="1", ai_edge_litert=None))
    assert_fault(backend_checks.check_gpu_backend(broken), "warning", "LiteRT does not load")


def test_edgetpu_without_its_library_is_no_backend(machine: Machine) -> None:
    plug_usb(machine, "1a6e:089a")
    assert_fault(backend_checks.check_edgetpu_backend(machine), "warning", "libedgetpu.so.1 is not here", "coral.ai")


def test_cpu_backend_that_cannot_load_is_a_problem(machine: Machine) -> None:
    broken = replace(machine, import_module=fake_import(edgeseg=ImportError("numpy: wrong ELF class")))
    assert_fault(backend_checks.check_cpu_backend(broken), "problem", "numpy does not load")
    assert backend_checks.check_cpu_backend(Machine()).state == "ok"


def test_onnx_is_no_fault_when_absent(machine: Machine) -> None:
    assert backend_checks.check_onnx_backend(machine).state == "ok"


def test_profile_of_another_board(machine: Machine) -> None:
    nano = load_board("jetson-nano")
    assert_fault(profile_checks.check_profile_board(machine, nano), "warning", "Jetson Nano", "edgeseg devices")
    old = replace(machine, libc=("glibc", "2.26"), find_program=lambda _name: None)
    assert_fault(profile_checks.check_profile_system(old, nano), "warning", "JetPack 4.6", "2.26")
    assert_fault(profile_checks.check_profile_camera(old, nano), "warning", "gst-launch-1.0")
    (machine.root / "dev/video0").unlink()
    pi = load_board("raspberry-pi-4")
    assert_fault(profile_checks.check_profile_camera(machine, pi), "warning", "/dev/video0")
    assert_fault(profile_checks.check_profile_heat(machine, pi), "warning", "get_throttled")
    assert_fault(profile_checks.check_profile_backend(machine, load_board("coral-usb")), "problem", "--backend cpu")


def test_what_is_plugged_in_is_named_beside_the_board(machine: Machine) -> None:
    plug_usb(machine, "1a6e:089a")
    put(machine, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    assert system_checks.check_board(machine).detail.endswith("nearest profile: raspberry-pi-4; plugged in: coral-usb.")


def test_the_doctor_looks_at_enough() -> None:
    assert len(CHECKS) >= 25


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
