"""What is tried on an emulated board without a network, from the archive to the stream.

benchmarks/aarch64.py starts it. Needs nothing but Python's own library, and board.tar.gz, models/ and clip/ beside
it. Leaves results/.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PREFIX = Path("/opt/edgeseg")
SETTINGS = "EDGESEG_SOURCE='{clip}'\nEDGESEG_BACKEND='cpu'\nEDGESEG_THREADS='1'\nEDGESEG_BUDGET_MS='60000'\n"
"""A budget that an emulated processor holds; an installation leaves settings alone that are there already."""
DEVICE_SIDE = "import edgeseg.streaming.loop, edgeseg.evaluation.score, edgeseg.bench.measure"
RAN = (0, 3)


def list_steps(edgeseg: str, python: str) -> dict[str, list[str]]:
    """List the commands by their names, in their order."""
    models = sorted(str(path) for path in (HERE / "models").glob("*.tflite"))
    stream = [str(PREFIX / "current/model.tflite"), "--source", str(HERE / "clip"), "--every-frame", "--view", "none"]
    return {
        "unpack": ["tar", "-xzf", str(HERE / "board.tar.gz"), "-C", str(HERE / "unpacked")],
        "install": ["sh", str(HERE / "unpacked/install.sh")],
        "doctor": [edgeseg, "doctor", "--device", "generic-aarch64", "--json", str(RESULTS / "doctor.json")],
        "verify": ["sh", str(PREFIX / "board.sh"), "verify"],
        "parity": [edgeseg, "bench", *models, "--parity", "--backend", "cpu", "--json", str(RESULTS / "parity.json")],
        "bench": [edgeseg, "bench", *models, "--backend", "cpu", "--runs", "20", "--json", str(RESULTS / "bench.json")],
        "stream": [edgeseg, "stream", *stream, "--record", str(RESULTS / "recording"), "--budget-ms", "60000"],
        "import": [python, "-c", DEVICE_SIDE],
    }


def run_step(name: str, command: list[str]) -> dict[str, Any]:
    """Run one command, keep what it said, and take its exit code and seconds."""
    print(f"{name}: {' '.join(command)}", flush=True)
    start = perf_counter()
    with (RESULTS / f"{name}.txt").open("wb") as log:
        code = subprocess.run(command, cwd=HERE, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    return {"code": code, "seconds": round(perf_counter() - start, 2)}


def measure_folder(folder: Path) -> dict[str, int]:
    """Count the files below a folder and their bytes."""
    sizes = [Path(root, name).lstat().st_size for root, _, names in os.walk(folder) for name in names]
    return {"files": len(sizes), "bytes": sum(sizes)}


def main() -> None:
    """Run all steps, up to the first that does not run, and write what came of them."""
    for folder in (RESULTS, HERE / "unpacked", PREFIX):
        folder.mkdir()
    (PREFIX / "stream.env").write_text(SETTINGS.format(clip=HERE / "clip"), encoding="utf-8")
    programs = PREFIX / "current/venv/bin"
    steps: dict[str, dict[str, Any]] = {}
    for name, command in list_steps(str(programs / "edgeseg"), str(programs / "python")).items():
        steps[name] = run_step(name, command)
        if steps[name]["code"] not in RAN:
            sys.exit(f"{name} failed:\n{(RESULTS / f'{name}.txt').read_text(encoding='utf-8')}")
    light = measure_folder((PREFIX / "current/venv").resolve())
    session = {"steps": steps, "light": light, "machine": os.uname().machine, "python": sys.version.split()[0]}
    (RESULTS / "session.json").write_text(json.dumps(session, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
