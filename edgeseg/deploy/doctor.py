"""Is this machine ready, and what mends it: every check in the order in which a person would look."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from edgeseg.core.board import Board
from edgeseg.deploy import (
    backend_checks,
    edgetpu_checks,
    hardware_checks,
    package_checks,
    profile_checks,
    speed_checks,
    system_checks,
)
from edgeseg.deploy.check import Check
from edgeseg.deploy.machine import Machine

CHECKS: tuple[Callable[[Machine], Check], ...] = (
    system_checks.check_board,
    system_checks.check_processor,
    system_checks.check_python,
    system_checks.check_glibc,
    package_checks.check_numpy,
    package_checks.check_opencv,
    package_checks.check_opencv_once,
    package_checks.check_runtime,
    package_checks.check_xnnpack,
    backend_checks.check_cpu_backend,
    backend_checks.check_gpu_backend,
    backend_checks.check_edgetpu_backend,
    backend_checks.check_onnx_backend,
    edgetpu_checks.check_edgetpu,
    edgetpu_checks.check_edgetpu_rights,
    edgetpu_checks.check_edgetpu_port,
    edgetpu_checks.check_edgetpu_pair,
    edgetpu_checks.check_page_size,
    hardware_checks.check_cameras,
    hardware_checks.check_camera_formats,
    hardware_checks.check_video_group,
    hardware_checks.check_gstreamer,
    speed_checks.check_governor,
    speed_checks.check_clock_limit,
    speed_checks.check_cores,
    speed_checks.check_load,
    speed_checks.check_temperature,
    speed_checks.check_throttling,
    speed_checks.check_supply,
    system_checks.check_memory,
    system_checks.check_disk,
    system_checks.check_date,
    system_checks.check_port,
)
WAITING = (backend_checks.check_gpu_backend, backend_checks.check_edgetpu_backend)
"""These wait for a driver in a process of its own, so they run beside the others."""
PROFILE_CHECKS: tuple[Callable[[Machine, Board], Check], ...] = (
    profile_checks.check_profile_machine,
    profile_checks.check_profile_board,
    profile_checks.check_profile_system,
    profile_checks.check_profile_python,
    profile_checks.check_profile_memory,
    profile_checks.check_profile_heat,
    profile_checks.check_profile_camera,
    profile_checks.check_profile_backend,
)


def run_checks(machine: Machine, board: Board | None = None) -> list[Check]:
    """Look at everything that decides whether models run well here.

    Args:
        machine: Where to look.
        board: The profile to hold the machine against, if any.
    """
    with ThreadPoolExecutor() as threads:
        begun = {check: threads.submit(check, machine) for check in WAITING}
        checks = [begun[check].result() if check in begun else check(machine) for check in CHECKS]
    if board is not None:
        checks += [check(machine, board) for check in PROFILE_CHECKS]
    return checks
