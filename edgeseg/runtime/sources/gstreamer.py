"""Any GStreamer pipeline as a source, through a gst-launch-1.0 of its own: no special OpenCV is needed."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from time import monotonic
from typing import IO, Any

from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.runtime.sources.base import STALL_S, Source
from edgeseg.runtime.sources.pipe import Pipe
from edgeseg.runtime.sources.y4m import Y4mReader

EXAMPLE = "gst://videotestsrc is-live=true ! video/x-raw,width=640,height=480"
_END_S = 2.0


class GstreamerSource(Source):
    """Reads the frames that a pipeline ends in; what turns them into bytes is added to it."""

    live = True

    def __init__(self, pipeline: str, stall_s: float = STALL_S) -> None:
        """Start a pipeline.

        Args:
            pipeline: As one would give it to gst-launch-1.0, without a sink.
            stall_s: How long it may give nothing.
        """
        parts = _split_pipeline(pipeline)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the pipeline runs
        self._reading, writing = os.pipe()
        try:
            self._process = _start(parts, writing, self._said)
        except FileNotFoundError as error:
            self._let_go()
            raise SourceError(
                "Expected the program gst-launch-1.0, got none on this machine.",
                "Install it with: sudo apt-get install gstreamer1.0-tools gstreamer1.0-plugins-good",
            ) from error
        finally:
            os.close(writing)
        self._pipe = Pipe(self._reading, "the GStreamer pipeline", stall_s)
        self._frames = Y4mReader(self._pipe)

    def read(self) -> NDArray[Any] | None:
        """Read the next frame; None when the pipeline has ended as it should."""
        image = self._frames.read()
        self.arrived_at = monotonic()
        if image is None and not self._pipe.interrupted:
            self._check_end()
        return image

    def interrupt(self) -> None:
        """Stop waiting for the pipeline."""
        self._pipe.interrupt()

    def close(self) -> None:
        """End the pipeline and all that it started."""
        _end_group(self._process)
        self._let_go()

    def _check_end(self) -> None:
        try:
            status = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            status = None
        if status != 0:
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip().splitlines()
            reason = next((line for line in said if line.startswith(("ERROR", "WARNING"))), "it said nothing")
            raise SourceError(
                f"Expected frames from the GStreamer pipeline, got its end: {reason.rstrip('.')}.",
                "Try it with gst-launch-1.0 and fakesink at its end.",
            )

    def _let_go(self) -> None:
        os.close(self._reading)
        self._said.close()


def _split_pipeline(pipeline: str) -> list[str]:
    try:
        parts = shlex.split(pipeline)
    except ValueError as error:
        raise SourceError(f"Expected a GStreamer pipeline, got {pipeline!r}: {error}.", f"Try '{EXAMPLE}'.") from error
    if not parts:
        raise SourceError("Expected a GStreamer pipeline after gst://, got none.", f"Try '{EXAMPLE}'.")
    return parts


def _start(pipeline: Sequence[str], writing: int, said: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start gst-launch with a descriptor of its own for frames, since some elements write words to stdout."""
    end = f"! videoconvert ! video/x-raw,format=I420 ! y4menc ! fdsink fd={writing} sync=false".split()
    return subprocess.Popen(
        ["gst-launch-1.0", "-q", *pipeline, *end],
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        pass_fds=(writing,),
        start_new_session=True,
    )


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ask a process group to end, and after a while end it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
            return
