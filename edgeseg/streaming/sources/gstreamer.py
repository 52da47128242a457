"""Any GStreamer pipeline as a source, through a gst-launch-1.0 of its own: no special OpenCV is needed."""

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

from edgeseg.core.errors import SourceError
from edgeseg.core.limits import LINE_BYTES
from edgeseg.core.process import run_limited
from edgeseg.core.redact import HIDDEN, redact
from edgeseg.streaming.sources.base import STALL_S, Source
from edgeseg.streaming.sources.options import Size, hide_folders, read_options, split_address
from edgeseg.streaming.sources.pipes import Pipe, Y4mReader

PROGRAM = "gst-launch-1.0"
EXAMPLE = "gst://videotestsrc is-live=true ! video/x-raw,width=640,height=480"
_JOIN_S = 2.0
_REASON_SIGNS = 300
"""How much of GStreamer's reason a message quotes."""
CSI_EXAMPLE = "csi://0?size=1280x720&fps=30"
INSPECTOR, INSPECT_SECONDS = "gst-inspect-1.0", 60.0
"""GStreamer's first answer on a board takes long: it looks at all plugins."""
PIPELINES = {
    "nvarguscamerasrc": "nvarguscamerasrc sensor-id={number} ! video/x-raw(memory:NVMM),{caps} ! nvvidconv",
    "libcamerasrc": "libcamerasrc ! video/x-raw,{caps}",
    "v4l2src": "v4l2src device=/dev/video{number} ! video/x-raw,{caps}",
}
"""Jetson, Raspberry Pi, Coral Dev Board; not verified on hardware."""


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
        self._output = _Output(self._process, _find_secret_remainders(parts))
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
        self._output.close()
        os.close(self._reading)

    def _check_end(self) -> None:
        try:
            status = self._process.wait(_JOIN_S)
        except subprocess.TimeoutExpired:
            status = None
        if status != 0:
            raise SourceError(
                f"Expected frames from the GStreamer pipeline, got its end: {self._output.find_reason()}.",
                "Try it with gst-launch-1.0 and fakesink at its end.",
            )


class _Output:
    """Reads what a program says, however much, and keeps the end of it, where an error stands."""

    def __init__(self, process: subprocess.Popen[bytes], secrets: Sequence[str]) -> None:
        self._process, self._secrets = process, secrets
        self._said = b""
        self._thread = threading.Thread(target=self._listen, name="edgeseg-gstreamer-words", daemon=True)
        self._thread.start()

    def find_reason(self) -> str:
        """Find the line that says why the program ended."""
        self._thread.join(_JOIN_S)
        lines = self._said.decode(errors="replace").splitlines()
        reason = next((line for line in lines if line.startswith(("ERROR", "WARNING"))), "it said nothing")
        for stray in self._secrets:
            reason = reason.replace(f'"{stray}"', HIDDEN)
        return hide_folders(reason)[:_REASON_SIGNS].strip().rstrip(".")

    def close(self) -> None:
        """Let go; a program that outlives its group may go on holding the pipe."""
        self._thread.join(_JOIN_S)

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


def _find_secret_remainders(parts: Sequence[str]) -> list[str]:
    """Find the words behind a secret that was not quoted: GStreamer takes them for elements, and quotes them."""
    secrets, behind_secret = [], False
    for part in parts:
        if part == "!" or "=" in part:
            behind_secret = redact(part) != part
        elif behind_secret:
            secrets.append(part)
    return secrets


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
            process.wait(_JOIN_S)
            return


_SIZE = Size(1280, 720)


@dataclass(frozen=True)
class CsiOptions:
    """What is asked of the camera."""

    size: Size = _SIZE
    fps: float = 30.0


def find_element(name: str) -> bool:
    """Say whether GStreamer has an element here."""
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
        has_element: Tells whether GStreamer has an element.
    """
    number = split_address(text)[0].removeprefix("csi://")
    options = read_options(text, CsiOptions, CSI_EXAMPLE)
    if not re.fullmatch("[0-9]{1,2}", number):
        raise SourceError(
            f"Expected a camera's number in {text}, got {number!r}.", f"Write for example '{CSI_EXAMPLE}'."
        )
    element = next((name for name in PIPELINES if has_element(name)), None)
    if element is None:
        raise SourceError(
            f"Expected GStreamer with one of {', '.join(PIPELINES)} for {text}, got none of them.",
            "Install gstreamer1.0-tools and the board's camera plugins, or name the camera's file: /dev/video0.",
        )
    if number != "0" and "{number}" not in PIPELINES[element]:
        raise SourceError(f"Expected csi://0 with {element}, got {text}.", "Name the camera in a gst:// pipeline.")
    caps = f"width={options.size.width},height={options.size.height},framerate={round(options.fps)}/1"
    return PIPELINES[element].format(number=number, caps=caps)
