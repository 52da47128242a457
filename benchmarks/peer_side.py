"""The side of peers.py that runs in the peers' own Python: train, export, draw masks, time. It never imports edgeseg.

    PYTHON benchmarks/peer_side.py JOB.json

A job names what to `do` and its folders; peers.py writes it. `serve` reads lines "FILE network|whole RUNS" and answers
each with a JSON list of milliseconds, on one processor alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Run = Callable[[Image], Image]
UNET = "unet"
# What a network's name ends with, and ultralytics' name of the task.
TASKS = {"-sem": "semantic", "-seg": "segment"}
FILES = {"openvino-float32": 32, "onnx-float32": 32, "openvino-int8": 8, "onnx-int8": 8}
FRAME = (480, 640, 3)
# Packages that torch brings for graphics cards, which nothing here uses.
CUDA = re.compile(r"nvidia-|cuda-|triton")


def name_task(network: str) -> str:
    """Name ultralytics' task of a network."""
    return TASKS[network[-4:]]


def train_yolo(job: dict[str, Any], out: Path) -> dict[str, Any]:
    """Train a network of ultralytics from its description, with all settings as they come but size, batch and time."""
    import torch
    from ultralytics import YOLO

    model = YOLO(f"{job['network']}.yaml", task=name_task(job["network"]))
    # ultralytics takes one thread on a machine of two cores
    model.add_callback("on_train_start", lambda _: torch.set_num_threads(os.cpu_count() or 1))
    epochs: list[int] = []
    model.add_callback("on_train_epoch_end", lambda trainer: epochs.append(trainer.epoch))
    model.train(
        data=str(Path(job["data"]) / "data.yaml"), time=job["minutes"] / 60, imgsz=job["size"], batch=job["batch"],
        device="cpu", workers=1, cache="ram", amp=False, pretrained=False, plots=False, seed=0, verbose=False,
        project=str(out.parent), name=out.name, exist_ok=True,
    )  # fmt: skip
    parameters = sum(one.numel() for one in model.model.parameters())
    return {"epochs": len(epochs), "parameters": parameters}


def export_yolo(job: dict[str, Any], out: Path) -> dict[str, str]:
    """Export to OpenVINO and ONNX, in float32 and int8 by calibration alone, all by ultralytics itself.

    Returns:
        The files by name; what went wrong stands in the place of a file that could not be made.
    """
    from ultralytics import YOLO

    best = Path(job["weights"]) / "weights" / "best.pt"

    def export(name: str) -> Path:
        calibrating = {"data": str(Path(job["data"]) / "data.yaml")} if FILES[name] == 8 else {}
        written = Path(
            YOLO(str(best)).export(
                format=name.split("-", maxsplit=1)[0],
                quantize=FILES[name],
                imgsz=job["size"],
                device="cpu",
                **calibrating,
            )
        )
        # ultralytics takes the format from how the name ends
        target = out / f"{name}{'_openvino_model' if written.is_dir() else '.onnx'}"
        if target.is_dir():
            shutil.rmtree(target)
        return written.rename(target)

    return {name: try_to(lambda name=name: export(name)) for name in FILES}


def try_to(export: Callable[[], Path]) -> str:
    """Give the path of an exported file, or what went wrong."""
    try:
        return str(export())
    except (RuntimeError, ValueError, AssertionError, TypeError, ImportError) as error:
        return f"failed: {type(error).__name__}: {str(error)[:200]}"


def open_yolo(path: Path, job: dict[str, Any]) -> Run:
    """Open a file as users of ultralytics do; the masks of all findings are joined."""
    from ultralytics import YOLO

    task = name_task(job["network"])
    model = YOLO(str(path), task=task)

    def draw(frame: Image) -> Image:
        (result,) = model.predict(frame, imgsz=job["size"], device="cpu", verbose=False, retina_masks=True)
        found = result.semantic_mask if task == "semantic" else result.masks
        if found is None:
            return np.zeros(frame.shape[:2], np.uint8)
        drawn = found.data.numpy() > 0
        return (drawn.any(axis=0) if drawn.ndim == 3 else drawn).astype(np.uint8)

    return draw


def open_network(path: Path) -> Callable[[NDArray[np.float32] | None], NDArray[Any]]:
    """Open a file in its runtime, on one thread; the network runs on a tensor, or on a random one."""
    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        (entry,) = session.get_inputs()
        shape = entry.shape
        run = lambda tensor: session.run(None, {entry.name: tensor})[0]  # noqa: E731
    else:
        import openvino

        (description,) = path.glob("*.xml")
        settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.Core().compile_model(str(description), "CPU", settings)
        request, shape = compiled.create_infer_request(), compiled.input(0).get_partial_shape().get_min_shape()
        run = lambda tensor: request.infer([tensor], share_inputs=True, share_outputs=True)[0]  # noqa: E731
    random = np.random.default_rng(0).random(tuple(int(side) for side in shape), np.float32)
    return lambda tensor: np.asarray(run(random if tensor is None else tensor))


def open_masks(path: Path, job: dict[str, Any]) -> Run:
    """Open a file as a function from a frame to its mask, at the frame's size."""
    if job["network"] != UNET:
        return open_yolo(path, job)
    from peer_unet import place, to_mask

    network = open_network(path)

    def draw(frame: Image) -> Image:
        tensor, box = place(frame, job["size"])
        return to_mask(network(tensor)[0, 0], box, frame.shape[:2])

    return draw


def draw_masks(job: dict[str, Any]) -> None:
    """Draw a mask for each image of the validation and test parts."""
    draw, out = open_masks(Path(job["file"]), job), Path(job["out"])
    for part in ("val", "test"):
        (out / part).mkdir(parents=True, exist_ok=True)
        for path in sorted((Path(job["data"]) / "images" / part).iterdir()):
            mask = draw(np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR), np.uint8))
            cv2.imwrite(str(out / part / f"{path.stem}.png"), mask * 255)


def take_block(run: Callable[[], object], count: int) -> list[float]:
    """Time a block of runs; the first one is not counted."""
    run()
    taken = []
    for _ in range(count):
        start = perf_counter()
        run()
        taken.append(1e3 * (perf_counter() - start))
    return taken


def serve(job: dict[str, Any]) -> None:
    """Time what peers.py asks for, line by line, on the last processor alone."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    frame = np.random.default_rng(0).integers(0, 256, FRAME, np.uint8)
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for name, entry in job["files"].items():
        network, draw = open_network(Path(entry["file"])), open_masks(Path(entry["file"]), entry)
        runs[name, "network"] = lambda network=network: network(None)
        runs[name, "whole"] = lambda draw=draw: draw(frame)
    for line in sys.stdin:
        name, what, count = line.split()
        print(json.dumps(take_block(runs[name, what], int(count))), flush=True)


def measure_install(names: Iterable[str]) -> dict[str, Any]:
    """Add up the packages that some packages need, themselves among them: megabytes, and how many there are.

    Bytecode and extras do not count. Packages for graphics cards that torch brings are given apart.
    """
    sizes = {name: _measure_package(name) for name in sorted(set(_list_needed(names)))}
    cuda = sum(size for name, size in sizes.items() if CUDA.match(name))
    megabytes = sum(sizes.values())
    return {"mb": round(megabytes, 1), "mb_without_cuda": round(megabytes - cuda, 1), "packages": len(sizes)}


def _list_needed(names: Iterable[str]) -> Iterator[str]:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    waiting, seen = [Requirement(name) for name in names], set()
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        known = (name, *sorted(one.extras))
        if known in seen:
            continue
        seen.add(known)
        yield name
        for text in metadata.requires(name) or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in (one.extras or {""})):
                waiting.append(needed)


def _measure_package(name: str) -> float:
    files = metadata.files(name) or ()
    paths = {Path(str(file.locate())) for file in files if file.suffix != ".pyc"}
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def tell(job: dict[str, Any]) -> dict[str, Any]:
    """Tell versions and what has to be installed."""
    return {
        "python": sys.version.split()[0],
        "versions": {name: metadata.version(name) for name in job["versions"]},
        "install": {name: measure_install(names) for name, names in job["install"].items()},
    }


def do(job: dict[str, Any]) -> dict[str, Any]:
    """Do a job; gives what peers.py wants to know of it."""
    if job["do"] == "tell":
        return tell(job)
    out = Path(job["out"])
    out.mkdir(parents=True, exist_ok=True)
    if job["do"] == "draw":
        draw_masks(job)
        return {}
    if job["network"] == UNET:
        from peer_unet import export_unet, train_unet

        return train_unet(job, out) if job["do"] == "train" else export_unet(job, out)
    return train_yolo(job, out) if job["do"] == "train" else export_yolo(job, out)


def main() -> None:
    """Do the job of a file and write what came of it beside it."""
    path = Path(sys.argv[1])
    job = json.loads(path.read_text(encoding="utf-8"))
    if job["do"] == "serve":
        serve(job)
        return
    start = perf_counter()
    told = do(job)
    told["minutes_taken" if job["do"] == "train" else "seconds_taken"] = round(
        (perf_counter() - start) / (60 if job["do"] == "train" else 1), 2
    )
    path.with_suffix(".done.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
