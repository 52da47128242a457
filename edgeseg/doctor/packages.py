"""Checks of Python packages: numpy, OpenCV, a TFLite runtime, and XNNPACK in it."""

from __future__ import annotations

import re

from edgeseg.backends.probe_model import build_probe_model
from edgeseg.core.errors import EdgesegError
from edgeseg.doctor import Check
from edgeseg.machine.host import Machine, Package, parse_version

OLDEST_NUMPY = (1, 26)
# the files that XNNPACK's library cpuinfo reads to recognise the processor
_CPU_LISTS = ("sys/devices/system/cpu/possible", "sys/devices/system/cpu/present")
_HEADLESS = "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python-headless"
_OPENCVS = (
    "opencv-python",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
    "opencv-python-headless",
)
_LITERT = "pip install ai-edge-litert"


def check_numpy(machine: Machine) -> Check:
    """Check that numpy loads and is new enough."""
    numpy = machine.load_package("numpy")
    fix = "pip install --force-reinstall 'numpy>=1.26'"
    if numpy.module is None:
        return _report_absence("numpy", "numpy", numpy, fix)
    if parse_version(numpy.version) < OLDEST_NUMPY:
        return Check("numpy", "problem", f"Expected numpy 1.26 or newer, got {numpy.version}.", fix)
    return Check("numpy", "ok", f"numpy {numpy.version}.")


def check_opencv(machine: Machine) -> Check:
    """Check that OpenCV loads, and what it was built with."""
    opencv = machine.load_package("cv2")
    if opencv.module is None:
        fix = _HEADLESS if opencv.failure else "pip install opencv-python-headless"
        return _report_absence("opencv", "OpenCV", opencv, fix)
    build = opencv.module.getBuildInformation()
    window = "headless" if _read_build_line(build, "GUI") in ("", "NONE") else "with windows"
    gstreamer = "with" if _read_build_line(build, "GStreamer").startswith("YES") else "without"
    return Check("opencv", "ok", f"OpenCV {opencv.version}, {window}, {gstreamer} GStreamer.")


def check_opencv_once(machine: Machine) -> Check:
    """Check that only one OpenCV package is installed: they overwrite each other's files."""
    found = [name for name in _OPENCVS if machine.find_version(name)]
    if len(found) < 2:
        return Check("opencv once", "ok", f"OpenCV comes from {found[0] if found else 'no package of pip'}.")
    detail = f"{' and '.join(found)} are installed: they overwrite each other's files."
    return Check("opencv once", "warning", detail, f"pip uninstall -y {' '.join(found)} && pip install {found[-1]}")


def _read_build_line(build: str, key: str) -> str:
    line = re.search(rf"^\s*{key}:[ \t]*(.*)$", build, re.MULTILINE)
    return line[1].strip() if line else ""


def check_runtime(machine: Machine) -> Check:
    """Check which TFLite runtime would run a model."""
    litert = machine.load_package("ai_edge_litert.interpreter")
    if litert.module is not None:
        return Check("runtime", "ok", f"LiteRT {litert.version}.")
    legacy = machine.load_package("tflite_runtime")
    if litert.failure or legacy.module is None:
        fix = _LITERT.replace("install", "install --force-reinstall") if litert.failure else _LITERT
        return _report_absence("runtime", "LiteRT", litert, fix)
    return _report_legacy(legacy, machine.load_package("numpy"))


def _report_legacy(legacy: Package, numpy: Package) -> Check:
    name = f"tflite-runtime {legacy.version}"
    # tflite-runtime was compiled for the ABI of numpy 1
    if parse_version(numpy.version) >= (2, 0):
        detail = f"Expected numpy below 2 for {name}, got {numpy.version}."
        return Check("runtime", "problem", detail, f"{_LITERT} (or, where it has no wheel: pip install 'numpy<2')")
    return Check(
        "runtime", "warning", f"{name} in place of LiteRT: int8 models run several times slower on it.", _LITERT
    )


def check_xnnpack(machine: Machine) -> Check:
    """Check with a tiny model that LiteRT delegates its operators to XNNPACK."""
    litert = machine.load_package("ai_edge_litert.schema_py_generated")
    backend = machine.load_package("edgeseg.backends.cpu")
    if litert.module is None or backend.module is None:
        detail = "Not checked: LiteRT and the packages it needs do not all load."
        return Check("xnnpack", "warning", detail, "First fix numpy, opencv and runtime in this list.")
    try:
        is_used = backend.module.CpuBackend(build_probe_model()).uses_xnnpack()
    except EdgesegError as error:
        return Check("xnnpack", "problem", f"The tiny test model does not load: {error.message}", error.hint)
    if is_used:
        return Check("xnnpack", "ok", "LiteRT runs convolutions through XNNPACK.")
    missing = [f"/{path}" for path in _CPU_LISTS if not machine.read(path)]
    # some containers hide these files
    fix = f"Make {' and '.join(missing)} readable: XNNPACK stays off without." if missing else f"{_LITERT} --upgrade"
    return Check("xnnpack", "problem", "LiteRT runs convolutions without XNNPACK, its fast kernels.", fix)


def _report_absence(name: str, title: str, package: Package, fix: str) -> Check:
    if package.failure:
        return Check(name, "problem", f"{title} is installed but does not load: {package.failure}.", fix)
    return Check(name, "problem", f"{title} is not installed.", fix)
