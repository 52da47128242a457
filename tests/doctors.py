"""A machine for the doctor, made of files below a folder: all is well on it until a test spoils something."""

from __future__ import annotations

import errno
import importlib
import json
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from edgeseg.machine import host
from edgeseg.machine.host import Machine

Spoil = Callable[[Machine], Machine]
MEMINFO = "MemTotal: {total} kB\nMemFree: 100 kB\nMemAvailable: {free} kB\n"
CPU = "sys/devices/system/cpu"
GOVERNOR = f"{CPU}/cpu0/cpufreq/scaling_governor"
ZONE = "sys/class/thermal/thermal_zone0/temp"
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
STICK = "sys/bus/usb/devices/1-1"
NVIDIA_SMI = "nvidia-smi"
CUDA_PACKAGES = {"tensorflow": "2.21.0", "nvidia-cudnn-cu12": "9.10.2"}
BUILD = "  GUI:                           {gui}\n  Video I/O:\n    GStreamer:                   {gst}\n"


def describe_machine(root: Path) -> Machine:
    """Describe a board on which all is well."""
    board = Machine(
        root=root,
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
        find_program=lambda name: None if name == NVIDIA_SMI else f"/usr/bin/{name}",
        is_port_free=lambda _port: True,
        can_write=lambda _path: True,
    )
    put(board, "proc/device-tree/model", "Made-up Board 3\0")
    put(board, "proc/meminfo", MEMINFO.format(total=4000000, free=2000000))
    put(board, GOVERNOR, "performance\n")
    put(board, ZONE, "45000\n")
    put(board, "dev/video0", "")
    return board


def put(machine: Machine, path: str, text: str) -> None:
    """Write a file of the machine."""
    file = machine.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


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


def facts(**changed: Any) -> Spoil:
    """Change what the machine is."""
    return lambda machine: replace(machine, **changed)


def packages(**found: Any) -> Spoil:
    """Install other packages; None takes one away, an exception lets it fail."""
    return lambda machine: replace(machine, import_module=fake_import(**found))


def file(path: str, text: str) -> Spoil:
    """Write a file."""

    def spoil(machine: Machine) -> Machine:
        put(machine, path, text)
        return machine

    return spoil


def without(path: str) -> Spoil:
    """Take a file away."""

    def spoil(machine: Machine) -> Machine:
        (machine.root / path).unlink()
        return machine

    return spoil


def both(*spoils: Spoil) -> Spoil:
    """Do one after the other."""

    def spoil(machine: Machine) -> Machine:
        for each in spoils:
            machine = each(machine)
        return machine

    return spoil


def usb_stick(identity: str = "1a6e:089a", speed: int = 5000) -> Spoil:
    """Plug a USB device in."""
    vendor, product = identity.split(":")
    words = {"idVendor": vendor, "idProduct": product, "busnum": "1", "devnum": "7", "speed": str(speed)}
    return both(*(file(f"{STICK}/{name}", f"{word}\n") for name, word in words.items()))


def pci_card(machine: Machine) -> Machine:
    """Put an Edge TPU into a slot."""
    put(machine, "sys/bus/pci/devices/0/vendor", "0x1ac1\n")
    put(machine, "sys/bus/pci/devices/0/device", "0x089a\n")
    return machine


def nvidia_card(machine: Machine) -> Machine:
    """Put an NVIDIA GPU into a slot, without its driver."""
    put(machine, "sys/bus/pci/devices/0/vendor", "0x10de\n")
    put(machine, "sys/bus/pci/devices/0/device", "0x2531\n")
    return machine


def nvidia(
    smi: str | bytes | Exception = "NVIDIA RTX A2000, 550.54.14\n",
    code: int = 0,
    installed: Mapping[str, str] = CUDA_PACKAGES,
    tensorflow: str | bytes | Exception = "",
    **seen: Any,
) -> Spoil:
    """Put an NVIDIA GPU in: what nvidia-smi prints and ends with, and what the child process with TensorFlow prints.

    Args:
        smi: What nvidia-smi prints, or how it fails.
        code: Its exit status.
        installed: Versions of the packages.
        tensorflow: What the child process prints, or how it fails; by default that it sees no GPU.
        seen: Changes of that default.
    """
    told = {"tensorflow": "2.21.0", "cuda": "12.5.1", "gpus": [], "visible": None, **seen}

    def run(command: Sequence[str], _seconds: float) -> subprocess.CompletedProcess[bytes]:
        is_smi = command[0].endswith(NVIDIA_SMI)
        said = smi if is_smi else tensorflow or json.dumps(told)
        if isinstance(said, Exception):
            raise said
        out = said.encode() if isinstance(said, str) else said
        return subprocess.CompletedProcess(command, code if is_smi else 0, out, b"")

    return facts(
        run_program=run,
        find_program=lambda name: f"/usr/bin/{name}",
        find_version=lambda name: installed.get(name, ""),
    )


def answer_as_camera(*formats: str) -> Callable[[int, int, bytearray], int]:
    """Answer as Video4Linux documents it: no camera can be had here."""

    def control(_descriptor: int, request: int, answer: bytearray) -> int:
        if request == host.QUERY_CAPABILITIES:
            answer[:] = struct.pack("16s32s32sIII12x", b"uvcvideo", b"Made-up Cam", b"usb-1", 1, 0x84A00001, 0x04200001)
            return 0
        index = struct.unpack_from("I", answer)[0]
        if index >= len(formats):
            raise OSError(errno.EINVAL, "no more formats")
        struct.pack_into("4s", answer, 44, formats[index].encode())
        return 0

    return control
