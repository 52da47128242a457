"""Which backends would run a model here: each one is tried, GPU and Edge TPU in a process of their own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from edgeseg.backends.probe_model import build_probe_model
from edgeseg.core.errors import EdgesegError
from edgeseg.core.install import tell_install
from edgeseg.deploy.check import Check
from edgeseg.deploy.edgetpu_checks import CRASH_HINT, LIBRARY, LIBRARY_HINT, find_edgetpu
from edgeseg.deploy.machine import Machine

VULKAN = "libvulkan.so.1"
LIMIT_S = 10.0
"""For a driver that hangs; one that works answers within two seconds."""
_VULKAN_HINT = "sudo apt-get install libvulkan1 mesa-vulkan-drivers    (NVIDIA: its own driver), or use --backend cpu."
_CRASH_HINTS = {"gpu": _VULKAN_HINT, "edgetpu": CRASH_HINT}


@dataclass(frozen=True)
class Finding:
    """What became of a backend; one for which nothing is here is no fault of the machine."""

    available: bool
    detail: str
    hint: str = ""
    is_fault: bool = True


def check_cpu_backend(machine: Machine) -> Check:
    """Tell what would run models on the CPU."""
    return _report("cpu", probe_backend(machine, "cpu"))


def check_gpu_backend(machine: Machine) -> Check:
    """Tell whether LiteRT computes on a GPU."""
    return _report("gpu", probe_backend(machine, "gpu"))


def check_edgetpu_backend(machine: Machine) -> Check:
    """Tell whether library, runtime and Edge TPU work together."""
    return _report("edgetpu", probe_backend(machine, "edgetpu"))


def check_onnx_backend(machine: Machine) -> Check:
    """Tell what onnxruntime would run models on."""
    return _report("onnx", probe_backend(machine, "onnx"))


def _report(name: str, found: Finding) -> Check:
    title = f"backend {name}"
    if found.available or not found.is_fault:
        return Check(title, "ok", found.detail.rstrip(".") + ".")
    return Check(title, "problem" if name == "cpu" else "warning", found.detail, found.hint)


@cache
def probe_backend(machine: Machine, name: str) -> Finding:
    """Try a backend, once for each machine, and only where its parts are there."""
    absence = _find_absence(machine, name)
    if absence is not None:
        return absence
    package = machine.load_package("edgeseg.backends.select")
    if package.module is None:
        return Finding(False, "Not tried: numpy does not load.", "Mend the line on numpy first.")
    try:
        if name in _CRASH_HINTS:
            return _try_elsewhere(machine, name)
        probe = package.module.BACKENDS[name].probe(b"")
    except EdgesegError as error:
        return Finding(False, error.message, error.hint)
    return Finding(probe.available, probe.detail, probe.hint)


def _find_absence(machine: Machine, name: str) -> Finding | None:
    """Say what a backend lacks before anything of it is loaded; None where it can be tried."""
    if name == "gpu" and not machine.has_library(VULKAN):
        return Finding(False, f"Not usable: {VULKAN} is not here.", _VULKAN_HINT, is_fault=False)
    if name == "edgetpu" and not find_edgetpu(machine):
        hint = "Plug it in, or name another --device."
        return Finding(False, "Not usable: no Edge TPU on USB or PCI.", hint, is_fault=False)
    if name == "edgetpu" and not machine.has_library(LIBRARY):
        return Finding(False, f"Not usable: {LIBRARY} is not here.", LIBRARY_HINT)
    if name == "onnx" and machine.load_package("onnxruntime").module is None:
        hint = tell_install("onnx")
        return Finding(False, "Not usable: onnxruntime is not here, or does not load.", hint, is_fault=False)
    return None


def _try_elsewhere(machine: Machine, name: str) -> Finding:
    """Run the tiny model; on an Edge TPU it stays on the CPU, yet the library and the chip are opened."""
    if machine.load_package("ai_edge_litert.schema_py_generated").module is None:
        return Finding(False, "Not tried: LiteRT does not load.", "Mend the line on runtime first.")
    trial = machine.import_module("edgeseg.backends.trial")
    probe = trial.try_backend(name, "", build_probe_model(), _CRASH_HINTS[name], LIMIT_S)
    return Finding(probe.available, probe.detail, probe.hint)
