"""A camera on the board's own connector (CSI): the GStreamer pipeline that this board has for it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import SourceError
from edgeseg.core.process import run_limited
from edgeseg.runtime.sources.options import Size, read_options, split_address

EXAMPLE = "csi://0?size=1280x720&fps=30"
_SIZE = Size(1280, 720)
INSPECTOR, INSPECT_SECONDS = "gst-inspect-1.0", 60.0
"""GStreamer's first answer on a board takes long: it looks at all plugins."""
PIPELINES = {
    "nvarguscamerasrc": "nvarguscamerasrc sensor-id={number} ! video/x-raw(memory:NVMM),{caps} ! nvvidconv",
    "libcamerasrc": "libcamerasrc ! video/x-raw,{caps}",
    "v4l2src": "v4l2src device=/dev/video{number} ! video/x-raw,{caps}",
}
"""Jetson, Raspberry Pi, Coral Dev Board; not verified on hardware."""


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
    options = read_options(text, CsiOptions, EXAMPLE)
    if not re.fullmatch("[0-9]{1,2}", number):
        raise SourceError(f"Expected a camera's number in {text}, got {number!r}.", f"Write for example '{EXAMPLE}'.")
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
