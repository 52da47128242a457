"""How many images a second the augmentation makes on a core, step by step and as the feed of a training.

    python benchmarks/feeding.py OUT [--before CHECKOUT] [--rounds 5] [--steps]

Phantoms on the default grid of 256x256, one class, the default augmentation. Images a second are those of a second of
processor time, so that other programs on the machine count little. The feed is `build_pipeline` with threads for one
and for two cores. Last comes a device that takes a step's time and computes elsewhere, as a GPU does: the share of the
time that it waits, and how long it waits for the first batch after a pause, as validation is one.
--before measures another checkout in turn with this one, in a process of its own. --steps adds what a training step
costs by batch size, with XLA (`jit_compile`) and without, on the device that TensorFlow chooses.
Writes OUT/feeding.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parents[1]
PHANTOMS, CASES, SIDE, STRIDE, SEED = 4, 32, 256, 2, 1
# Images of a measurement of a step, and of a measurement of the feed.
IMAGES, FED = 64, 128
BATCHES, WORKERS = (8, 16), (1, 2)
# The device that waits: milliseconds for a batch of 16, and its pause.
STEP_MS, STEPS, PAUSE_S = (20, 40), 20, 0.3
STEP_BATCHES = (8, 16, 32, 64)
RATE, SHARE, MS = "images/s and core", "% waited", "ms"
SERVE = "--serve"


@dataclass
class Cases:
    """Phantoms on the grid, and how many were made of them."""

    pixels: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    made: int = 0
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(SEED))

    def pick(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Take the next one."""
        self.made += 1
        number = self.made % CASES
        return self.pixels[number], self.masks[number]


@lru_cache(maxsize=1)
def draw_cases() -> Cases:
    """Draw phantoms with their lesions and vessels as one class; each comes several times."""
    from edgeseg.phantom import render_case

    frames = [render_case(SEED, index, (SIDE, SIDE)) for index in range(PHANTOMS)]
    pixels, labels = (
        np.stack(planes)[..., np.newaxis] for planes in zip(*((f.image, f.labels) for f in frames), strict=True)
    )
    repeats = CASES // PHANTOMS
    return Cases(np.concatenate([pixels] * repeats), np.concatenate([labels > 0] * repeats).astype(np.uint8))


def list_steps() -> dict[str, Callable[[], None]]:
    """List the steps, each for one image."""
    from edgeseg.data.augment import AugmentSpec, augment_case, vary_brightness, warp_frame
    from edgeseg.training.loading import shrink_masks

    cases, spec = draw_cases(), AugmentSpec()
    feed, _ = make_feed(BATCHES[-1])

    def make_case() -> None:
        cases.pick()
        feed.make_case(cases.made // CASES, cases.made % CASES)

    return {
        "geometry of an image": lambda: void(warp_frame(cases.pick()[0], spec, "none", cases.random)),
        "geometry of image and mask, and brightness": lambda: void(augment_case(*cases.pick(), spec, cases.random)),
        "brightness": lambda: void(vary_brightness(cases.pick()[0], spec, cases.random)),
        "mask on the output grid": lambda: void(shrink_masks(cases.pick()[1], STRIDE)),
        "all of one case": make_case,
    }


def void(_: object) -> None:
    """Drop a result."""


def make_feed(batch: int) -> tuple[Any, list[int]]:
    """Make a feed, with a list that grows by each case that was made."""
    from edgeseg.data.augment import AugmentSpec
    from edgeseg.training.grids import GridArrays
    from edgeseg.training.loading import Feed

    made: list[int] = []

    class CountingFeed(Feed):
        def make_case(self, epoch: int, number: int) -> tuple[NDArray[np.float32], ...]:
            made.append(number)
            return super().make_case(epoch, number)

    cases = draw_cases()
    return CountingFeed(GridArrays(cases.pixels, cases.masks), batch, SEED, STRIDE, AugmentSpec()), made


def open_feed(batch: int, workers: int) -> tuple[Iterator[Any], list[int]]:
    """Open a feed of endless epochs with a number of threads."""
    from edgeseg.model.keras import tf
    from edgeseg.training.loading import build_pipeline

    feed, made = make_feed(batch)
    options = tf.data.Options()
    options.threading.private_threadpool_size = workers
    return iter(build_pipeline(feed, 10**6).with_options(options)), made


def rate_step(run: Callable[[], None]) -> float:
    """Images a second of processor time."""
    run()
    start = process_time()
    for _ in range(IMAGES):
        run()
    return IMAGES / (process_time() - start)


def rate_feed(batch: int, workers: int) -> float:
    """Images a second of processor time that a feed makes."""
    batches, made = open_feed(batch, workers)
    for _ in range(4):
        next(batches)
    start, before = process_time(), len(made)
    for _ in range(FED // batch):
        next(batches)
    return (len(made) - before) / (process_time() - start)


def wait_share(step_ms: float) -> float:
    """Percent of the time that a device waits which computes elsewhere."""
    batches, _ = open_feed(BATCHES[-1], WORKERS[-1])
    next(batches)
    start, waited = perf_counter(), 0.0
    for _ in range(STEPS):
        requested = perf_counter()
        next(batches)
        waited += perf_counter() - requested
        sleep(step_ms / 1e3)
    return 100 * waited / (perf_counter() - start)


def wait_after_pause() -> float:
    """Milliseconds until the first batch of an epoch, after the pause that a validation is."""
    batches, _ = open_feed(BATCHES[-1], WORKERS[-1])
    waits = []
    for _ in range(3):
        for _ in range(CASES // BATCHES[-1]):
            next(batches)
        sleep(PAUSE_S)
        start = perf_counter()
        next(batches)
        waits.append(1e3 * (perf_counter() - start))
        for _ in range(CASES // BATCHES[-1] - 1):
            next(batches)
    return median(waits)


def list_tasks() -> dict[str, tuple[str, Callable[[], float]]]:
    """List what is measured, with its unit."""
    tasks: dict[str, tuple[str, Callable[[], float]]] = {
        name: (RATE, partial(rate_step, run)) for name, run in list_steps().items()
    }
    for batch in BATCHES:
        for workers in WORKERS:
            name = f"the feed, batch {batch}, {workers} {'thread' if workers == 1 else 'threads'}"
            tasks[name] = RATE, partial(rate_feed, batch, workers)
    for step in STEP_MS:
        tasks[f"a device of {step} ms for {BATCHES[-1]} images, 2 threads"] = SHARE, partial(wait_share, step)
    tasks["first batch of an epoch after a pause"] = MS, wait_after_pause
    return tasks


def serve() -> None:
    """Measure what standard input names, a line each, and answer with its value."""
    tasks = list_tasks()
    print(json.dumps({name: unit for name, (unit, _) in tasks.items()}), flush=True)
    for line in sys.stdin:
        print(tasks[line.rstrip("\n")][1](), flush=True)


class Server:
    """A process that measures a checkout."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.units: dict[str, str] = json.loads(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"Expected a figure, got the end of the measuring process ({self._process.wait()}).")
        return line

    def measure(self, name: str) -> float:
        """Measure what has a name."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        return float(self._read())


@contextmanager
def open_server(root: Path) -> Iterator[Server]:
    """Start a process on a checkout, with this Python and its packages."""
    environment = os.environ | {"PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, str(Path(__file__).resolve()), SERVE]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=root
    ) as process:
        try:
            yield Server(process)
        finally:
            process.kill()


def compare(after: Server, before: Server | None, rounds: int) -> list[list[str]]:
    """Measure in turn, and make the rows."""
    rows = []
    for name, unit in after.units.items():
        taken: list[list[float]] = [[], []]
        for number in range(rounds):
            for place in (0, 1) if number % 2 else (1, 0):
                server = (after, before)[place]
                if server is not None:
                    taken[place].append(server.measure(name))
        new = median(taken[0])
        old = median(taken[1]) if before is not None else None
        rows.append([name, unit, *show(old, new, unit)])
        print(rows[-1], flush=True)
    return rows


def show(old: float | None, new: float, unit: str) -> list[str]:
    """Show both values and, of rates, their ratio."""
    digits = ",.0f" if unit == RATE else ".1f"
    if old is None:
        return ["", format(new, digits), ""]
    return [format(old, digits), format(new, digits), f"{new / old:.1f}" if unit == RATE else ""]


def time_steps(rounds: int) -> list[list[str]]:
    """Time a training step of `small` by batch size, with XLA and without, in turn."""
    from edgeseg.model.keras import keras, tf
    from edgeseg.model.losses import find_loss
    from edgeseg.model.unet import build_unet
    from edgeseg.training.hardware import report_hardware
    from edgeseg.training.loop import TrainingSchedule, build_optimizer
    from edgeseg.training.options import TrainOptions

    clock = perf_counter if report_hardware()["gpus"] else process_time
    spec = TrainOptions(model="small").describe_network(1, 0)
    rng, side = np.random.default_rng(0), spec.height // spec.output_stride
    rows = []
    for batch in STEP_BATCHES:
        images = tf.constant(rng.random((batch, spec.height, spec.width, 1)), tf.float32)
        masks = tf.constant(rng.random((batch, side, side, 1)) > 0.5, tf.float32)
        steps: dict[bool, Callable[[], float]] = {}
        for compiled in (False, True):
            keras.utils.set_random_seed(0)
            network = build_unet(spec)
            network.compile(build_optimizer(TrainingSchedule(1, 1e-3), 1000), find_loss("bce-dice"))
            run = tf.function(network.train_step, jit_compile=compiled)
            steps[compiled] = partial(lambda step, *pair: float(step(pair)["loss"]), run, images, masks)
            steps[compiled]()
        times: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(rounds):
            for compiled, take_step in steps.items():
                start = clock()
                take_step()
                times[compiled].append(batch / (clock() - start))
        plain, xla = median(times[False]), median(times[True])
        rows.append([f"a training step, batch {batch}: without and with XLA", RATE, *show(plain, xla, RATE)])
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure, or serve a parent that does."""
    if sys.argv[1:] == [SERVE]:
        serve()
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--before", type=Path, help="another checkout, measured in turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", action="store_true", help="training steps by batch size, with XLA and without")
    chosen = parser.parse_args()
    if chosen.rounds < 1:
        parser.error("expected at least one round")
    if chosen.before is not None and not (chosen.before / "edgeseg" / "data" / "augment.py").is_file():
        parser.error(f"expected a checkout of edgeseg at {chosen.before}")
    from trained import write_results

    with ExitStack() as stack:
        after = stack.enter_context(open_server(HERE))
        before = stack.enter_context(open_server(chosen.before.resolve())) if chosen.before else None
        rows = compare(after, before, chosen.rounds)
    if chosen.steps:
        rows += time_steps(chosen.rounds)
    notes = ["# Images a second of the augmentation", "", f"Medians of {chosen.rounds} rounds, in turn; {SIDE}x{SIDE}."]
    chosen.out.mkdir(parents=True, exist_ok=True)
    write_results(chosen.out, "feeding", notes, ("what", "unit", "before", "after", "ratio"), rows)


if __name__ == "__main__":
    main()
