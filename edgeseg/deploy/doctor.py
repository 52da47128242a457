"""Is this machine ready, and what mends it: every check in the order in which a person would look."""

from __future__ import annotations

from collections.abc import Callable

from edgeseg.core.board import Board
from edgeseg.deploy.check import Check
from edgeseg.deploy.hardware_checks import check_cameras, check_edgetpu, check_video_group
from edgeseg.deploy.machine import Machine
from edgeseg.deploy.package_checks import check_numpy, check_opencv, check_runtime, check_xnnpack
from edgeseg.deploy.system_checks import (
    check_board,
    check_disk,
    check_glibc,
    check_governor,
    check_memory,
    check_processor,
    check_profile_machine,
    check_profile_memory,
    check_profile_python,
    check_python,
    check_temperature,
)

CHECKS: tuple[Callable[[Machine], Check], ...] = (
    check_board,
    check_processor,
    check_python,
    check_glibc,
    check_numpy,
    check_opencv,
    check_runtime,
    check_xnnpack,
    check_governor,
    check_temperature,
    check_memory,
    check_disk,
    check_cameras,
    check_video_group,
    check_edgetpu,
)
PROFILE_CHECKS: tuple[Callable[[Machine, Board], Check], ...] = (
    check_profile_machine,
    check_profile_python,
    check_profile_memory,
)


def run_checks(machine: Machine, board: Board | None = None) -> list[Check]:
    """Look at everything that decides whether models run well here.

    Args:
        machine: Where to look.
        board: The profile to hold the machine against, if any.
    """
    checks = [check(machine) for check in CHECKS]
    if board is not None:
        checks += [check(machine, board) for check in PROFILE_CHECKS]
    return checks
