"""`edgeseg federate` as people use it: three processes, what passes between them, and what Ctrl-C leaves."""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep, time_ns
from typing import TYPE_CHECKING

import pytest

from edgeseg.core.files import partial_path
from tests.commands import Fail
from tests.discs import make_disc_data
from tests.shallow import COMMAND, ENVIRONMENT

pytest.importorskip("flwr", reason="needs Flower: pip install '.[federated]'")
if TYPE_CHECKING:
    from tests.federations import Relay

pytestmark = pytest.mark.integration
SECONDS = 400.0
NETWORK = ("--model", "micro", "--size", "32", "--batch", "4", "--lr", "0.01", "--class-name", "target")
ROUNDS = "24"
"""Far more than pass between a site's first round and the signal that interrupts the server."""
PRIVATE = ("mueller", "case_0", "clinic-of-hope", "images", ".png")


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [*COMMAND, "federate", *map(str, arguments)]
    environment = {**os.environ, **ENVIRONMENT, "HOME": os.devnull}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def end(*processes: subprocess.Popen[str]) -> list[str]:
    """Wait for processes, and return what they said; none outlives the test."""
    said = []
    try:
        for process in processes:
            text, _ = process.communicate(timeout=SECONDS)
            said.append(text)
    finally:
        for process in processes:
            process.kill()
    return said


def wait_for(condition: object, *processes: subprocess.Popen[str]) -> None:
    assert callable(condition)
    deadline = monotonic() + SECONDS
    while not condition():
        assert monotonic() < deadline
        assert all(process.poll() is None for process in processes), [process.communicate()[0] for process in processes]
        sleep(0.05)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def list_spellings(word: str) -> Iterator[bytes]:
    """List how a word may stand in a message: as text, as wide text, in hexadecimal, and in base64 at any place."""
    for text in {word, word.upper(), word.capitalize()}:
        for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le"):
            yield text.encode(encoding)
        raw = text.encode()
        yield raw.hex().encode()
        for before in range(3):
            # only the letters that do not depend on what stands before and behind
            coded = base64.b64encode(bytes(before) + raw)
            yield coded[-(-before * 4 // 3) + (1 if before else 0) : len(coded) - 4]


@pytest.fixture
def ports() -> tuple[int, int]:
    from tests.federations import free_port

    return free_port(), free_port()


def test_three_processes_train_whatever_is_killed_or_interrupted_and_nothing_private_passes(
    tmp_path: Path, ports: tuple[int, int]
) -> None:
    from tests.federations import relayed

    homes = [tmp_path / f"clinic-of-hope-{number}" / "patient-mueller" for number in (1, 2)]
    for number, home in enumerate(homes):
        make_disc_data(home, 12 + 6 * number)
    listen = ("--out", tmp_path / "all", "--listen", f"127.0.0.1:{ports[0]}")
    words = ("serve", "--sites", "2", "--rounds", ROUNDS, *NETWORK, *listen)
    server = start(*words)
    wait_for(lambda: listens(ports[0]), server)
    with relayed(ports[0]) as relay:
        joins = [("join", f"127.0.0.1:{relay.port}", home, "--out", home.parent / "run") for home in homes]
        stays, falls = (start(*join) for join in joins)
        checkpoint = homes[1].parent / "run.partial" / "checkpoint"
        wait_for(checkpoint.is_dir, server, stays, falls)
        falls.kill()
        falls.communicate()
        killed = time_ns()
        again = start(*joins[1])
        wait_for(lambda: checkpoint.stat().st_mtime_ns > killed, server, stays, again)
        server.send_signal(signal.SIGINT)
        said_before = server.communicate(timeout=SECONDS)[0]
        assert (server.returncode, "--resume" in said_before, (tmp_path / "all").exists()) == (130, True, False)
        server = start(*words, "--resume")
        said = end(server, stays, again)
    assert [process.returncode for process in (server, stays, again)] == [0, 0, 0], said
    assert "Site 3" not in said_before + said[0]
    check_runs(tmp_path / "all", homes)
    check_private(relay)


def check_runs(server: Path, homes: list[Path]) -> None:
    """Check that the server and every site have the run of all rounds."""
    from edgeseg.core.modelfile import read_model
    from edgeseg.training.run import read_run

    assert read_run(server).best_epoch in range(1, int(ROUNDS) + 1)
    assert len((server / "history.csv").read_text(encoding="utf-8").splitlines()) == 1 + int(ROUNDS)
    for home in homes:
        record = read_run(home.parent / "run")
        assert record.federation is not None
        assert (record.federation.sites, record.federation.rounds) == (2, int(ROUNDS))
        assert record.federation.at_site
        assert record.evaluation is not None
        assert read_model(home.parent / "run" / "model.tflite").card.metrics is not None
        assert not partial_path(home.parent / "run").exists()
    assert len({str(read_run(home.parent / "run").federation) for home in homes}) == 1


def check_private(relay: Relay) -> None:
    passed = b"".join(relay.passed)
    assert b"micro" in passed, "the plan should be readable in what was recorded"
    host = socket.gethostname()
    for word in (*PRIVATE, *((host,) if len(host) > 5 else ())):
        found = [spelling for spelling in list_spellings(word) if len(spelling) > 3 and spelling in passed]
        assert found == [], f"{word} was sent"


def test_ctrl_c_at_a_waiting_site_leaves_nothing_half_written(
    tmp_path: Path, ports: tuple[int, int], fail: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_disc_data(tmp_path / "data", 12)
    monkeypatch.setattr("edgeseg.federation.site.sleep", lambda _: signal.raise_signal(signal.SIGINT))
    code, said = fail("federate", "join", f"127.0.0.1:{ports[0]}", data, "--out", tmp_path / "run")
    assert (code, "Interrupted" in said) == (130, True)
    assert (tmp_path / "run.partial" / "site.json").is_file()
    assert not (tmp_path / "run").exists()


def test_what_is_refused_before_anything_starts(tmp_path: Path, ports: tuple[int, int], fail: Fail) -> None:
    data, out = make_disc_data(tmp_path / "data", 12), tmp_path / "run"
    serve = ("federate", "serve", "--sites", 2, "--out", out, *NETWORK)
    join = ("federate", "join")
    usage = [
        (*serve, "--listen", f"0.0.0.0:{ports[0]}"),
        (*serve, "--listen", "nowhere"),
        (*serve, "--certificate", tmp_path / "c.pem"),
        (*serve, "--minimum", 3),
        (*serve, "--rounds", 0),
        (*serve, "--class-name", "target"),
        (*join, "server.example:8440", data, "--out", out),
        (*join, "server.example", data, "--out", out),
    ]
    for words in usage:
        code, said = fail(*words)
        assert code == 2, said
    with socket.create_server(("127.0.0.1", ports[0])):
        code, said = fail(*serve, "--listen", f"127.0.0.1:{ports[0]}")
    assert code == 1
    assert str(ports[0]) in said
    code, said = fail(*join, f"127.0.0.1:{ports[1]}", data, "--out", out, "--wait", 1)
    assert code == 1
    assert "got none within 1 s" in said
    code, said = fail(*join, f"127.0.0.1:{ports[1]}", tmp_path / "nothing", "--out", out)
    assert code in (1, 2)
    assert not out.exists()
