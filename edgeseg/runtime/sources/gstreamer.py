"""Any GStreamer pipeline as a source, through a gst-launch-1.0 of its own: no special OpenCV is needed."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Sequence
from time import monotonic
from typing import Any

from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.core.limits import LINE_BYTES
from edgeseg.core.redact import HIDDEN, redact
from edgeseg.runtime.sources.base import STALL_S, Source
from edgeseg.runtime.sources.options import hide_folders
from edgeseg.runtime.sources.pipe import Pipe
from edgeseg.runtime.sources.y4m import Y4mReader

PROGRAM = "gst-launch-1.0"
EXAMPLE = "gst://videotestsrc is-live=true ! video/x-raw,width=640,height=480"
_END_S = 2.0
_REASON_SIGNS = 300
"""How much of GStreamer's reason a message quotes."""


class GstreamerSource(Source):
    """Reads the frames that a pipeline ends in; what turns them into bytes is added to it."""

    live = True

    def __init__(self, pipeline: str, stall_s: float = STALL_S) -> None:
        """Start a pipeline.

        Args:
            pipeline: As one would give it to gst-launch-1.0, without a sink.
            stall_s: How long the next whole frame may take.
        """
        parts = _split_pipeline(pipeline)
        self._reading, writing = os.pipe()
        try:
            self._process = _start(parts, writing)
        except (OSError, ValueError) as error:
            os.close(self._reading)
            raise _not_started(error) from error
        finally:
            os.close(writing)
        self._words = _Words(self._process, _find_strays(parts))
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
        self._words.close()
        os.close(self._reading)

    def _check_end(self) -> None:
        try:
            status = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            status = None
        if status != 0:
            raise SourceError(
                f"Expected frames from the GStreamer pipeline, got its end: {self._words.find_reason()}.",
                "Try it with gst-launch-1.0 and fakesink at its end.",
            )


class _Words:
    """Reads what a program says, however much, and keeps the end of it, where an error stands."""

    def __init__(self, process: subprocess.Popen[bytes], strays: Sequence[str]) -> None:
        self._process, self._strays = process, strays
        self._said = b""
        self._thread = threading.Thread(target=self._listen, name="edgeseg-gstreamer-words", daemon=True)
        self._thread.start()

    def find_reason(self) -> str:
        """Find the line that says why the program ended."""
        self._thread.join(_END_S)
        lines = self._said.decode(errors="replace").splitlines()
        reason = next((line for line in lines if line.startswith(("ERROR", "WARNING"))), "it said nothing")
        for stray in self._strays:
            reason = reason.replace(f'"{stray}"', HIDDEN)
        return hide_folders(reason)[:_REASON_SIGNS].strip().rstrip(".")

    def close(self) -> None:
        """Let go; a program that outlives its group may go on holding the pipe."""
        self._thread.join(_END_S)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            while words := os.read(stream.fileno(), LINE_BYTES):
                self._said = (self._said + words)[-LINE_BYTES:]


def _split_pipeline(pipeline: str) -> list[str]:
    try:
        parts = shlex.split(pipeline)
    except ValueError as error:
        raise SourceError(
            f"Expected a GStreamer pipeline, got {hide_folders(pipeline)!r}: {error}.", f"Try '{EXAMPLE}'."
        ) from error
    if not parts:
        raise SourceError("Expected a GStreamer pipeline after gst://, got none.", f"Try '{EXAMPLE}'.")
    return parts


def _find_strays(parts: Sequence[str]) -> list[str]:
    """Find the words behind a secret that was not quoted: GStreamer takes them for elements, and quotes them."""
    strays, behind_secret = [], False
    for part in parts:
        if part == "!" or "=" in part:
            behind_secret = redact(part) != part
        elif behind_secret:
            strays.append(part)
    return strays


def _start(pipeline: Sequence[str], writing: int) -> subprocess.Popen[bytes]:
    """Start gst-launch with a descriptor of its own for frames, since some elements write words to stdout."""
    end = f"! videoconvert ! video/x-raw,format=I420 ! y4menc ! fdsink fd={writing} sync=false".split()
    return subprocess.Popen(
        [PROGRAM, "-q", *pipeline, *end],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(writing,),
        start_new_session=True,
    )


def _not_started(error: OSError | ValueError) -> SourceError:
    if isinstance(error, FileNotFoundError):
        return SourceError(
            f"Expected the program {PROGRAM}, got none on this machine.",
            "Install it with: sudo apt-get install gstreamer1.0-tools gstreamer1.0-plugins-good",
        )
    # what Python says of a NUL byte or of too long a command quotes nothing of it
    reason = error.strerror if isinstance(error, OSError) else error
    return SourceError(f"Expected a pipeline that {PROGRAM} can be started with, got: {reason}.", f"Try '{EXAMPLE}'.")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ask a process group to end, and after a while end it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
            return
