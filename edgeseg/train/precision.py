"""Train in float32, or in mixed precision where the hardware computes with 16 bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeseg.core.errors import TrainingError
from edgeseg.model.keras import keras, tf

CPU_FLAGS = ("avx512_bf16", "amx_bf16")
LEAST_COMPUTE = (7, 0)
"""The compute capability from which a GPU has tensor cores."""


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Let the models that are built and compiled within the block compute in a precision; weights are float32."""
    policy = "float32" if precision == "float32" else find_mixed_policy(_read_cpu_flags(), _read_gpus())
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy("float32")


def find_mixed_policy(flags: frozenset[str], gpus: tuple[tuple[int, int], ...]) -> str:
    """Find the 16-bit format that this hardware computes with.

    Args:
        flags: What the CPU can do, as Linux names it.
        gpus: The compute capability of every GPU.
    """
    if gpus and min(gpus) >= LEAST_COMPUTE:
        return "mixed_float16"
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


def _read_gpus() -> tuple[tuple[int, int], ...]:
    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return tuple(detail.get("compute_capability", (0, 0)) for detail in details)
