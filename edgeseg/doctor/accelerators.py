"""Checks of backends and accelerators: each backend runs a tiny model, GPU and Edge TPU in a child process.

A driver may crash or hang, and must not take the doctor with it. TensorFlow is asked in a child process, too.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from edgeseg.backends.probe_model import build_probe_model
from edgeseg.core.errors import EdgesegError
from edgeseg.core.install import install_command
from edgeseg.core.process import command_module, describe_end
from edgeseg.core.redact import to_one_line
from edgeseg.core.schema import from_plain, parse_json
from edgeseg.doctor import Check
from edgeseg.machine.host import Machine, parse_version

USB_IN_USE = "18d1:9302"
# Vendor and product before and after the first use: loading the firmware changes them.
USB_IDS = frozenset({"1a6e:089a", USB_IN_USE})
USB_3_MBIT = 5000
# In the device tree's model of the Coral Dev Board Mini, whose Edge TPU is on USB 2 by design.
SOLDERED_ON_USB_2 = "MT8167"
PCI_IDS = frozenset({"1ac1:089a"})
LIBRARY = "libedgetpu.so.1"
LIBRARY_HINT = "Install libedgetpu1-std from Coral's package source: https://coral.ai/software"
CRASH_HINT = (
    "Install a libedgetpu that was built for this TFLite runtime: Coral's 16.0 was built for TensorFlow Lite 2.5 and "
    "crashes in runtimes from 2.12 on."
)
# The first TFLite runtime in which Coral's libedgetpu 16.0 crashes.
FIRST_MISFIT = (2, 12)
# Bytes; a Raspberry Pi 5 has pages of 16 kB by default.
SMALL_PAGE = 4096
VULKAN = "libvulkan.so.1"
# For a driver that hangs; one that works answers within two seconds.
LIMIT_S = 10.0
# TensorFlow takes seconds to be imported, and longer from a cold disk.
TENSORFLOW_S = 60.0
# The oldest Linux driver for CUDA 12: https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
OLDEST_DRIVER = 525
NVIDIA_VENDOR = "10de:"
# Values of CUDA_VISIBLE_DEVICES that hide every GPU.
HIDING = ("", "-1")
_DRIVER_HINT = (
    f"Install NVIDIA's driver, {OLDEST_DRIVER} or newer, restart, and look at: nvidia-smi    (a container needs the "
    "GPU passed to it)"
)
_SEEN = """python -c 'import tensorflow as tf; print(tf.config.list_physical_devices("GPU"))'"""
_VULKAN_HINT = "sudo apt-get install libvulkan1 mesa-vulkan-drivers    (NVIDIA: its own driver), or use --backend cpu."
_CRASH_HINTS = {"gpu": _VULKAN_HINT, "edgetpu": CRASH_HINT}

# Coral's own versions; builds for later TFLite releases have a suffix, such as 16.0tf2.19.
_CORALS_OWN = re.compile(r"1[0-6]\.\d+(-\d+)?")
_NVIDIA_GPU = re.compile(r"(?P<name>\S.*), (?P<driver>\d+)(?:\.\d+)+")
_PACKAGE = re.compile(r"^Package: libedgetpu1-(?:std|max)\n(?:.+\n)*?Version: (\S+)", re.MULTILINE)


def find_edgetpu(machine: Machine) -> str:
    """Return the bus of an Edge TPU, PCI or USB; empty without one."""
    signs = machine.read_signs()
    if signs.pci & PCI_IDS:
        return "PCI"
    return "USB" if signs.usb & USB_IDS else ""


def check_edgetpu(machine: Machine) -> Check:
    """Check for an Edge TPU, its library and, for a PCI card, its driver."""
    place, has_library = find_edgetpu(machine), machine.has_library(LIBRARY)
    library = f"{LIBRARY} {'found' if has_library else 'not found'}"
    if not place:
        return Check("edge tpu", "ok", f"No Edge TPU on USB or PCI ({library}).")
    if not has_library:
        return Check("edge tpu", "warning", f"An Edge TPU on {place}, but {library}.", LIBRARY_HINT)
    if place == "PCI" and not machine.find("dev/apex_*"):
        fix = "Install gasket-dkms from Coral's package source (https://coral.ai/software), then restart."
        return Check("edge tpu", "warning", "An Edge TPU on PCI, but no /dev/apex_*.", fix)
    return Check("edge tpu", "ok", f"An Edge TPU on {place}, {library}.")


def check_edgetpu_rights(machine: Machine) -> Check:
    """Check that this user may open the Edge TPU."""
    # the nodes belong to the groups that the packages' udev rules name
    closed = [node for node in _list_nodes(machine) if not machine.can_write(machine.root / node)]
    if not closed:
        return Check("edge tpu rights", "ok", "No Edge TPU is closed to this user.")
    group = "apex" if closed[0].startswith("dev/apex") else "plugdev"
    detail = f"This user may not open the Edge TPU at /{closed[0]}."
    fix = (
        f'sudo usermod -aG {group} "$USER"    (then log in again; without the udev rule of libedgetpu1-std: '
        "sh devices/BOARD/setup.sh --as-root, then unplug it and plug it in again)"
    )
    return Check("edge tpu rights", "problem", detail, fix)


def check_edgetpu_port(machine: Machine) -> Check:
    """Check that an Edge TPU on USB has the speed, and so the power, of USB 3."""
    speeds = [machine.read_number(f"{folder}/speed") for folder in _find_sticks(machine, frozenset({USB_IN_USE}))]
    slow = [speed for speed in speeds if speed is not None and speed < USB_3_MBIT]
    if not slow or SOLDERED_ON_USB_2 in machine.read_signs().model:
        return Check("edge tpu port", "ok", "No Edge TPU is on a port slower than USB 3.")
    detail = (
        f"The Edge TPU is on a port of {slow[0]} Mbit/s, expected {USB_3_MBIT}: slower, and short of power it resets."
    )
    fix = "Plug it into a USB 3 port (blue) by its own cable, or into a powered USB 3 hub."
    return Check("edge tpu port", "warning", detail, fix)


def _list_nodes(machine: Machine) -> list[str]:
    usb = [_name_usb_node(machine, folder) for folder in _find_sticks(machine, USB_IDS)]
    return machine.find("dev/apex_*") + [node for node in usb if node]


def _find_sticks(machine: Machine, identities: frozenset[str]) -> list[str]:
    """List the folders of the USB devices with one of these identities."""
    folders = [path.rpartition("/")[0] for path in machine.find("sys/bus/usb/devices/*/idVendor")]
    return [
        folder
        for folder in folders
        if f"{machine.read(f'{folder}/idVendor')}:{machine.read(f'{folder}/idProduct')}" in identities
    ]


def _name_usb_node(machine: Machine, folder: str) -> str:
    bus, device = (machine.read_number(f"{folder}/{name}") for name in ("busnum", "devnum"))
    return "" if bus is None or device is None else f"dev/bus/usb/{bus:03d}/{device:03d}"


def check_edgetpu_pair(machine: Machine) -> Check:
    """Check that the installed libedgetpu is none that is known to crash in this runtime."""
    package = _PACKAGE.search(machine.read("var/lib/dpkg/status") + "\n")
    if package is None:
        return Check("libedgetpu", "ok", "No package libedgetpu1 is installed, so its version was not checked.")
    litert = machine.load_package("ai_edge_litert")
    legacy = machine.load_package("tflite_runtime")
    # every version of LiteRT is newer than TensorFlow Lite 2.12
    is_new = litert.module is not None or parse_version(legacy.version) >= FIRST_MISFIT
    if is_new and _CORALS_OWN.fullmatch(package[1]):
        runtime = f"LiteRT {litert.version}" if litert.module is not None else f"tflite-runtime {legacy.version}"
        return Check("libedgetpu", "problem", f"libedgetpu {package[1]} does not fit {runtime}.", CRASH_HINT)
    return Check("libedgetpu", "ok", f"libedgetpu {package[1]}: no known conflict with this runtime.")


def check_page_size(machine: Machine) -> Check:
    """Check that memory pages are small enough for the Edge TPU's PCI driver."""
    if find_edgetpu(machine) != "PCI" or machine.page_size == SMALL_PAGE:
        return Check("page size", "ok", f"Memory pages of {machine.page_size // 1024} kB.")
    detail = f"Memory pages of {machine.page_size // 1024} kB: the Edge TPU's PCI driver is reported to need 4 kB."
    fix = "On a Raspberry Pi 5: put kernel=kernel8.img into /boot/firmware/config.txt and restart."
    return Check("page size", "warning", detail, fix)


@dataclass(frozen=True)
class Finding:
    """Whether a backend works; a missing optional part, such as a GPU, is no fault."""

    available: bool
    detail: str
    hint: str = ""
    is_fault: bool = True


def check_cpu_backend(machine: Machine) -> Check:
    """Check the CPU backend."""
    return _report("cpu", probe_backend(machine, "cpu"))


def check_gpu_backend(machine: Machine) -> Check:
    """Check that LiteRT runs a model on the GPU."""
    return _report("gpu", probe_backend(machine, "gpu"))


def check_edgetpu_backend(machine: Machine) -> Check:
    """Check that library, runtime and Edge TPU work together."""
    return _report("edgetpu", probe_backend(machine, "edgetpu"))


def check_onnx_backend(machine: Machine) -> Check:
    """Check what onnxruntime would run models on."""
    return _report("onnx", probe_backend(machine, "onnx"))


def _report(name: str, found: Finding) -> Check:
    title = f"backend {name}"
    if found.available or not found.is_fault:
        return Check(title, "ok", found.detail.rstrip(".") + ".")
    return Check(title, "problem" if name == "cpu" else "warning", found.detail, found.hint)


@cache
def probe_backend(machine: Machine, name: str) -> Finding:
    """Try a backend once, if its parts are installed; the result is cached."""
    absence = _find_absence(machine, name)
    if absence is not None:
        return absence
    package = machine.load_package("edgeseg.backends.select")
    if package.module is None:
        return Finding(False, "Not tried: numpy does not load.", "First fix numpy in this list.")
    try:
        if name in _CRASH_HINTS:
            return _try_in_child(machine, name)
        probe = package.module.BACKENDS[name].probe(b"")
    except EdgesegError as error:
        return Finding(False, error.message, error.hint)
    return Finding(probe.available, probe.detail, probe.hint)


def _find_absence(machine: Machine, name: str) -> Finding | None:
    """Find what a backend lacks, before anything of it is loaded; None when it can be tried."""
    if name == "gpu" and not machine.has_library(VULKAN):
        return Finding(False, f"Not usable: {VULKAN} is not installed.", _VULKAN_HINT, is_fault=False)
    if name == "edgetpu" and not find_edgetpu(machine):
        hint = "Plug it in, or name another --device."
        return Finding(False, "Not usable: no Edge TPU on USB or PCI.", hint, is_fault=False)
    if name == "edgetpu" and not machine.has_library(LIBRARY):
        return Finding(False, f"Not usable: {LIBRARY} is not installed.", LIBRARY_HINT)
    if name == "onnx" and machine.load_package("onnxruntime").module is None:
        hint = install_command("onnx")
        return Finding(False, "Not usable: onnxruntime is not installed, or does not load.", hint, is_fault=False)
    return None


def _try_in_child(machine: Machine, name: str) -> Finding:
    """Run the tiny model in a child process. For the Edge TPU it is not compiled, but library and chip are opened."""
    if machine.load_package("ai_edge_litert.schema_py_generated").module is None:
        return Finding(False, "Not tried: LiteRT does not load.", "First fix runtime in this list.")
    trial = machine.import_module("edgeseg.backends.probing")
    probe = trial.try_backend(name, "", build_probe_model(), _CRASH_HINTS[name], LIMIT_S)
    return Finding(probe.available, probe.detail, probe.hint)


@dataclass(frozen=True)
class TensorFlowHardware:
    """What the module edgeseg.training.hardware prints."""

    tensorflow: str
    cuda: str
    """The CUDA that it was built for; empty without."""
    gpus: tuple[str, ...]
    visible: str | None
    """The variable CUDA_VISIBLE_DEVICES."""


def check_training_gpu(machine: Machine) -> Check:
    """Check that TensorFlow sees the NVIDIA GPUs of this machine."""
    if not machine.find_version("tensorflow"):
        return Check("training gpu", "ok", "TensorFlow is not installed: nothing trains here.")
    program = machine.find_program("nvidia-smi")
    if program is None and not any(one.startswith(NVIDIA_VENDOR) for one in machine.read_signs().pci):
        return Check("training gpu", "ok", "No NVIDIA GPU: training uses the CPU.")
    if program is None:
        return Check("training gpu", "warning", "NVIDIA hardware on PCI, but no nvidia-smi.", _DRIVER_HINT)
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    listed = _ask(machine, "nvidia-smi", command, LIMIT_S)
    found = [_NVIDIA_GPU.fullmatch(line.strip()) for line in listed.answer.splitlines() if line.strip()]
    gpus = [gpu for gpu in found if gpu is not None]
    if not gpus or len(gpus) < len(found):
        said = listed.failure or f"nvidia-smi lists no GPU: {to_one_line(listed.answer, 100)}"
        return Check("training gpu", "warning", f"{said}.", _DRIVER_HINT)
    named = f"{to_one_line(gpus[0]['name'], 60)}, driver {gpus[0]['driver']}"
    if int(gpus[0]["driver"]) < OLDEST_DRIVER:
        detail = f"{named}: TensorFlow needs {OLDEST_DRIVER} or newer, so training uses the CPU."
        return Check("training gpu", "warning", detail, _DRIVER_HINT)
    return _check_tensorflow(machine, named, len(gpus))


def _check_tensorflow(machine: Machine, named: str, count: int) -> Check:
    asked = _ask(machine, "TensorFlow", command_module("edgeseg.training.hardware", []), TENSORFLOW_S)
    try:
        seen = from_plain(TensorFlowHardware, parse_json(asked.answer))
    except ValueError:
        said = asked.failure or "TensorFlow gave an answer that cannot be read"
        return Check("training gpu", "warning", f"{named}, but {said}.", f"Look at what it prints: {_SEEN}")
    title = f"TensorFlow {to_one_line(seen.tensorflow, 20)}"
    if seen.gpus:
        return Check("training gpu", "ok", f"{title} trains on {len(seen.gpus)} of {count}: {named}.")
    if seen.visible in HIDING:
        detail = f"{named}, but CUDA_VISIBLE_DEVICES hides it from {title}, so training uses the CPU."
        return Check("training gpu", "warning", detail, "unset CUDA_VISIBLE_DEVICES")
    if not seen.cuda:
        fix = f"pip uninstall -y tensorflow tensorflow-cpu && {install_command('train', 'cuda')}    (x86-64 only)"
        return Check("training gpu", "warning", f"{named}, but {title} is built without CUDA.", fix)
    if not machine.find_version("nvidia-cudnn-cu12"):
        detail = f"{named}, but {title} finds no CUDA libraries, so training uses the CPU."
        return Check("training gpu", "warning", detail, install_command("train", "cuda"))
    detail = f"{named}, but {title} does not see it, although CUDA libraries are installed: training uses the CPU."
    fix = f"unset LD_LIBRARY_PATH    (it may hide them), then look at what this prints: {_SEEN}"
    return Check("training gpu", "warning", detail, fix)


@dataclass(frozen=True)
class _Answer:
    """What a program printed, or a sentence without its full stop about why it gave no answer."""

    answer: str = ""
    failure: str = ""


def _ask(machine: Machine, name: str, command: Sequence[str], seconds: float) -> _Answer:
    try:
        done = machine.run_program(command, seconds)
    except subprocess.TimeoutExpired:
        return _Answer(failure=f"{name} gave no answer within {seconds:.0f} seconds")
    except OSError as error:
        return _Answer(failure=f"{name} cannot be started: {to_one_line(error.strerror or error, 100)}")
    if done.returncode != 0:
        # nvidia-smi writes its reasons to stdout
        said = done.stdout.decode("utf-8", "replace").strip()
        reason = f": {to_one_line(said, 100)}" if said else f", {to_one_line(describe_end(done), 150)}"
        return _Answer(failure=f"{name} failed{reason}")
    return _Answer(done.stdout.decode("utf-8", "replace"))
