"""The list of all checks, and `run_checks`.

The order is the one of the output: a fault early in the list often causes the ones after it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from edgeseg.doctor import Check, accelerators, packages, profile, system
from edgeseg.machine.boards import Board
from edgeseg.machine.host import Machine

CHECKS: tuple[Callable[[Machine], Check], ...] = (
    system.check_board,
    system.check_processor,
    system.check_python,
    system.check_glibc,
    packages.check_numpy,
    packages.check_opencv,
    packages.check_opencv_once,
    packages.check_runtime,
    packages.check_xnnpack,
    accelerators.check_cpu_backend,
    accelerators.check_gpu_backend,
    accelerators.check_edgetpu_backend,
    accelerators.check_onnx_backend,
    accelerators.check_training_gpu,
    accelerators.check_edgetpu,
    accelerators.check_edgetpu_rights,
    accelerators.check_edgetpu_port,
    accelerators.check_edgetpu_pair,
    accelerators.check_page_size,
    profile.check_cameras,
    profile.check_camera_formats,
    profile.check_video_group,
    profile.check_gstreamer,
    system.check_governor,
    system.check_clock_limit,
    system.check_cores,
    system.check_load,
    system.check_temperature,
    system.check_throttling,
    system.check_supply,
    system.check_memory,
    system.check_disk,
    system.check_date,
    system.check_port,
)
# Checks that wait for a child process; they run beside the others.
WAITING = (accelerators.check_gpu_backend, accelerators.check_edgetpu_backend, accelerators.check_training_gpu)
PROFILE_CHECKS: tuple[Callable[[Machine, Board], Check], ...] = (
    profile.check_profile_machine,
    profile.check_profile_board,
    profile.check_profile_system,
    profile.check_profile_python,
    profile.check_profile_memory,
    profile.check_profile_heat,
    profile.check_profile_camera,
    profile.check_profile_backend,
)


def run_checks(machine: Machine, board: Board | None = None) -> list[Check]:
    """Run every check.

    Args:
        machine: The machine to check.
        board: A profile to compare the machine with, if any.
    """
    with ThreadPoolExecutor() as threads:
        # Python threads suffice: these checks wait for child processes
        begun = {check: threads.submit(check, machine) for check in WAITING}
        checks = [begun[check].result() if check in begun else check(machine) for check in CHECKS]
    if board is not None:
        checks += [check(machine, board) for check in PROFILE_CHECKS]
    return checks
