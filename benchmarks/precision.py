"""What a training step costs in float32 and in mixed precision, timed in turn.

    python benchmarks/precision.py [MODELS] [ROUNDS]

Prints milliseconds of processor time on a CPU, where other programs may run beside it, and of the clock on a GPU.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

from edgeseg.model.keras import keras, tf
from edgeseg.model.losses import find_loss
from edgeseg.model.unet import build_unet
from edgeseg.training.hardware import computing_in, report_hardware
from edgeseg.training.loop import TrainingSchedule, build_optimizer
from edgeseg.training.options import TrainOptions

BATCH, STEPS = 8, 3
PRECISIONS = ("float32", "mixed")


def build_step(model: str, precision: str) -> object:
    """Build a network of a named size, with the function that trains it by one batch."""
    spec = TrainOptions(model=model).describe_network(1, 0)
    keras.utils.set_random_seed(0)
    with computing_in(precision):
        network = build_unet(spec)
    network.compile(build_optimizer(TrainingSchedule(1, 1e-3), 1000), find_loss("bce-dice"))
    rng, side = np.random.default_rng(0), spec.height // spec.output_stride
    images = tf.constant(rng.random((BATCH, spec.height, spec.width, 1)), tf.float32)
    masks = tf.constant(rng.random((BATCH, side, side, 1)) > 0.5, tf.float32)
    step = tf.function(network.train_step)
    return lambda: float(step((images, masks))["loss"])


def main() -> None:
    """Time the models that the arguments name."""
    models = sys.argv[1].split(",") if len(sys.argv) > 1 else ["small", "base"]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    hardware = report_hardware()
    clock = time.perf_counter if hardware["gpus"] else time.process_time
    print(hardware)
    for model in models:
        steps = {precision: build_step(model, precision) for precision in PRECISIONS}
        times: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
        for step in steps.values():
            step()
        for _ in range(rounds):
            for precision, step in steps.items():
                begun = clock()
                for _ in range(STEPS):
                    step()
                times[precision].append((clock() - begun) / STEPS * 1000)
        for precision, measured in times.items():
            print(f"{model:8} {precision:8} {np.median(measured):7.1f} ms a step, quickest {min(measured):.1f}")


if __name__ == "__main__":
    main()
