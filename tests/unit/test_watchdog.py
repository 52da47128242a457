"""What a stream tells systemd, read from a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from select import select

import numpy as np
import pytest

from edgeseg.core.errors import OutputError
from edgeseg.inference.segmenter import Segmentation, StageTimes
from edgeseg.streaming.loop import find_watchdogs
from edgeseg.streaming.sinks.base import Result
from edgeseg.streaming.sources.base import Frame

BLANK = np.zeros((4, 4), np.uint8)
RESULT = Result(Frame(BLANK, 0, 0.0), Segmentation(BLANK, StageTimes(1.0, 1.0, 1.0)), 3.0)


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """Listen as systemd does."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@edgeseg-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address.replace("@", "\0"))
        yield listener, address


def hear(listener: socket.socket) -> list[str]:
    heard = []
    while select([listener], [], [], 0)[0]:
        heard.append(listener.recv(100).decode("ascii"))
    return heard


def test_ready_alive_and_stopping(systemd: tuple[socket.socket, str]) -> None:
    listener, address = systemd
    (watchdog,) = find_watchdogs({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})
    assert hear(listener) == []
    watchdog.publish(RESULT)
    assert hear(listener) == ["READY=1", "WATCHDOG=1"]
    watchdog.publish(RESULT)
    assert hear(listener) == ["WATCHDOG=1"]
    watchdog.close()
    assert hear(listener) == ["STOPPING=1"]


def test_it_is_not_said_with_every_frame(systemd: tuple[socket.socket, str]) -> None:
    listener, address = systemd
    (watchdog,) = find_watchdogs({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "600000000"})
    for _ in range(5):
        watchdog.publish(RESULT)
    assert hear(listener) == ["READY=1", "WATCHDOG=1"]
    watchdog.close()


def test_a_watchdog_of_another_process_is_not_fed(systemd: tuple[socket.socket, str]) -> None:
    listener, address = systemd
    (watchdog,) = find_watchdogs({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"})
    for _ in range(3):
        watchdog.publish(RESULT)
    assert hear(listener) == ["READY=1", "WATCHDOG=1"]
    watchdog.close()


def test_outside_of_a_service_nothing_is_told() -> None:
    assert find_watchdogs({}) == []


def test_nobody_listens(tmp_path: Path) -> None:
    (watchdog,) = find_watchdogs({"NOTIFY_SOCKET": str(tmp_path / "none")})
    with pytest.raises(OutputError, match="systemd"):
        watchdog.publish(RESULT)
    with pytest.raises(OutputError):
        watchdog.close()
