"""What a training computes on: the GPUs that TensorFlow sees, and the 16-bit format of this hardware.

As a program it prints what `edgeseg doctor` asks for: the doctor belongs to the device and never imports TensorFlow.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeseg.core.errors import TrainingError
from edgeseg.model.keras import keras, tf

CPU_FLAGS = ("avx512_bf16", "amx_bf16")
# The compute capability from which an NVIDIA GPU has tensor cores.
LEAST_COMPUTE = (7, 0)


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Build and compile models in a precision within the block; mixed precision keeps float32 weights."""
    # a global policy, since Keras reads it whenever a layer is built
    policy = "float32" if precision == "float32" else find_mixed_policy(_read_cpu_flags(), _read_capabilities())
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy("float32")


def find_mixed_policy(flags: frozenset[str], gpus: tuple[tuple[int, int], ...]) -> str:
    """Find the Keras policy of the 16-bit format that this hardware computes in.

    Args:
        flags: The CPU's features as /proc/cpuinfo names them.
        gpus: The compute capability of every GPU.
    """
    if gpus and min(gpus) >= LEAST_COMPUTE:
        return "mixed_float16"
    # bfloat16 on CPUs without these instructions is emulated and slower than float32
    if not gpus and flags & set(CPU_FLAGS):
        return "mixed_bfloat16"
    raise TrainingError(
        f"Expected a GPU of compute capability 7 or a CPU with {' or '.join(CPU_FLAGS)} for --precision mixed, "
        "got hardware without.",
        "Train with --precision float32.",
    )


def _read_cpu_flags() -> frozenset[str]:
    path = Path("/proc/cpuinfo")
    return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else frozenset()


def _read_capabilities() -> tuple[tuple[int, int], ...]:
    return tuple(detail.get("compute_capability", (0, 0)) for detail in _read_gpus())


def _read_gpus() -> list[dict[str, Any]]:
    return [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]


def report_hardware() -> dict[str, Any]:
    """Report the GPUs that TensorFlow sees, and what hides them."""
    return {
        "tensorflow": tf.__version__,
        "cuda": str(tf.sysconfig.get_build_info().get("cuda_version", "")),
        "gpus": [str(detail.get("device_name", "a GPU")) for detail in _read_gpus()],
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }


if __name__ == "__main__":
    # the answer to the parent process
    sys.stdout.write(json.dumps(report_hardware()))
