"""Train on more images than fit into memory: peak memory, time to the first epoch, and how long steps wait for data.

    python benchmarks/beyond_memory.py OUT --frames 100000 [--work FOLDER] [--model small] [--size 256] [--epochs 1]

Frames of 640x480 are made in WORK/frames-N: phantoms with their masks, repeated with other noise, gain and a shift, 20
to a group. Then `data check` and `train` run as processes of their own, with a cache in WORK. Memory is what the kernel
says of the process and of its children together, five times a second: RssAnon (its own) and RssFile (pages of files
that are mapped, such as libraries; other programs may share them). WORK needs 90 kB of disk for a frame, and 80 kB for
its arrays. Writes OUT/beyond-memory.md and .json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from time import perf_counter, sleep

import cv2
import numpy as np
from trained import write_results

from edgeseg.core.files import staged_folder, write_rows, write_text
from edgeseg.core.parallel import map_ahead
from edgeseg.core.progress import progress_bar
from edgeseg.phantom import render_case
from edgeseg.phantom.scene import LABELS

SIZE, PHANTOMS, GROUP, QUALITY = (480, 640), 12, 20, 90
HEADER = ("what", "value", "unit")
SECONDS = 0.2
LESION = LABELS.index("lesion")


@dataclass
class Memory:
    """The most that a process and its children held at once, in MB."""

    own: float = 0.0
    files: float = 0.0
    both: float = 0.0
    stored_after: float = 0.0
    """Seconds until all images were decoded and stored."""
    ended: Event = field(default_factory=Event)

    def watch(self, pid: int, cache: Path) -> None:
        """Look again and again, until the process has ended."""
        start = perf_counter()
        while not self.ended.is_set():
            own, files = measure_tree(pid)
            self.own, self.files, self.both = max(self.own, own), max(self.files, files), max(self.both, own + files)
            if not self.stored_after and any(cache.glob("grids/*/index.json")):
                self.stored_after = perf_counter() - start
            sleep(SECONDS)


def measure_tree(pid: int) -> tuple[float, float]:
    """Sum up RssAnon and RssFile of a process and its children."""
    own = files = 0.0
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        try:
            lines = Path(f"/proc/{one}/status").read_text(encoding="utf-8").splitlines()
            waiting += [int(child) for child in Path(f"/proc/{one}/task/{one}/children").read_text().split()]
        except (OSError, ValueError):
            continue
        fields = dict(line.split(":", 1) for line in lines if line.startswith("Rss"))
        own += float(fields["RssAnon"].split()[0]) / 1024 if fields else 0.0
        files += float(fields["RssFile"].split()[0]) / 1024 if fields else 0.0
    return own, files


def run_watched(arguments: Sequence[str], cache: Path) -> tuple[Memory, float]:
    """Run edgeseg; gives its memory and its seconds."""
    memory, start = Memory(), perf_counter()
    environment = os.environ | {"EDGESEG_CACHE": str(cache), "EDGESEG_IMAGE_MB": "256"}
    with subprocess.Popen([sys.executable, "-m", "edgeseg", *arguments], env=environment) as process:
        watcher = Thread(target=memory.watch, args=(process.pid, cache))
        watcher.start()
        code = process.wait()
        memory.ended.set()
        watcher.join()
    if code not in (0, 3):
        raise SystemExit(f"Expected edgeseg {arguments[0]} to succeed, got code {code}.")
    return memory, perf_counter() - start


def make_frames(root: Path, count: int) -> None:
    """Write a data folder of so many frames, unless it is there."""
    if root.is_dir():
        return
    phantoms = [render_case(seed=22, index=number, size=SIZE) for number in range(PHANTOMS)]
    noise = np.random.default_rng(0).normal(0.0, 6.0, (2 * SIZE[0], 2 * SIZE[1])).astype(np.float32)

    def write(number: int) -> None:
        random = np.random.default_rng((22, number))
        group = np.random.default_rng((23, number // GROUP))
        phantom = phantoms[int(group.integers(PHANTOMS))]
        y, x = (int(random.integers(side)) for side in SIZE)
        # of a group: flips and a shift; of a frame: noise, gain and a little movement
        flip = bool(group.integers(2))
        shift = group.integers(-60, 61, 2) + random.integers(-3, 4, 2)
        moved = np.float32([[1, 0, shift[0]], [0, 1, shift[1]]])
        image = phantom.image.astype(np.float32) * random.uniform(0.8, 1.2) + noise[y : y + SIZE[0], x : x + SIZE[1]]
        mask = (phantom.labels == LESION).astype(np.uint8) * np.uint8(255)
        image, mask = (cv2.warpAffine(one, moved, SIZE[::-1], flags=cv2.INTER_NEAREST) for one in (image, mask))
        image, mask = (one[:, ::-1] if flip else one for one in (image, mask))
        name = f"f{number:07}"
        pixels = np.clip(image, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "images" / f"{name}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), np.ascontiguousarray(mask))

    with staged_folder(root) as folder, progress_bar("Making frames", count) as advance:
        for name in ("images", "masks"):
            (folder / name).mkdir()
        for _ in map_ahead(write, range(count)):
            advance("")
        rows = [(f"f{number:07}", f"g{number // GROUP:06}") for number in range(count)]
        write_rows(folder / "groups.csv", ("stem", "group"), rows)
        write_text(folder / "SOURCE.md", "Simulated ultrasound, made by benchmarks/beyond_memory.py.\n")


def read_history(run: Path) -> list[dict[str, str]]:
    """Read what the training wrote of its epochs."""
    with (run / "history.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measure_check(data: Path, work: Path) -> list[tuple[str, str, str]]:
    """Check the folder."""
    memory, seconds = run_watched(["data", "check", str(data), "--json", str(work / "check.json")], work / "cache")
    found = json.loads((work / "check.json").read_text(encoding="utf-8"))["near_duplicates"]
    return [
        ("data check: time", f"{seconds:.0f}", "s"),
        ("data check: peak RssAnon", f"{memory.own:.0f}", "MB"),
        ("data check: peak RssFile", f"{memory.files:.0f}", "MB"),
        ("data check: near-duplicates found", f"{found['within'] + found['across']}", "pairs"),
    ]


def measure_training(data: Path, work: Path, count: int, options: Sequence[str]) -> list[tuple[str, str, str]]:
    """Train from an empty cache."""
    cache, run = work / "cache", work / f"run-{count}"
    shutil.rmtree(cache, ignore_errors=True)
    memory, seconds = run_watched(["train", str(data), "--out", str(run), "--overwrite", *options], cache)
    epochs = read_history(run)
    stored = sum(path.stat().st_size for path in cache.rglob("*.bin")) / 2**20
    return [
        ("train: images are stored after", f"{memory.stored_after:.0f}", "s"),
        ("train: whole command", f"{seconds:.0f}", "s"),
        ("train: an epoch, with validation", f"{np.median([float(row['seconds']) for row in epochs]):.0f}", "s"),
        ("train: waiting for images", f"{max(float(row['waiting_share']) for row in epochs):.2%}", "of an epoch"),
        ("train: peak RssAnon", f"{memory.own:.0f}", "MB"),
        ("train: peak RssFile", f"{memory.files:.0f}", "MB"),
        ("train: peak of both together", f"{memory.both:.0f}", "MB"),
        ("the images in memory at full size, with masks", f"{count * SIZE[0] * SIZE[1] * 2 / 2**20:.0f}", "MB"),
        ("stored on disk", f"{stored:.0f}", "MB"),
    ]


def main() -> None:
    """Make frames, check them, train on them and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--work", type=Path, default=Path("beyond-memory"))
    parser.add_argument("--model", default="small")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--no-training", action="store_true")
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    data = chosen.work / f"frames-{chosen.frames}"
    make_frames(data, chosen.frames)
    rows = measure_check(data, chosen.work)
    options = ("--model", chosen.model, "--size", str(chosen.size), "--epochs", str(chosen.epochs))
    if not chosen.no_training:
        rows += measure_training(data, chosen.work, chosen.frames, options)
    notes = (
        f"# {chosen.frames:,} frames of {SIZE[1]}x{SIZE[0]}",
        "",
        f"    python benchmarks/beyond_memory.py OUT --frames {chosen.frames} {' '.join(options)}",
        "",
        "Memory of the process and its children, read from /proc five times a second.",
    )
    chosen.out.mkdir(parents=True, exist_ok=True)
    write_results(chosen.out, "beyond-memory", notes, HEADER, rows)


if __name__ == "__main__":
    main()
