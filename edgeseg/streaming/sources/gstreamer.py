"""GStreamer pipelines (gst://) and CSI cameras (csi://) through a gst-launch-1.0 process.

OpenCV's wheels are built without GStreamer; a child process works with any OpenCV, and a plugin that crashes or hangs
does not take the stream with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from numpy.typing import NDArray

from edgeseg.core.errors import SourceError, SourceTextError
from edgeseg.core.limits import LINE_BYTES
from edgeseg.core.process import run_limited
from edgeseg.core.redact import HIDDEN, redact
from edgeseg.streaming.sources.address import Size, hide_folders, read_options, split_address
from edgeseg.streaming.sources.base import STALL_S, Source
from edgeseg.streaming.sources.pipes import Pipe, Y4mReader

PROGRAM = "gst-launch-1.0"
EXAMPLE = "gst://videotestsrc is-live=true ! video/x-raw,width=640,height=480"
_JOIN_S = 2.0
_MAX_REASON_CHARS = 300
CSI_EXAMPLE = "csi://0?size=1280x720&fps=30"
# The first call on a board is slow: it builds the registry of all plugins.
INSPECTOR, INSPECT_SECONDS = "gst-inspect-1.0", 60.0
# Jetson, Raspberry Pi, Coral Dev Board, in this order; not verified on hardware.
PIPELINES = {
    "nvarguscamerasrc": "nvarguscamerasrc sensor-id={number} ! video/x-raw(memory:NVMM),{caps} ! nvvidconv",
    "libcamerasrc": "libcamerasrc ! video/x-raw,{caps}",
    "v4l2src": "v4l2src device=/dev/video{number} ! video/x-raw,{caps}",
}

_SIZE = Size(1280, 720)


class GstreamerSource(Source):
    """Reads the frames of a pipeline; elements that write them to a pipe as YUV4MPEG2 are appended to it."""

    live = True

    def __init__(self, pipeline: str, stall_s: float = STALL_S) -> None:
        """Start a pipeline.

        Args:
            pipeline: As for gst-launch-1.0, without a sink.
            stall_s: Time limit for the next complete frame.
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
        self._output = _Output(self._process, _find_secret_remainders(parts))
        self._pipe = Pipe(self._reading, "the GStreamer pipeline", stall_s)
        self._frames = Y4mReader(self._pipe)

    def read(self) -> NDArray[Any] | None:
        """Read the next frame; None when the pipeline has ended without an error."""
        image = self._frames.read()
        self.arrived_at = monotonic()
        if image is None and not self._pipe.interrupted:
            self._check_end()
        return image

    def interrupt(self) -> None:
        """Stop waiting for the pipeline."""
        self._pipe.interrupt()

    def close(self) -> None:
        """End the pipeline and its child processes."""
        _end_group(self._process)
        self._output.close()
        os.close(self._reading)

    def _check_end(self) -> None:
        try:
            # the frames' pipe closes a moment before the process ends
            status = self._process.wait(_JOIN_S)
        except subprocess.TimeoutExpired:
            status = None
        if status != 0:
            raise SourceError(
                f"Expected frames from the GStreamer pipeline, got its end: {self._output.find_reason()}.",
                "Try it with gst-launch-1.0 and fakesink at its end.",
            )


class _Output:
    """Drains a process's output on a thread, so that it cannot block, and keeps the end of it for the error."""

    def __init__(self, process: subprocess.Popen[bytes], secrets: Sequence[str]) -> None:
        self._process, self._secrets = process, secrets
        self._tail = b""
        self._thread = threading.Thread(target=self._listen, name="edgeseg-gstreamer-words", daemon=True)
        self._thread.start()

    def find_reason(self) -> str:
        """Find the line that explains why the process ended."""
        self._thread.join(_JOIN_S)
        lines = self._tail.decode(errors="replace").splitlines()
        reason = next((line for line in lines if line.startswith(("ERROR", "WARNING"))), "it printed no reason")
        for stray in self._secrets:
            reason = reason.replace(f'"{stray}"', HIDDEN)
        return hide_folders(reason)[:_MAX_REASON_CHARS].strip().rstrip(".")

    def close(self) -> None:
        """Wait for the end of the output, not for ever: a process that left its group may hold the pipe open."""
        self._thread.join(_JOIN_S)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            while chunk := os.read(stream.fileno(), LINE_BYTES):
                self._tail = (self._tail + chunk)[-LINE_BYTES:]


def _split_pipeline(pipeline: str) -> list[str]:
    try:
        parts = shlex.split(pipeline)
    except ValueError as error:
        raise SourceTextError(
            f"Expected a GStreamer pipeline, got {hide_folders(pipeline)!r}: {error}.", f"Try '{EXAMPLE}'."
        ) from error
    if not parts:
        raise SourceTextError("Expected a GStreamer pipeline after gst://, got none.", f"Try '{EXAMPLE}'.")
    return parts


def _find_secret_remainders(parts: Sequence[str]) -> list[str]:
    """Find the rest of secrets with spaces that were not quoted: GStreamer repeats it as the name of an element."""
    secrets, behind_secret = [], False
    for part in parts:
        if part == "!" or "=" in part:
            behind_secret = redact(part) != part
        elif behind_secret:
            secrets.append(part)
    return secrets


def _start(pipeline: Sequence[str], writing: int) -> subprocess.Popen[bytes]:
    """Start gst-launch with a separate descriptor for frames, since some elements print to stdout."""
    # sync=false: the source's clock sets the pace, fdsink must not wait for timestamps again
    end = f"! videoconvert ! video/x-raw,format=I420 ! y4menc ! fdsink fd={writing} sync=false".split()
    return subprocess.Popen(
        [PROGRAM, "-q", *pipeline, *end],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(writing,),
        # its own process group: Ctrl-C must reach edgeseg alone, and closing must reach all children
        start_new_session=True,
    )


def _not_started(error: OSError | ValueError) -> SourceError:
    if isinstance(error, FileNotFoundError):
        return SourceTextError(
            f"Expected the program {PROGRAM}, got none on this machine.",
            "Install it with: sudo apt-get install gstreamer1.0-tools gstreamer1.0-plugins-good",
        )
    # these messages do not quote the pipeline, which may hold a password
    reason = error.strerror if isinstance(error, OSError) else error
    return SourceError(f"Expected a pipeline that {PROGRAM} can be started with, got: {reason}.", f"Try '{EXAMPLE}'.")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process group, and kill it when it does not end in time."""
    # SIGTERM first, so that the pipeline can close its camera in order
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_JOIN_S)
            return


@dataclass(frozen=True)
class CsiOptions:
    """What is requested of the camera."""

    size: Size = _SIZE
    fps: float = 30.0


def find_element(name: str) -> bool:
    """Tell whether this machine's GStreamer has an element."""
    if shutil.which(INSPECTOR) is None:
        return False
    try:
        return run_limited([INSPECTOR, "--exists", name], Path.cwd(), INSPECT_SECONDS)[0] == 0
    except subprocess.TimeoutExpired as error:
        raise SourceError(
            f"Expected {INSPECTOR} to answer within {INSPECT_SECONDS:g} s, got no answer.",
            f"See what holds it: {INSPECTOR} --exists {name}",
        ) from error


def build_pipeline(text: str, has_element: Callable[[str], bool] = find_element) -> str:
    """Build the pipeline of a CSI camera.

    Args:
        text: csi:// with the camera's number, as in `csi://0?size=1280x720`.
        has_element: `find_element`, or a test's own.
    """
    number = split_address(text)[0].removeprefix("csi://")
    options = read_options(text, CsiOptions, CSI_EXAMPLE)
    if not re.fullmatch("[0-9]{1,2}", number):
        raise SourceTextError(
            f"Expected a camera's number in {text}, got {number!r}.", f"Write for example '{CSI_EXAMPLE}'."
        )
    element = next((name for name in PIPELINES if has_element(name)), None)
    if element is None:
        raise SourceTextError(
            f"Expected GStreamer with one of {', '.join(PIPELINES)} for {text}, got none of them.",
            "Install gstreamer1.0-tools and the board's camera plugins, or name the camera's file: /dev/video0.",
        )
    if number != "0" and "{number}" not in PIPELINES[element]:
        raise SourceTextError(f"Expected csi://0 with {element}, got {text}.", "Name the camera in a gst:// pipeline.")
    caps = f"width={options.size.width},height={options.size.height},framerate={round(options.fps)}/1"
    return PIPELINES[element].format(number=number, caps=caps)
