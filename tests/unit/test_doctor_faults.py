"""Every fault that the doctor tells of is produced: by files and facts of a made-up machine."""

from __future__ import annotations

import inspect
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.onnx import OnnxBackend
from edgeseg.core.errors import BackendError
from edgeseg.doctor import accelerators as backends
from edgeseg.doctor import accelerators as edgetpu
from edgeseg.doctor import packages as package
from edgeseg.doctor import profile as hardware
from edgeseg.doctor import profile as profile
from edgeseg.doctor import system as speed
from edgeseg.doctor import system as system
from edgeseg.doctor.run import CHECKS, PROFILE_CHECKS
from edgeseg.machine.boards import load_board
from edgeseg.machine.host import Machine
from tests.doctors import (
    CPU,
    FIRMWARE,
    GOVERNOR,
    MEMINFO,
    ZONE,
    Spoil,
    answer_as_camera,
    both,
    describe_machine,
    facts,
    fake_import,
    file,
    nvidia,
    nvidia_card,
    packages,
    pci_card,
    usb_stick,
    without,
)

NO_MEMORY = MEMINFO.format(total=262144, free=50_000)
LITTLE_MEMORY = MEMINFO.format(total=4_000_000, free=200_000)
COOLER = "sys/class/thermal/cooling_device0"
DPKG = "Package: libedgetpu1-std\nStatus: install ok installed\nVersion: 16.0\n"
VULKAN = "usr/lib/libvulkan.so.1"
LIBRARY = file("usr/lib/libedgetpu.so.1", "")
NO_LITERT = packages(ai_edge_litert=None)
LEGACY = {"ai_edge_litert": None, "tflite_runtime": "2.14.0"}
EVERY: tuple[Callable[..., Any], ...] = (*CHECKS, *PROFILE_CHECKS)
NEVER_AT_FAULT = {hardware.check_gstreamer}
"""GStreamer is needed for some sources only; profile_checks tells where a board counts on it."""


@dataclass(frozen=True)
class Fault:
    """What is wrong, what the check must call it, and what its sentence or its remedy must hold."""

    check: Callable[..., Any]
    state: str
    words: str
    spoil: Spoil
    board: str = ""


SYSTEM = (
    Fault(system.check_board, "warning", "no profile fits", facts(architecture="riscv64")),
    Fault(system.check_processor, "problem", "32-bit", facts(word_bits=32)),
    Fault(system.check_processor, "problem", "riscv64", facts(architecture="riscv64")),
    Fault(system.check_python, "problem", "got 3.9", facts(python=(3, 9))),
    Fault(system.check_python, "problem", "got 3.14", facts(python=(3, 14))),
    Fault(system.check_glibc, "problem", "got 2.26", facts(libc=("glibc", "2.26"))),
    Fault(system.check_glibc, "problem", "an unknown C library", facts(libc=("", ""))),
    Fault(system.check_memory, "problem", "48 MB", file("proc/meminfo", NO_MEMORY)),
    Fault(system.check_memory, "warning", "195 MB", file("proc/meminfo", LITTLE_MEMORY)),
    Fault(system.check_disk, "problem", "10 MB", facts(free_disk_mb=10)),
    Fault(system.check_disk, "warning", "100 MB", facts(free_disk_mb=100)),
    Fault(system.check_date, "warning", "timedatectl", facts(year=1970)),
    Fault(system.check_port, "warning", "--port 0", facts(is_port_free=lambda _port: False)),
)
PACKAGES = (
    Fault(package.check_numpy, "problem", "not installed", packages(numpy=None)),
    Fault(package.check_numpy, "problem", "got 1.24.4", packages(numpy="1.24.4")),
    Fault(package.check_numpy, "problem", "wrong ELF class", packages(numpy=OSError("wrong ELF class"))),
    Fault(package.check_opencv, "problem", "pip install opencv-python-headless", packages(cv2=None)),
    Fault(package.check_opencv, "problem", "libGL.so.1", packages(cv2=ImportError("libGL.so.1: no such file"))),
    Fault(
        package.check_opencv_once,
        "warning",
        "opencv-python and opencv-python-headless are",
        facts(find_version=lambda name: "4.14.0" if "contrib" not in name else ""),
    ),
    Fault(package.check_runtime, "problem", "pip install ai-edge-litert", NO_LITERT),
    Fault(package.check_runtime, "problem", "--force-reinstall", packages(ai_edge_litert=OSError("wrong ELF class"))),
    Fault(
        package.check_runtime,
        "problem",
        "does not load: No module named 'flatbuffers'",
        packages(ai_edge_litert=ModuleNotFoundError("No module named 'flatbuffers'", name="flatbuffers")),
    ),
    Fault(package.check_runtime, "problem", "numpy below 2", packages(**LEGACY)),
    Fault(package.check_runtime, "warning", "several times slower", packages(**LEGACY, numpy="1.26.4")),
    Fault(package.check_xnnpack, "warning", "Not checked", NO_LITERT),
)
BACKENDS = (
    Fault(
        backends.check_cpu_backend, "problem", "numpy does not load", packages(edgeseg=ImportError("wrong ELF class"))
    ),
    Fault(backends.check_gpu_backend, "warning", "LiteRT does not load", both(file(VULKAN, ""), NO_LITERT)),
    Fault(backends.check_edgetpu_backend, "warning", "libedgetpu.so.1 is not installed", usb_stick()),
    Fault(edgetpu.check_edgetpu, "warning", "libedgetpu1-std", usb_stick()),
    Fault(edgetpu.check_edgetpu, "warning", "gasket", both(pci_card, LIBRARY)),
    Fault(edgetpu.check_edgetpu_rights, "problem", "plugdev", both(usb_stick(), facts(can_write=lambda _path: False))),
    Fault(
        edgetpu.check_edgetpu_rights,
        "problem",
        "-aG apex",
        both(pci_card, file("dev/apex_0", ""), facts(can_write=lambda _path: False)),
    ),
    Fault(edgetpu.check_edgetpu_port, "warning", "480 Mbit/s", usb_stick("18d1:9302", speed=480)),
    Fault(edgetpu.check_edgetpu_pair, "problem", "does not fit LiteRT 2.3.0", file("var/lib/dpkg/status", DPKG)),
    Fault(
        edgetpu.check_edgetpu_pair,
        "problem",
        "does not fit tflite-runtime 2.14.0",
        both(file("var/lib/dpkg/status", DPKG), packages(**LEGACY)),
    ),
    Fault(edgetpu.check_page_size, "warning", "kernel8.img", both(pci_card, facts(page_size=16384))),
)
SLOW = subprocess.TimeoutExpired("it", 10)
NO_DRIVER = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
WITHOUT_CUDA = {"tensorflow": "2.21.0"}
TRAINING_GPU = tuple(
    Fault(backends.check_training_gpu, "warning", words, spoil)
    for words, spoil in (
        ("no nvidia-smi", both(facts(find_version=lambda name: WITHOUT_CUDA.get(name, "")), nvidia_card)),
        ("gave no answer within 10 seconds", nvidia(SLOW)),
        ("cannot be started: Exec format error", nvidia(OSError(8, "Exec format error"))),
        ("couldn't communicate with the NVIDIA driver", nvidia(NO_DRIVER, code=9)),
        ("ended by SIGSEGV", nvidia("", code=-11)),
        ("lists no GPU: No devices were found", nvidia("No devices were found\n")),
        ("lists no GPU: it gave no reason", nvidia("\n")),
        ("\\x1b[2J", nvidia("\x1b[2J, 550.1\nA, B, C\n")),
        ("lists no GPU: \ufffd\ufffd", nvidia(b"\xff\xfe\x00\x01")),
        ("NVIDIA TITAN, driver 470: TensorFlow needs 525", nvidia("NVIDIA TITAN, 470.256.02\n")),
        ("TensorFlow gave no answer within 60 seconds", nvidia(tensorflow=SLOW)),
        ("cannot be read", nvidia(tensorflow="Segmentation fault")),
        ("cannot be read", nvidia(tensorflow='{"tensorflow": 2, "gpus": "all"}')),
        ("cannot be read", nvidia(tensorflow=b"\xff" + b"[" * 100_000)),
        ("unset CUDA_VISIBLE_DEVICES", nvidia(visible="-1")),
        ("[train,cuda]", nvidia(installed=WITHOUT_CUDA)),
        ("[train,cuda]", nvidia(installed=WITHOUT_CUDA, visible="0")),
        ("built without CUDA", nvidia(cuda="")),
        ("unset LD_LIBRARY_PATH", nvidia()),
    )
)
HARDWARE = (
    Fault(hardware.check_cameras, "warning", "phantom://", without("dev/video0")),
    Fault(hardware.check_camera_formats, "warning", "csi://0", facts(control_device=answer_as_camera("RG10", "BA81"))),
    Fault(hardware.check_video_group, "warning", "usermod -aG video", facts(groups=frozenset({"users"}))),
    Fault(
        speed.check_governor, "warning", f"sudo tee /{CPU}/cpu*/", file(GOVERNOR.replace("cpu0", "cpu1"), "ondemand\n")
    ),
    Fault(
        speed.check_clock_limit,
        "warning",
        "600 of 1800 MHz",
        both(
            file(f"{CPU}/cpu0/cpufreq/scaling_max_freq", "600000\n"),
            file(f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq", "1800000\n"),
        ),
    ),
    Fault(
        speed.check_cores, "warning", "nvpmodel", both(file(f"{CPU}/present", "0-3\n"), file(f"{CPU}/online", "0-1\n"))
    ),
    Fault(speed.check_load, "warning", "load is 3.10", file("proc/loadavg", "3.10 2.00 1.00 5/300 4242\n")),
    Fault(speed.check_temperature, "warning", "82 degrees", file(ZONE.replace("zone0", "zone1"), "81500\n")),
    Fault(speed.check_temperature, "warning", "91 degrees", file("sys/class/apex/apex_0/temp", "91000\n")),
    Fault(speed.check_throttling, "warning", "right now (firmware)", file(FIRMWARE, "4\n")),
    Fault(speed.check_throttling, "warning", "since the last start", file(FIRMWARE, "80000\n")),
    Fault(
        speed.check_throttling,
        "warning",
        "right now (cpufreq-cpu0)",
        both(file(f"{COOLER}/type", "cpufreq-cpu0\n"), file(f"{COOLER}/cur_state", "2\n")),
    ),
    Fault(speed.check_supply, "problem", "too low right now", file(FIRMWARE, "50005\n")),
    Fault(speed.check_supply, "warning", "since the last start", file(FIRMWARE, "0x10000\n")),
    Fault(speed.check_supply, "warning", "lowered 3 times", file("sys/class/hwmon/hwmon3/oc1_event_cnt", "3\n")),
)
PROFILES = (
    Fault(profile.check_profile_machine, "problem", "--device", facts(architecture="x86_64"), "jetson-nano"),
    Fault(profile.check_profile_board, "warning", "edgeseg devices", facts(), "jetson-nano"),
    Fault(profile.check_profile_system, "warning", "JetPack 4.6", facts(libc=("glibc", "2.26")), "jetson-nano"),
    Fault(profile.check_profile_python, "problem", "setup.sh", facts(python=(3, 9)), "jetson-nano"),
    Fault(profile.check_profile_memory, "problem", "got 256", file("proc/meminfo", NO_MEMORY), "generic-aarch64"),
    Fault(profile.check_profile_heat, "warning", "get_throttled", facts(), "raspberry-pi-4"),
    Fault(profile.check_profile_camera, "warning", "apt-get", facts(find_program=lambda _name: None), "jetson-nano"),
    Fault(profile.check_profile_camera, "warning", "/dev/video0", without("dev/video0"), "raspberry-pi-4"),
    Fault(profile.check_profile_backend, "problem", "--backend cpu", facts(), "coral-usb"),
)
FAULTS = (*SYSTEM, *PACKAGES, *BACKENDS, *TRAINING_GPU, *HARDWARE, *PROFILES)
REAL = {(package.check_xnnpack, "problem"), (backends.check_onnx_backend, "warning")}
"""Faults with a test of their own below."""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.check.__name__}: {fault.words}")
def test_fault_is_told_with_its_remedy(fault: Fault, tmp_path: Path) -> None:
    profiles = (load_board(fault.board),) if fault.board else ()
    well, spoiled = describe_machine(tmp_path / "well"), fault.spoil(describe_machine(tmp_path / "spoiled"))
    check = fault.check(spoiled, *profiles)
    assert (check.state, bool(check.fix)) == (fault.state, True), check
    assert fault.words in f"{check.detail} {check.fix}"
    assert check.detail.endswith(".")
    if not profiles:
        assert fault.check(well).state == "ok"


def test_no_check_and_no_state_is_without_a_fault_here() -> None:
    produced = {(fault.check, fault.state) for fault in FAULTS} | REAL
    told = {(check, state) for check in EVERY for state in re.findall(r'"(warning|problem)"', inspect.getsource(check))}
    assert told <= produced
    assert {check for check, _ in produced} == {*EVERY} - NEVER_AT_FAULT


def test_the_doctor_looks_at_enough() -> None:
    assert len(CHECKS) >= 25


def test_xnnpack_off_names_missing_cpu_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CpuBackend, "uses_xnnpack", lambda _self: False)
    check = package.check_xnnpack(Machine(root=tmp_path))
    assert check.state == "problem"
    assert "/sys/devices/system/cpu/possible and /sys/devices/system/cpu/present" in check.fix


def test_onnxruntime_that_refuses_the_tiny_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_network: bytes, _variant: str = "") -> None:
        raise BackendError("Expected a provider, got none.", "Install another onnxruntime.")

    monkeypatch.setattr(OnnxBackend, "probe", refuse)
    machine = facts(import_module=fake_import(onnxruntime="1.20"))(describe_machine(tmp_path))
    check = backends.check_onnx_backend(machine)
    assert (check.state, "onnxruntime" in check.fix) == ("warning", True)


def test_a_driver_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "LIMIT_S", 0.01)
    machine = file(VULKAN, "")(describe_machine(tmp_path))
    check = backends.check_gpu_backend(machine)
    assert (check.state, "0.01 s" in check.detail) == ("warning", True)
    assert "libvulkan1" in check.fix


def test_edge_tpu_soldered_on_usb_2_is_where_it_belongs(tmp_path: Path) -> None:
    mini = both(usb_stick("18d1:9302", speed=480), file("proc/device-tree/model", "Google Coral MT8167\0"))
    assert edgetpu.check_edgetpu_port(mini(describe_machine(tmp_path))).state == "ok"
