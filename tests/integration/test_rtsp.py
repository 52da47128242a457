"""RTSP for real: a server that freezes or dies is noticed within the time limit."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from edgeseg.core.errors import SourceError
from edgeseg.streaming.sources.camera import RtspSource

pytestmark = pytest.mark.integration

CAMERA = Path(__file__).resolve().parents[2] / "benchmarks" / "rtsp_camera.py"
SYSTEM_PYTHON = Path("/usr/bin/python3")
CHECK = "import gi; gi.require_version('GstRtspServer', '1.0')"
STALL_S = 4.0


def can_serve() -> bool:
    """Say whether the system's Python can serve RTSP."""
    if not SYSTEM_PYTHON.exists():
        return False
    return subprocess.run([SYSTEM_PYTHON, "-c", CHECK], capture_output=True, check=False).returncode == 0


def read_all(source: RtspSource) -> None:
    for _ in range(1000):
        source.read()


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start an RTSP server; gives its process and address."""
    if not can_serve():
        pytest.skip("no RTSP server here: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0")
    command = [str(SYSTEM_PYTHON), str(CAMERA), "30"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, f"rtsp://127.0.0.1:{int(process.stdout.readline())}/camera"
        process.kill()


@pytest.mark.parametrize("fault", [signal.SIGSTOP, signal.SIGKILL])
def test_a_server_that_freezes_or_dies_is_noticed(
    server: tuple[subprocess.Popen[str], str], fault: signal.Signals
) -> None:
    process, url = server
    source = RtspSource(url, STALL_S)
    assert source.read().shape == (480, 640, 3)
    process.send_signal(fault)
    began = monotonic()
    with pytest.raises(SourceError, match=r"rtsp://127\.0\.0\.1"):
        read_all(source)
    assert monotonic() - began < 10 * STALL_S
    process.kill()
    source.close()
