"""Several workers or devices leave one finished run, and a wrong cluster is told."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgeseg.core.errors import TrainingError
from edgeseg.core.spec import FindingSpec
from edgeseg.model.keras import tf
from edgeseg.training.run import read_run
from edgeseg.training.strategy import (
    CONFIG,
    EXAMPLE,
    MULTI_WORKER,
    RunPaths,
    WorkerRole,
    explained_loss,
    find_role,
    open_strategy,
)
from edgeseg.training.validation import read_history
from tests.discs import make_disc_data
from tests.shallow import COMMAND, ENVIRONMENT

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("shallow_sizes")]

OPTIONS = ["--model", "nano", "--size", "32", "--epochs", "2", "--batch", "8"]
MIRRORED = """
import sys
from tests.shallow import replace_sizes
replace_sizes()
from edgeseg.model.keras import tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from edgeseg.cli.app import main
main()
"""


def start(program: Sequence[str], out: Path, data: Path, strategy: str, **more: str) -> subprocess.Popen[str]:
    command = [*program, "train", str(data), "--out", str(out), *OPTIONS, "--strategy", strategy]
    environment = {**os.environ, **ENVIRONMENT, **more}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return said


def find_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in sockets]
    for server in sockets:
        server.close()
    return ports


def test_two_workers_leave_one_run(tmp_path: Path) -> None:
    data = make_disc_data(tmp_path / "discs", 20)
    cluster = {"worker": [f"127.0.0.1:{port}" for port in find_ports(2)]}
    configs = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}) for index in (0, 1)]
    workers = [start(COMMAND, tmp_path / "run", data, "multi-worker", **{CONFIG: config}) for config in configs]
    chief, other = (finish(worker) for worker in workers)
    assert "epoch" in chief
    assert "worker" in other
    assert [row.epoch for row in read_history(tmp_path / "run")] == [1, 2]
    assert read_run(tmp_path / "run").evaluation is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["discs", "run"]


def test_two_devices_share_every_batch(tmp_path: Path) -> None:
    data = make_disc_data(tmp_path / "discs", 20)
    # a batch then holds findings, too
    labels = "".join(f"case_{number:02d},{'odd' if number % 2 else 'even'}\n" for number in range(20))
    (data / "labels.csv").write_text("stem,label\n" + labels, encoding="utf-8")
    finish(start([sys.executable, "-c", MIRRORED], tmp_path / "run", data, "mirrored"))
    record = read_run(tmp_path / "run")
    assert (record.options.strategy, record.options.batch) == ("mirrored", 8)
    assert record.finding == FindingSpec(("even", "odd"))


def test_one_device_is_nothing_to_mirror_on() -> None:
    with pytest.raises(TrainingError, match="at least 2 devices"):
        open_strategy("mirrored", 16)


def test_a_worker_that_continues_decides_by_the_chiefs_history(tmp_path: Path) -> None:
    chief, worker = tmp_path / "run.partial", tmp_path / "worker"
    for folder in (chief, worker):
        folder.mkdir()
    RunPaths(worker, chief, WorkerRole(index=1, chief=False)).follow_chief()
    assert list(worker.iterdir()) == []
    for name in ("history.csv", "weights.h5", "run.json"):
        (chief / name).write_text(name, encoding="utf-8")
    RunPaths(worker, chief, WorkerRole(index=1, chief=False)).follow_chief()
    RunPaths(chief, chief, WorkerRole()).follow_chief()
    assert sorted(path.name for path in worker.iterdir()) == ["history.csv", "weights.h5"]


def test_a_lost_worker_is_told_in_a_sentence() -> None:
    lost = tf.errors.UnavailableError(None, None, "Connection reset by peer")
    with pytest.raises(TrainingError, match="lost") as caught, explained_loss(MULTI_WORKER):
        raise lost
    assert "--resume" in caught.value.hint
    with pytest.raises(tf.errors.UnavailableError), explained_loss("one"):
        raise lost


def test_the_seat_is_read_from_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CONFIG, raising=False)
    assert find_role("one").chief
    monkeypatch.setenv(CONFIG, EXAMPLE)
    assert find_role("multi-worker") == WorkerRole("worker", 0, chief=True)
    monkeypatch.setenv(CONFIG, EXAMPLE.replace('"index": 0', '"index": 1'))
    assert find_role("multi-worker") == WorkerRole("worker", 1, chief=False)
    cluster = {"chief": ["a:1"], "worker": ["b:1"]}
    for kind, chief in (("chief", True), ("worker", False)):
        monkeypatch.setenv(CONFIG, json.dumps({"cluster": cluster, "task": {"type": kind, "index": 0}}))
        assert find_role("multi-worker").chief is chief


@pytest.mark.parametrize(
    "config",
    [
        "",
        "no json",
        "[]",
        "{}",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_a_wrong_cluster_is_told(monkeypatch: pytest.MonkeyPatch, config: str) -> None:
    monkeypatch.setenv(CONFIG, config)
    with pytest.raises(TrainingError, match="cluster") as caught:
        find_role("multi-worker")
    assert f"export {CONFIG}=" in caught.value.hint
