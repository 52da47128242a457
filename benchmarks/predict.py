"""What `predict` costs beside decoding and inference, whether several workers pay, and whether memory stays flat.

    python benchmarks/predict.py OUT --data FOLDER [--model FILE] [--images 200] [--rounds 7] [--many 5000]

Bare is a loop of one thread: read an image, segment it, forget the mask; and the same loop on as many threads as there
are workers, each with a network of its own. All rows take turns within each round, on the same files, after a round
that is not counted. Speeds are medians over the rounds, shares the median of the ratios to the bare loop on as many
threads within a round. Beside them stands the processor's time for an image, which other programs on the machine change
less, and its share. Loading the first network is not counted, loading further ones is. The row of two processes runs
half of the files in each, started before the clock. The last part links --many files to the same images and predicts
them with overlays in a process of its own, which notes its resident memory; --many 0 leaves it out. Writes
OUT/predict.md and .json. Without --model an untrained network is made, which needs the training packages.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import perf_counter, process_time

from trained import write_results
from untrained import pick_model

from edgeseg.frame.images import read_image
from edgeseg.inference.ensemble import open_segmenter
from edgeseg.inference.segmenter import Segmenter
from edgeseg.prediction.folder import load_networks, predict_sources
from edgeseg.prediction.inputs import list_inputs
from edgeseg.prediction.options import PredictOptions

WORKERS = 2
SHARE, GROWTH = 0.8, 1.1
HEADER = ("what", "images/s", "of bare", "processor ms", "of bare by processor", "limit", "verdict")
# Of the images: when memory is read for the first time, after the allocators have settled.
SETTLED = 0.2


def run_bare(segmenters: Sequence[Segmenter], files: Sequence[Path]) -> None:
    """Read and segment all files, on a thread for each network."""

    def work(number: int) -> None:
        for file in files[number :: len(segmenters)]:
            segmenters[number].segment(read_image(file, segmenters[number].card.input.in_colour))

    if len(segmenters) == 1:
        work(0)
        return
    with ThreadPoolExecutor(len(segmenters)) as pool:
        list(pool.map(work, range(len(segmenters))))


def run_predict(model: Path, first: Segmenter, source: Path, out: Path, options: PredictOptions) -> None:
    """Predict a folder of images."""
    predict_sources(first, partial(open_segmenter, model, "cpu"), [source], out / str(perf_counter()), options)


def link_files(files: Sequence[Path], folder: Path, count: int) -> Path:
    """Make a folder of so many links to some files."""
    folder.mkdir()
    for number in range(count):
        file = files[number % len(files)]
        (folder / f"{number:06d}{file.suffix}").symlink_to(file.absolute())
    return folder


_NETWORK: list[Segmenter] = []


def load_here(model: Path) -> None:
    """Load the network of a process."""
    _NETWORK.append(open_segmenter(model, "cpu"))


def predict_half(model: Path, out: Path, source: Path) -> None:
    """Predict some files in a process of its own, on one thread."""
    run_predict(model, _NETWORK[0], source, out, PredictOptions(workers=1))


def run_processes(pool: ProcessPoolExecutor, model: Path, out: Path, parts: Sequence[Path]) -> None:
    """Predict the parts of a folder, each in a process of its own."""
    list(pool.map(partial(predict_half, model, out), parts))


Times = dict[str, list[tuple[float, float]]]


def time_rounds(tasks: dict[str, Callable[[], None]], rounds: int) -> Times:
    """Time all tasks in turn, in seconds and in processor seconds of this process; the first round is not counted."""
    taken: Times = {name: [] for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            began, used = perf_counter(), process_time()
            task()
            if number:
                taken[name].append((perf_counter() - began, process_time() - used))
    return taken


def measure_speeds(model: Path, files: Sequence[Path], rounds: int, room: Path) -> list[tuple[str, ...]]:
    """Compare predict with bare loops."""
    segmenters = [open_segmenter(model, "cpu") for _ in range(WORKERS)]
    context = multiprocessing.get_context("spawn")
    source = link_files(files, room / "in", len(files))
    parts = [link_files(files[n::WORKERS], room / f"part{n}", len(files[n::WORKERS])) for n in range(WORKERS)]
    with ProcessPoolExecutor(WORKERS, context, load_here, (model,)) as pool:
        run = partial(run_predict, model, segmenters[0], source, room)
        bare = {count: f"bare decode and inference, {count} threads" for count in (1, WORKERS)}
        pairs = {
            "predict, 1 worker": 1,
            f"predict, {WORKERS} workers": WORKERS,
            f"predict --overlay, {WORKERS} workers": WORKERS,
            f"predict --format labelme, {WORKERS} workers": WORKERS,
            f"predict in {WORKERS} processes of 1 worker": WORKERS,
        }
        names = list(pairs)
        taken = time_rounds(
            {
                bare[1]: partial(run_bare, segmenters[:1], files),
                names[0]: partial(run, PredictOptions(workers=1)),
                bare[WORKERS]: partial(run_bare, segmenters, files),
                names[1]: partial(run, PredictOptions(workers=WORKERS)),
                names[2]: partial(run, PredictOptions(workers=WORKERS, overlay=True)),
                names[3]: partial(run, PredictOptions(workers=WORKERS, formats=("labelme",))),
                names[4]: partial(run_processes, pool, model, room, parts),
            },
            rounds,
        )
    count = len(files)
    rows = [(name, *_show(taken[name], None, count), "", "") for name in bare.values()]
    for name, threads in pairs.items():
        speed, share, used, used_share = _show(taken[name], taken[bare[threads]], count)
        if name == names[4]:
            used = used_share = ""  # in other processes
        judged = name in names[:2]
        verdict = ("held" if float(share) >= SHARE else "missed") if judged else ""
        rows.append((name, speed, share, used, used_share, f"{SHARE:.2f}" if judged else "", verdict))
    return rows


def _show(taken: Sequence[tuple[float, float]], bare: Sequence[tuple[float, float]] | None, count: int) -> list[str]:
    """Show speed and processor time, each with its share of the bare loop's."""
    seconds, used = ([one[number] for one in taken] for number in (0, 1))
    shares = ["", ""]
    if bare is not None:
        shares = [f"{median(b[n] / o[n] for b, o in zip(bare, taken, strict=True)):.2f}" for n in (0, 1)]
    return [f"{count / median(seconds):.0f}", shares[0], f"{1e3 * median(used) / count:.2f}", shares[1]]


def watch_memory(model: Path, files: Sequence[Path], many: int) -> tuple[float, float, int]:
    """Predict many images; gives resident megabytes after a fifth of them and the most afterwards, and the images."""
    with TemporaryDirectory() as folder:
        source, out = link_files(files, Path(folder, "in"), many), Path(folder, "out")
        done, samples = Event(), []

        def sample() -> None:
            while not done.wait(0.5):
                written = sum(1 for _ in (out.with_name("out.partial") / "masks").glob("*.png"))
                pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
                samples.append((written, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))

        watcher = Thread(target=sample)
        watcher.start()
        options = PredictOptions(overlay=True, workers=WORKERS)
        networks = load_networks(model, "cpu", 1, options)
        try:
            result = predict_sources(*networks, [source], out, options)
        finally:
            done.set()
            watcher.join()
    early = max(mb for written, mb in samples if written <= SETTLED * many)
    return early, max(mb for _, mb in samples), result.summary.frames


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--many", type=int, default=5000)
    chosen = parser.parse_args()
    logging.getLogger("edgeseg").setLevel(logging.WARNING)
    with TemporaryDirectory() as folder:
        model = pick_model(chosen.model, Path(folder))
        files = [item.path for item in list_inputs([chosen.data]) if item.kind == "image"]
        files = files[:: max(1, len(files) // chosen.images)][: chosen.images]
        card = open_segmenter(model, "cpu").card
        rows = measure_speeds(model, files, chosen.rounds, Path(folder))
        if chosen.many:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, context) as pool:
                early, late, frames = pool.submit(watch_memory, model, files, chosen.many).result()
            verdict = "held" if late <= GROWTH * early else "missed"
            name = f"MB resident up to image {round(SETTLED * frames):,} and up to image {frames:,}, with overlays"
            rows.append((name, f"{early:.0f}, {late:.0f}", f"{late / early:.2f}", "", "", f"{GROWTH:.2f}", verdict))
    notes = [
        "# Masks for files: what predict costs beside decoding and inference",
        "",
        "    python benchmarks/predict.py OUT --data FOLDER --model FILE",
        "",
        f"{card.name}, {card.input.width}x{card.input.height}; {len(files)} real images of {chosen.data.name}; "
        f"{chosen.rounds} rounds, {len(os.sched_getaffinity(0))} processors. Shares are of the bare loop on as many "
        "threads, in the same round; the last row's is that of the two sizes.",
    ]
    write_results(chosen.out, "predict", notes, HEADER, rows)


if __name__ == "__main__":
    main()
