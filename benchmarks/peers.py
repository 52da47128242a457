"""edgeseg and other small networks on the same images: Dice, marks on empty images, milliseconds, size, installation.

    python benchmarks/peers.py DATA OUT --python PEERS/bin/python --ours NAME=FOLDS ... [--fold 1] [--minutes 10]

PEERS is an environment of its own: `python -m venv PEERS && PEERS/bin/pip install ultralytics torch openvino nncf onnx
onnxslim onnxruntime`. edgeseg neither needs nor imports any of it. A fold of `edgeseg train --folds` gives training,
validation and test cases, divided by group; every peer gets the same ones at the same input size and trains for so many
minutes from random weights, one after the other. `--ours` names finished folds of `edgeseg train --folds 5` (given
several times, in the order of the table). Nothing is downloaded while it runs.

Of every peer four files are made: OpenVINO and ONNX, float32 and int8 by calibration alone. The table has the fastest
int8 file whose Dice on the validation cases is within 0.02 of the fastest float32 file's, or else that one; the second
table has all of them. Masks are judged at the frame's own size by one function for all. Times are medians on one
thread, of all files by turns: the network alone, and everything from a colour frame of 640x480 to its mask at that
size, as the package does it. What is finished in OUT is not done again. Writes OUT/peers.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from few_labels import find_folds
from fold_runs import MODEL, Course, FoldRun, choose_file
from folds import named
from peer_side import FILES, FRAME, UNET, measure_install, take_block
from peer_tables import FOLDS, Measured, Network, Plan, choose, name_install, write_tables
from trained import score_file

from edgeseg.backends.cpu import CpuBackend
from edgeseg.core.files import staged_folder, write_json
from edgeseg.core.modelfile import ModelFile, read_model
from edgeseg.data.annotations.shapes import AnnotatedImage, trace_mask
from edgeseg.data.annotations.writers import open_writer
from edgeseg.data.dataset import LabelledImage, open_dataset, view_case
from edgeseg.data.reading import Case
from edgeseg.data.split import Split
from edgeseg.evaluation.score import ScoredCase, score_labels
from edgeseg.frame.images import write_image
from edgeseg.frame.preprocess import pixels_to_tensor
from edgeseg.inference.segmenter import Segmenter

SIDE = Path(__file__).with_name("peer_side.py")
PEERS = ("yolo26n-sem", "yolo26n-seg", UNET)
BLOCK = 10
PARTS = ("train", "val", "test")
FLOAT, INT8 = "LiteRT float32", "LiteRT int8"
VERSIONS = ("ultralytics", "torch", "openvino", "nncf", "onnx", "onnxruntime", "numpy", "opencv-python")
# What has to be installed to run a peer's files.
INSTALLS = {
    "ultralytics, openvino": ("ultralytics", "openvino"),
    "ultralytics, onnxruntime": ("ultralytics", "onnxruntime"),
    "openvino": ("openvino", "opencv-python"),
    "onnxruntime": ("onnxruntime", "opencv-python"),
}


def write_data(root: Path, folder: Path, split: Split) -> None:
    """Write a fold for the peers: images, outlines as YOLO wants them, and masks of 0 and 1; or take what is there."""
    if folder.is_dir():
        return
    classes = [spec.name for spec in open_dataset(root).classes]
    if len(classes) != 1:
        raise SystemExit(f"expected a data folder with one class, got {', '.join(classes)}")
    with staged_folder(folder) as new:
        writer = open_writer("yolo", new, classes)
        for part, cases in zip(PARTS, (split.train, split.validation, split.test), strict=True):
            for case in cases:
                image = view_case(case)
                place = writer.place(f"{case.stem}.png", part)
                # a copy: other software may write beside images, or over them
                write_image(place, image.frame)
                mask = new / "masks" / part / f"{place.stem}.png"
                write_image(mask, image.masks[0])
                shapes = tuple(trace_mask(image.masks[0], classes[0]))
                writer.add(AnnotatedImage(f"{case.stem}.png", image.size[1], image.size[0], shapes), part)
        writer.close()


def make_surroundings(plan: Plan) -> dict[str, str]:
    """Name the settings that keep the peers' packages from the network and from the user's folders."""
    home = plan.out / "settings"
    refusal = home / "intel" / "openvino_telemetry"
    refusal.parent.mkdir(parents=True, exist_ok=True)
    # without this answer OpenVINO and NNCF report what is done with them
    refusal.write_text("0", encoding="utf-8")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return ours | {
        "HOME": str(home),
        "YOLO_CONFIG_DIR": str(home),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "OMP_NUM_THREADS": str(os.cpu_count() or 1),
        "PYTHONUNBUFFERED": "1",
    }


def ask(plan: Plan, name: str, job: Mapping[str, Any]) -> dict[str, Any]:
    """Let the peers' Python do a job, or take what came of the same job before."""
    path = plan.out / "jobs" / f"{name}.json"
    done = path.with_suffix(".done.json")
    if done.is_file() and json.loads(path.read_text(encoding="utf-8")) == json.loads(json.dumps(job)):
        return dict(json.loads(done.read_text(encoding="utf-8")))
    done.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, job)
    print("peers:", name, flush=True)
    surroundings = make_surroundings(plan)
    command = [str(plan.python), str(SIDE), str(path)]
    if code := subprocess.run(command, check=False, env=surroundings, cwd=surroundings["HOME"]).returncode:
        raise SystemExit(f"expected the peers' Python to do {name}, got code {code}; once more goes on from here")
    return dict(json.loads(done.read_text(encoding="utf-8")))


def train_peer(plan: Plan, name: str, fold: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Train a peer on a fold and export it; gives what is told of the training, and the files."""
    place = plan.out / f"fold-{fold}" / name
    shared = {"network": name, "data": str(place.parent / "data"), "size": plan.size}
    job = shared | {"do": "train", "out": str(place / "weights"), "minutes": plan.minutes, "batch": plan.batch}
    trained = ask(plan, f"{fold}-{name}-train", job)
    # a training of other length makes other files
    job = shared | {"do": "export", "out": str(place), "weights": str(place / "weights"), "trained": trained}
    exported = ask(plan, f"{fold}-{name}-export", job)
    return trained, {file: exported[file] for file in FILES}


def judge(folder: Path, cases: Sequence[Case], classes: Sequence[Any]) -> list[ScoredCase]:
    """Score drawn masks as everything in edgeseg is scored."""
    return [score_labels(read_mask(folder / f"{case.stem}.png", image), image, classes) for case, image in _read(cases)]


def _read(cases: Sequence[Case]) -> Iterator[tuple[Case, LabelledImage]]:
    return ((case, view_case(case)) for case in cases)


def read_mask(path: Path, image: LabelledImage) -> Any:
    """Read a mask that a peer has drawn, which must have the image's size."""
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None or mask.shape != image.size:
        raise SystemExit(f"expected a mask of {image.size} in {path}, got {None if mask is None else mask.shape}")
    return (mask > 0).astype(np.uint8)


def measure_peer(plan: Plan, name: str, splits: Sequence[Split]) -> tuple[Network, dict[str, str]]:
    """Train, export and judge a peer on all folds; gives its files of the first one, too."""
    network, first = Network(name, {file: Measured(file) for file in FILES}), {}
    classes = open_dataset(plan.data).classes
    for fold in plan.folds:
        trained, files = train_peer(plan, name, fold)
        network.minutes.append(trained["minutes_taken"])
        network.epochs.append(trained["epochs"])
        network.parameters = trained["parameters"]
        for file, path in files.items():
            one = network.files[file]
            if path.startswith("failed"):
                one.failed = path
                continue
            out = plan.out / f"fold-{fold}" / name / "masks" / file
            job = {"do": "draw", "network": name, "size": plan.size, "file": path, "out": str(out)}
            job |= {"data": str(plan.out / f"fold-{fold}" / "data"), "trained": trained}
            ask(plan, f"{fold}-{name}-draw-{file}", job)
            one.test += judge(out / "test", splits[fold - 1].test, classes)
            one.validation += judge(out / "val", splits[fold - 1].validation, classes)
            one.kilobytes = measure_kilobytes(Path(path))
            if fold == plan.folds[0]:
                first[file] = path
    return network, first


def measure_kilobytes(path: Path) -> float:
    """Measure a file, or the network's files in a folder."""
    files = [path] if path.is_file() else [one for one in path.iterdir() if one.suffix in (".xml", ".bin")]
    return sum(one.stat().st_size for one in files) / 1e3


def measure_ours(plan: Plan, name: str, folder: Path, splits: Sequence[Split]) -> tuple[Network, dict[str, ModelFile]]:
    """Judge finished folds of edgeseg, in float32 and int8; gives the files of the first fold, too."""
    network, first = Network(name, {FLOAT: Measured(FLOAT), INT8: Measured(INT8)}, chosen=INT8), {}
    course = Course(plan.data, plan.out / "ours", FOLDS, int8=True)
    for fold in plan.folds:
        run = folder / f"fold-{fold}"
        if not (run / "run.json").is_file():
            raise SystemExit(f"expected a finished fold in {run}, got none")
        int8 = choose_file(course, FoldRun(run, plan.data, course.out / name / f"fold-{fold}" / "int8-ptq.tflite"))
        told = json.loads((run / "run.json").read_text(encoding="utf-8"))
        network.minutes.append(told["timing"]["seconds"] / 60)
        expected = {case.stem for case in splits[fold - 1].test}
        for file, path in ((FLOAT, run / MODEL), (INT8, int8)):
            one, scored = network.files[file], score_file(path, plan.data)
            if {case.stem for case in scored} != expected:
                raise SystemExit(f"expected {run} to be fold {fold} of the same division, got other test cases")
            one.test += scored
            one.kilobytes = path.stat().st_size / 1e3
            first.setdefault(file, read_model(path))
    return network, first


@contextmanager
def start_peers(plan: Plan, files: Mapping[str, Mapping[str, Any]]) -> Iterator[Callable[[str, str, int], list[float]]]:
    """Start the peers' process that times its files on demand."""
    path = plan.out / "jobs" / "serve.json"
    write_json(path, {"do": "serve", "files": files})
    surroundings = make_surroundings(plan) | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [str(plan.python), str(SIDE), str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=surroundings, cwd=surroundings["HOME"],
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def take(name: str, what: str, count: int) -> list[float]:
            print(name, what, count, file=process.stdin, flush=True)
            for line in process.stdout or ():
                # packages print there, too
                if line.startswith("["):
                    return [float(one) for one in json.loads(line)]
            raise SystemExit(f"expected times of {name}, got the end of the peers' process")

        yield take
        process.stdin.close()


def prepare_ours(model: ModelFile) -> dict[str, Callable[[], object]]:
    """Load one of our files; each entry runs it once."""
    spec, random = model.card.input, np.random.default_rng(0)
    pixels = random.integers(0, 256, (spec.height, spec.width, spec.channels), np.uint8)
    tensor, backend = pixels_to_tensor(pixels, model.card.input_quantisation), CpuBackend(model.flatbuffer, 1)
    frame, segmenter = random.integers(0, 256, FRAME, np.uint8), Segmenter(model, "cpu")
    return {"network": lambda: backend.invoke(tensor), "whole": lambda: segmenter(frame).labels}


def time_all(
    plan: Plan, networks: Sequence[Network], ours: Mapping[str, Mapping[str, ModelFile]], theirs: Mapping[str, Any]
) -> None:
    """Time every file by turns, all on the same processor, and note the medians."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    own = {name: {file: prepare_ours(model) for file, model in files.items()} for name, files in ours.items()}
    entries = {
        f"{name}:{file}": {"file": path, "network": name, "size": plan.size}
        for name, files in theirs.items()
        for file, path in files.items()
    }
    taken: dict[tuple[str, str, str], list[float]] = {}
    with start_peers(plan, entries) as take:
        for _ in range(-(-plan.runs // BLOCK)):
            for network in networks:
                for file in network.files:
                    for what in ("network", "whole"):
                        if network.name in own:
                            times = take_block(own[network.name][file][what], BLOCK)
                        elif file in theirs[network.name]:
                            times = take(f"{network.name}:{file}", what, BLOCK)
                        else:
                            continue
                        taken.setdefault((network.name, file, what), []).extend(times)
    for network in networks:
        for file, one in network.files.items():
            if (network.name, file, "network") in taken:
                one.network_ms = median(taken[network.name, file, "network"])
                one.whole_ms = median(taken[network.name, file, "whole"])


def read_plan(chosen: argparse.Namespace) -> Plan:
    """Check what was asked for."""
    folds = tuple(dict.fromkeys(chosen.fold))
    if not all(1 <= fold <= FOLDS for fold in folds):
        raise SystemExit(f"expected folds from 1 to {FOLDS}, got {', '.join(map(str, folds))}")
    if chosen.minutes <= 0 or chosen.runs < 1 or chosen.batch < 2:
        raise SystemExit("expected minutes above 0, at least one run and batches of at least 2")
    if chosen.size < 64 or chosen.size % 32:
        raise SystemExit(f"expected a --size of at least 64, a multiple of 32, got {chosen.size}")
    if not chosen.python.is_file():
        raise SystemExit(f"expected a Python at {chosen.python}, got none; see the first lines of this file")
    # not resolved: a virtual environment's Python is a link
    return Plan(
        chosen.data.resolve(), chosen.out.resolve(), chosen.python.absolute(), folds, chosen.minutes, chosen.size,
        chosen.batch, chosen.runs, tuple(dict.fromkeys(chosen.peer)),
    )  # fmt: skip


def main() -> None:
    """Train, judge and time everything, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--python", type=Path, required=True, help="of the peers' environment")
    parser.add_argument("--ours", type=named, action="append", default=[], metavar="NAME=FOLDS")
    parser.add_argument("--fold", type=int, nargs="+", default=[1], help="which folds are test parts")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training for each peer and fold")
    parser.add_argument("--peer", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--size", type=int, default=256, help="of the peers' input")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--runs", type=int, default=100)
    chosen = parser.parse_args()
    plan, folders = read_plan(chosen), {name: Path(folder).resolve() for name, folder in chosen.ours}
    if set(folders) & set(plan.peers):
        raise SystemExit("expected another name for --ours than a peer's")
    told = ask(plan, "tell", {"do": "tell", "versions": VERSIONS, "install": INSTALLS})
    splits = find_folds(plan.data, FOLDS)
    for fold in plan.folds:
        write_data(plan.data, plan.out / f"fold-{fold}" / "data", splits[fold - 1])
    networks, ours, theirs = [], {}, {}
    for name, folder in folders.items():
        network, ours[name] = measure_ours(plan, name, folder, splits)
        network.install = measure_install(["edgeseg"])
        networks.append(network)
    for name in plan.peers:
        network, theirs[name] = measure_peer(plan, name, splits)
        networks.append(network)
    time_all(plan, networks, ours, theirs)
    for network in networks:
        if network.name in theirs:
            choose(network)
            network.install = told["install"][name_install(network)]
    write_tables(plan, networks, splits, told)


if __name__ == "__main__":
    main()
