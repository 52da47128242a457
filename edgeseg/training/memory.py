"""Estimate a training's memory, and refuse one that does not fit before the kernel's out-of-memory killer ends it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from edgeseg.core.errors import TrainingError
from edgeseg.machine.host import Machine
from edgeseg.model.unet import find_mask_shape

# Share of all layers' outputs that is kept for the backward pass. Measured as peak resident memory of two real steps
# on two cores (docs/decisions/0045): 0.7 to 0.9 for sizes nano to classic, 128 to 512 pixels, batches of 2 to 32.
KEPT_SHARE = 0.8
# The same in QAT, where fake quantisation adds an output to every layer; measured as 1.12.
QUANTISED_SHARE = 1.15
# The same of a network that is only asked, whose outputs are freed when the next layers have read them; 0.10 for
# three of the size small and 0.12 for one of the size base, at 256 pixels and a batch of 32.
TEACHER_SHARE = 0.15
# What TensorFlow takes for a step of any size: its graph, thread pools and buffers.
FIXED_MB = 100
# Of the weights: they themselves, gradients, AdamW's two moments, the EMA and the model that is evaluated.
COPIES = 6
# Batches of images and masks in memory: the current one and those that the pipeline prefetches.
FETCHED = 4
FLOAT_BYTES = 4
# A control group without a limit reports a number near 2**63 bytes, or max.
UNLIMITED_MB = 2**40


def check_frames(count: int, frame_bytes: int) -> None:
    """Refuse unlabelled frames that do not fit into free memory, where the system reports it.

    Args:
        count: How many frames there are at least.
        frame_bytes: Bytes of one on the network's grid.
    """
    free = read_free_mb()
    needed = count * frame_bytes / 2**20
    if free is not None and needed > free:
        raise TrainingError(
            f"Expected at least {needed:,.0f} MB of free memory for {count} unlabelled frames, got {free:,.0f} MB.",
            "Take fewer of them, a smaller --size, or a machine with more memory.",
        )


def read_free_mb(machine: Machine | None = None) -> float | None:
    """Read how many megabytes this process may still take: free memory, or less by its control groups' limits.

    A container is killed at the limit of its control group, however much memory the machine has.

    Args:
        machine: The machine to read from; None is this one.

    Returns:
        The megabytes, or None where the system does not report them.
    """
    machine = machine or Machine()
    known = [machine.read_memory_mb("MemAvailable"), *_list_group_limits(machine)]
    return min((free for free in known if free is not None), default=None)


def _list_group_limits(machine: Machine) -> list[float]:
    """List what the process's control groups and their parents leave free; cgroup versions 1 and 2."""
    free = []
    for line in machine.read("proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mount, names = "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount = "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        # inside a container the group's own path may not be mounted, only its root, which is then the group itself
        for group in (inside, *inside.parents):
            left = _read_group_free(machine, f"{mount}/{group}", *names)
            free += [left] if left is not None else []
    return free


def _read_group_free(machine: Machine, folder: str, limit: str, usage: str, spare: str) -> float | None:
    most, taken = (machine.read_number(f"{folder}/{name}") for name in (limit, usage))
    if most is None or taken is None or most / 2**20 > UNLIMITED_MB:
        return None
    lines = (line.split() for line in machine.read(f"{folder}/memory.stat").splitlines())
    # the page cache counts as taken, but the kernel frees inactive pages at once
    freed = next((int(words[1]) for words in lines if len(words) == 2 and words[0] == spare and words[1].isdigit()), 0)
    return max(0.0, (most - taken + freed) / 2**20)


def estimate_memory(model: Any, batch: int, quantised: bool = False) -> float:
    """Estimate the megabytes of a training without its images.

    Args:
        model: The network.
        batch: Images of a step.
        quantised: Whether it is trained with QAT.
    """
    kept = QUANTISED_SHARE if quantised else KEPT_SHARE
    parameters: int = model.count_params()
    results = count_results(model)
    ends: int = math.prod(model.layers[0].output.shape[1:]) + math.prod(find_mask_shape(model))
    # outputs of all layers and prefetched batches grow with the batch, the weights' copies do not
    numbers = batch * (kept * results + FETCHED * ends) + COPIES * parameters
    return FIXED_MB + FLOAT_BYTES * numbers / 2**20


def count_results(model: Any) -> int:
    """Count the numbers in the outputs of all layers, for one image."""
    return sum(math.prod(layer.output.shape[1:]) for layer in model.layers)


def check_memory(
    model: Any, batch: int, free: float | None = None, views: int = 1, teachers: Sequence[Any] = ()
) -> None:
    """Refuse a batch that does not fit into free memory, where the system reports it.

    Args:
        model: The network that is to be trained.
        batch: Labelled images of a step.
        free: Megabytes that are free; None reads them from this machine.
        views: How many images the network sees for each of these; 2 with unlabelled frames.
        teachers: Networks that see the same images in every step, without being trained.
    """
    free = read_free_mb() if free is None else free
    if free is not None and estimate_step(model, batch * views, teachers) > free:
        raise refuse_batch(model, batch, free, views, teachers)


def estimate_step(model: Any, images: int, teachers: Sequence[Any] = ()) -> float:
    """Estimate the megabytes of a training with teachers, without its images.

    Args:
        model: The network that is trained.
        images: That it and the teachers see in a step.
        teachers: Their networks.
    """
    outputs = images * TEACHER_SHARE * sum(count_results(one) for one in teachers)
    weights = sum(int(one.count_params()) for one in teachers)
    return estimate_memory(model, images) + FLOAT_BYTES * (outputs + weights) / 2**20


def refuse_batch(model: Any, batch: int, free: float, views: int = 1, teachers: Sequence[Any] = ()) -> TrainingError:
    """Build the error of a batch that does not fit, with one that would."""
    needed, least = (estimate_step(model, number * views, teachers) for number in (batch, 1))
    fitting = find_batch(model, batch * views, free, teachers) // views
    return TrainingError(
        f"Expected at least {needed:,.0f} MB of free memory for this network with a batch of {batch}, got "
        f"{free:,.0f} MB.",
        f"Take --batch {fitting}, or a smaller --size or --model."
        if fitting
        else f"Take a smaller --size or --model: a batch of 1 needs {least:,.0f} MB.",
    )


def find_batch(model: Any, batch: int, free: float, teachers: Sequence[Any] = ()) -> int:
    """Find the largest batch below the given one that fits into memory; 0 where none does."""
    # the estimate is linear in the batch
    none, each = (estimate_step(model, number, teachers) for number in (0, 1))
    return max(0, min(batch - 1, int((free - none) / (each - none))))


def check_further_training(model: Any, batch: int, quantised: bool, free: float | None = None) -> None:
    """Refuse fine-tuning whose steps do not fit into free memory.

    Args:
        model: The float network.
        batch: Images of a step; no option changes it.
        quantised: Whether it is QAT.
        free: Megabytes that are free; None reads them from this machine.
    """
    free = read_free_mb() if free is None else free
    needed = estimate_memory(model, batch, quantised)
    if free is not None and needed > free:
        raise TrainingError(
            f"Expected at least {needed:,.0f} MB of free memory to train this network further with a batch of {batch}, "
            f"got {free:,.0f} MB.",
            "Take recipes that train nothing (--recipe float16,int8-ptq), or a machine with more memory.",
        )
