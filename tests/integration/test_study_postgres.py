"""A study in a real PostgreSQL: a server of the test's own, at a port of 127.0.0.1, that only the test knows."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep

import pytest

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import RunError
from edgeseg.search import database
from edgeseg.search.database import StorageAddress
from edgeseg.search.networks import NetworkChoice, NetworkStudy, SearchSpace, StudyPlan
from edgeseg.search.results import FINISHED, INTERRUPTED
from tests.studies import SCORED, open_shared, work_off

USER, PASSWORD = "edge", "hunter2"
PLAN = StudyPlan(SearchSpace(models=("nano",), sizes=(32, 64)), SplitSpec(0, 0.12, 0.15), epochs=1)


def find_programs() -> Path | None:
    """Find the folder with PostgreSQL's programs; Debian keeps them off the path."""
    named = shutil.which("initdb")
    folders = [Path(named).parent] if named else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").is_file()), None)


PROGRAMS = find_programs()
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        PROGRAMS is None, reason="no PostgreSQL server is installed (Debian: apt-get install postgresql)"
    ),
    # the driver leaves the socket of a refused connection to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(importlib.util.find_spec("pg8000") is None, reason="the extra storage is not installed"),
]


@dataclass(frozen=True)
class Server:
    """A server in a folder; not root's, who may not run one."""

    folder: Path
    port: int

    @property
    def address(self) -> StorageAddress:
        return StorageAddress(f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres", "lesions")

    def run(self, program: str, *words: str) -> None:
        assert PROGRAMS is not None
        who = "nobody" if os.geteuid() == 0 else None
        command = [str(PROGRAMS / program), *words]
        subprocess.run(command, check=True, user=who, cwd=self.folder, stdout=subprocess.DEVNULL, timeout=120)

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories= -c fsync=off"
        self.run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", options, "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as free:
        server = Server(Path(name), int(free.getsockname()[1]))
        free.close()
        if os.geteuid() == 0:
            shutil.chown(name, "nobody")
        (server.folder / "password").write_text(PASSWORD, encoding="utf-8")
        server.run("initdb", "-D", "data", "-U", USER, "-A", "scram-sha-256", "--pwfile=password", "-E", "UTF8")
        server.start()
        yield server
        server.stop()


def open_worker(folder: Path, address: StorageAddress) -> NetworkStudy:
    return open_shared(folder, address, PLAN)


def test_workers_share_a_study_and_one_is_lost(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = replace(server.address, heartbeat_s=1, grace_s=3)
    lost = open_worker(tmp_path / "lost", address)
    with monkeypatch.context() as patch:
        patch.setattr(database, "HEARTBEAT_S", 3600)
        silent = open_worker(tmp_path / "silent", replace(address, heartbeat_s=3600))
        with silent.claim(9) as claim:
            assert claim is not None
            deadline = monotonic() + 60
            while list_states(lost) != [INTERRUPTED]:
                assert monotonic() < deadline
                sleep(0.5)

    def work(machine: str) -> list[NetworkChoice]:
        return work_off(open_worker(tmp_path / machine, address), 5)

    with ThreadPoolExecutor(3) as pool:
        done = [choice for part in pool.map(work, "abc") for choice in part]
    assert len(done) == len(set(done)) == 5
    assert claim.choice in done
    assert list_states(lost) == [INTERRUPTED, *[FINISHED] * 5]


def list_states(study: NetworkStudy) -> list[str]:
    with study.locked() as trials:
        return [trial.state for trial in trials]


def test_a_restart_of_the_server_while_a_trial_runs(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PAUSE_S", 0.2)
    study = open_worker(tmp_path / "a", replace(server.address, study="restart", heartbeat_s=1))
    with study.claim(1) as claim, ThreadPoolExecutor(1) as pool:
        assert claim is not None
        server.stop()
        finishing = pool.submit(study.finish, claim, SCORED)
        sleep(1.5)
        assert not finishing.done()
        server.start()
        finishing.result(60)
    assert list_states(study) == [FINISHED]


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        (PASSWORD, "wrong", "password authentication failed"),
        ("/postgres", "/nothing", "does not exist"),
        ("/postgres", "/postgres?sslmode=require", "SSL"),
        ("/postgres", "/postgres?nonsense=1", "nonsense"),
        ("127.0.0.1:", "127.0.0.1:1", "127.0.0.1"),
    ],
)
def test_a_wrong_server_is_told_without_the_password(
    server: Server, tmp_path: Path, old: str, new: str, fact: str
) -> None:
    url = (
        server.address.url.replace(old, new, 1)
        if old != "127.0.0.1:"
        else f"postgresql://{USER}:{PASSWORD}@127.0.0.1:1/x"
    )
    with pytest.raises(RunError, match=fact) as caught:
        open_worker(tmp_path / "a", StorageAddress(url, "lesions"))
    said = f"{caught.value.message} {caught.value.hint}"
    assert PASSWORD not in said
    assert "wrong" not in said.replace("wrong:", "")
