"""Does the archive install and run on 64-bit ARM, and are the masks x86-64's? On an emulated board without a network.

    python benchmarks/aarch64.py OUT

Trains three networks for a moment, packs one of them for generic-aarch64, and lets qemu run an arm64 Debian in which
the archive is installed, checked, timed and streamed. Needs root and a few tools; `--check` in place of OUT names what
is missing, and does nothing. Writes OUT/aarch64.md and .json. Exit code 3: something did not hold.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from trained import write_results

REPOSITORY = Path(__file__).resolve().parents[1]
DEVICE = REPOSITORY / "tests" / "device"
MODELS = ("nano", "micro", "small")
SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}
"""The Debian that has this Python: the archive's packages are for the Python that packs them."""
TOOLS = {"mmdebstrap": "mmdebstrap", "qemu-aarch64-static": "qemu-user-static", "arch-test": "arch-test"}
TOOLS |= {"ip": "iproute2", "unshare": "util-linux"}
MOST_PIXELS = 0.01
"""OpenCV's linear resize rounds otherwise on ARM, by up to 3 of 255; that moves outlines at the frame's size."""
HEADER = ("what", "emulated aarch64")
NOTES = (
    "# On 64-bit ARM",
    "",
    "    make aarch64",
    "",
    "The archive for generic-aarch64, installed and run in an arm64 Debian without a network, under qemu in user mode:",
    "its times are no board's, and say only that it runs. The networks were trained for 20 epochs on 20 phantoms, so",
    "that their masks, good or not, are not empty. The size is that of the whole Python environment with pip in it.",
    "",
    "The network's numbers are the same to the last bit. Masks are brought to the frame's size by OpenCV, whose linear",
    "resize rounds otherwise on ARM: a few pixels on the outlines differ.",
)
GATE_NOT_HELD = 3


@dataclass(frozen=True)
class Finding:
    """One line of the result, and whether it is as it must be."""

    what: str
    shown: str
    held: bool = True


def find_obstacle() -> str:
    """Say why this machine cannot run it, in one sentence; empty if it can."""
    if platform.machine() != "x86_64":
        return f"Expected an x86-64 machine to compare with, got {platform.machine()}."
    if sys.version_info[:2] not in SUITES:
        return f"Expected Python 3.11 or 3.13, which Debian has for arm64, got {platform.python_version()}."
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        return f"Expected tools that are not here: sudo apt-get install --no-install-recommends {' '.join(missing)}"
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        return "Expected to be root with the right to mount, which making another system's root needs."
    return ""


def make_files(folder: Path) -> None:
    """Make three int8 files, a clip, and the archive of the first file."""
    phantom = folder / "phantom"
    run_edgeseg("data", "synth", phantom, "--cases", "20", "--clips", "1", "--clip-frames", "20")
    (phantom / "clips/clip_00/images").rename(folder / "clip")
    (folder / "models").mkdir()
    for name in MODELS:
        run, files = folder / f"run-{name}", folder / f"files-{name}"
        run_edgeseg("train", phantom, "--out", run, "--model", name, "--epochs", "20", "--ema", "0")
        run_edgeseg("compress", run, "--out", files, "--recipe", "int8-ptq", "--max-drop", "1")
        (files / "int8-ptq.tflite").rename(folder / f"models/{name}.tflite")
    pack = ("--device", "generic-aarch64", "--offline", "--out", folder / "board.tar.gz")
    run_edgeseg("deploy", folder / f"models/{MODELS[0]}.tflite", *pack)


def run_edgeseg(*words: str | Path) -> None:
    """Run a command of edgeseg here."""
    print("edgeseg", *words, flush=True)
    subprocess.run([sys.executable, "-m", "edgeseg", *map(str, words)], check=True)


def emulate_board(folder: Path) -> None:
    """Try all on the emulated board; its results come back into the folder."""
    board = folder / "board"
    board.mkdir()
    for name in ("models", "clip", "board.tar.gz"):
        (folder / name).rename(board / name)
    shutil.copy(DEVICE / "aarch64_session.py", board)
    script = ["sh", DEVICE / "aarch64-root.sh", SUITES[sys.version_info[:2]], board, *find_mirror()]
    subprocess.run(["unshare", "--mount", *map(str, script)], check=True)


def find_mirror() -> list[str]:
    """Find the Debian mirror that this machine's apt uses; where it uses none, mmdebstrap knows one."""
    command = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Origin: Debian"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[:1]


def compare(board: Path) -> Iterator[Finding]:
    """Run here what the board ran, and compare."""
    here = board / "here"
    here.mkdir()
    models = sorted((board / "models").glob("*.tflite"))
    run_edgeseg("bench", *models, "--parity", "--backend", "cpu", "--json", here / "parity.json")
    source = ("--source", board / "clip", "--every-frame", "--view", "none", "--record", here / "recording")
    run_edgeseg("stream", board / f"models/{MODELS[0]}.tflite", *source, "--budget-ms", "60000")
    for ours, theirs in zip(read(here, "parity")["rows"], read(board / "results", "parity")["rows"], strict=True):
        yield compare_pairs(ours["model"], ours["parity"], theirs["parity"])
    yield compare_masks(here / "recording/masks", board / "results/recording/masks")


def compare_pairs(model: str, ours: dict[str, Any], theirs: dict[str, Any]) -> Finding:
    """Say whether both machines compute the numbers of the golden pairs, to the last bit."""
    same = ours["difference"] == theirs["difference"] == 0
    shown = f"{theirs['pairs']} of {theirs['pairs']} identical" if same else f"differ by {theirs['difference']} quanta"
    return Finding(f"golden pairs of {model}, against x86-64", shown, same)


def compare_masks(ours: Path, theirs: Path) -> Finding:
    """Count the pixels of the clip's masks that differ; of those that both disks were quick enough to record."""
    names = sorted({path.name for path in ours.iterdir()} & {path.name for path in theirs.iterdir()})
    shares = [float(np.mean(read_labels(ours / name) != read_labels(theirs / name))) for name in names]
    shown = f"{max(shares, default=1.0):.2%} of the pixels differ in the worst of {len(names)}"
    return Finding("masks of the streamed clip, against x86-64", shown, max(shares, default=1.0) <= MOST_PIXELS)


def read_labels(path: Path) -> NDArray[Any]:
    """Read a mask as it was recorded."""
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))


def describe_session(board: Path) -> Iterator[Finding]:
    """Put what the board measured into lines."""
    session, doctor, bench = (read(board / "results", name) for name in ("session", "doctor", "bench"))
    steps, light = session["steps"], session["light"]
    checks = {check["name"]: check for check in doctor["checks"]}
    problems = [name for name, check in checks.items() if check["state"] == "problem"]
    yield Finding("machine, Python", f"{session['machine']}, {session['python']}", session["machine"] == "aarch64")
    yield Finding("archive with all packages", f"{(board / 'board.tar.gz').stat().st_size / 1e6:.1f} MB")
    yield Finding("light install", f"{light['bytes'] / 1e6:.0f} MB in {light['files']} files")
    yield Finding("installing without a network, masks and budget checked", f"{steps['install']['seconds']:.0f} s")
    yield Finding("importing the device side", f"{steps['import']['seconds']:.1f} s")
    said = f"{len(checks)} checks in {steps['doctor']['seconds']:.0f} s, problems: {', '.join(problems) or 'none'}"
    yield Finding("`doctor`", said, not problems)
    yield Finding("XNNPACK", checks["xnnpack"]["detail"], checks["xnnpack"]["state"] == "ok")
    for name in ("verify", "stream"):
        yield Finding(f"`{name}`", "held" if steps[name]["code"] == 0 else "did not hold", steps[name]["code"] == 0)
    for row in bench["results"]:
        yield Finding(f"`bench` of {row['model']}, median", f"{row['latency_ms']['total']['p50']:.0f} ms")


def read(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON file."""
    return dict(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))


def main() -> None:
    """Make, emulate, compare, write."""
    if obstacle := find_obstacle():
        sys.exit(obstacle)
    if sys.argv[1] == "--check":
        return
    start = perf_counter()
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        emulate_board(folder)
        findings = [*describe_session(folder / "board"), *compare(folder / "board")]
    taken = Finding("all of this, with making the files and the root", f"{(perf_counter() - start) / 60:.1f} minutes")
    write_results(Path(sys.argv[1]), "aarch64", NOTES, HEADER, [(line.what, line.shown) for line in (*findings, taken)])
    if failed := [line.what for line in findings if not line.held]:
        print(f"Not as it must be: {', '.join(failed)}.", file=sys.stderr)
        sys.exit(GATE_NOT_HELD)


if __name__ == "__main__":
    main()
