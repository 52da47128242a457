"""Kill one of two workers of a training, start both again, and see whether it goes on from the checkpoint.

    python benchmarks/lost_worker.py OUT [--kills 2] [--epochs 12]

Two processes on this machine train a tiny network with --strategy multi-worker. After a checkpoint one of them gets
SIGKILL, the worker and the chief by turns; then it is seen how long the other one takes to end, and both are started
again with --resume, as a Slurm or Kubernetes job does. Writes OUT/lost-worker.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

from trained import write_results

from edgeseg.core.files import partial_path, read_rows
from edgeseg.phantom.synthesis import SynthOptions, write_phantom_set
from edgeseg.training.resume import CHECKPOINT

SECONDS = 1800.0
TRAINING = ["--model", "nano", "--size", "32", "--batch", "4", "--strategy", "multi-worker"]
HEADER = (
    "killed",
    "epochs before",
    "the other ended after s",
    "with code",
    "epochs in the end",
    "each once",
    "verdict",
)


@dataclass
class Cluster:
    """Two workers on this machine."""

    data: Path
    out: Path
    epochs: int

    def start(self, *more: str) -> list[subprocess.Popen[str]]:
        """Start both, at free ports."""
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in (one, two)]
        command = [sys.executable, "-m", "edgeseg", "train", str(self.data), "--out", str(self.out), *TRAINING]
        command += ["--epochs", str(self.epochs), *more]
        workers = []
        for index in (0, 1):
            place = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            variables = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_CONFIG": json.dumps(place)}
            log = self.out.with_name(f"worker-{index}.log").open("a", encoding="utf-8")
            workers.append(subprocess.Popen(command, stdout=log, stderr=log, text=True, env=variables))
        return workers

    def count_epochs(self, folder: Path) -> list[int]:
        """List the epochs that are in a run's history."""
        path = folder / "history.csv"
        return [int(row["epoch"]) for row in read_rows(path)] if path.is_file() else []

    def wait_for_checkpoint(self, workers: list[subprocess.Popen[str]]) -> int:
        """Wait until an epoch is kept."""
        folder, end = partial_path(self.out), perf_counter() + SECONDS
        while not (any((folder / CHECKPOINT).glob("ckpt-*.index")) and self.count_epochs(folder)):
            if perf_counter() > end or any(worker.poll() is not None for worker in workers):
                for worker in workers:
                    worker.kill()
                raise SystemExit(f"Expected an epoch of two workers, got none: {self.read_logs()}")
            sleep(0.05)
        return len(self.count_epochs(folder))

    def read_logs(self) -> str:
        """Read the end of what the workers said."""
        logs = [self.out.with_name(f"worker-{index}.log") for index in (0, 1)]
        return "\n".join(f"{log.name}: {log.read_text(encoding='utf-8')[-1500:]}" for log in logs)


def wait(worker: subprocess.Popen[str]) -> str:
    """Wait for a worker; one that hangs is ended."""
    with suppress(subprocess.TimeoutExpired):
        return str(worker.wait(SECONDS))
    worker.kill()
    worker.wait()
    return "hung"


def try_kill(data: Path, folder: Path, epochs: int, killed: int) -> list[str]:
    """Kill a worker, and go on."""
    cluster = Cluster(data, folder / "run", epochs)
    workers = cluster.start()
    before = cluster.wait_for_checkpoint(workers)
    workers[killed].kill()
    workers[killed].wait()
    began = perf_counter()
    code = wait(workers[1 - killed])
    took = perf_counter() - began
    print(cluster.read_logs(), flush=True)
    codes = [wait(worker) for worker in cluster.start("--resume")]
    found = cluster.count_epochs(cluster.out)
    once = found == list(range(1, len(found) + 1))
    held = once and len(found) >= before and codes == ["0", "0"] and code != "hung"
    if not held:
        print(codes, cluster.read_logs(), flush=True)
    name = ("chief", "worker")[killed]
    words = (str(before), f"{took:.0f}", code, str(len(found)), "yes" if once else "no", "held" if held else "missed")
    return [name, *words]


def main() -> None:
    """Kill workers, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=12)
    chosen = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "data").mkdir()
        write_phantom_set(folder / "data", SynthOptions(cases=24, seed=1, size=(48, 48), clips=0))
        rows = []
        for number in range(chosen.kills):
            (folder / str(number)).mkdir()
            rows.append(try_kill(folder / "data", folder / str(number), chosen.epochs, killed=1 - number % 2))
    notes = (
        "# A worker of a training is killed",
        "",
        f"    python benchmarks/lost_worker.py OUT --kills {chosen.kills} --epochs {chosen.epochs}",
        "",
        "Two processes on one machine, `--strategy multi-worker`. One gets SIGKILL after a checkpoint; the other one "
        "ends by itself, and both are started again with `--resume`. Held: every epoch is in the history once, and "
        "both workers end well.",
    )
    chosen.out.mkdir(parents=True, exist_ok=True)
    write_results(chosen.out, "lost-worker", notes, HEADER, rows)


if __name__ == "__main__":
    main()
