"""`open_source`: choose and open the source that a text names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from edgeseg.core.errors import SourceError, UnknownNameError
from edgeseg.inference.masks import check_pixel_size
from edgeseg.streaming.options import DEFAULT_CAPTURE_OPTIONS, CaptureOptions, LiveSourceError
from edgeseg.streaming.sources.address import show_source, split_address
from edgeseg.streaming.sources.base import Source
from edgeseg.streaming.sources.browser import BrowserSource
from edgeseg.streaming.sources.camera import CameraSource, RtspSource
from edgeseg.streaming.sources.files import (
    VIDEO_SUFFIXES,
    DicomSource,
    ImagesSource,
    VideoSource,
    is_dicom,
    is_image,
    is_pattern,
)
from edgeseg.streaming.sources.gstreamer import GstreamerSource, build_pipeline
from edgeseg.streaming.sources.mjpeg import MjpegSource
from edgeseg.streaming.sources.phantom import PhantomSource
from edgeseg.streaming.sources.pipes import RawSource
from edgeseg.streaming.sources.reconnect import LoopedSource, ReconnectingSource

Opener = Callable[[], Source]
# What these open can be unreachable now and be there later.
_LIVE = ("csi://", "gst://", "rtsp://", "http://", "/dev/")
KINDS = (
    "phantom://",
    "0 (a camera's index)",
    "/dev/video0",
    "csi://0",
    "gst://PIPELINE",
    "rtsp://HOST/PATH",
    "http://HOST/PATH (Motion JPEG)",
    "FILE.mp4",
    "FILE.dcm",
    "FOLDER of images",
    "IMAGE.png",
    "FOLDER/*.png",
    "- (raw frames on standard input)",
    "browser:// (the camera of the device that shows the page)",
)


def open_source(
    text: str,
    colour: bool = False,
    options: CaptureOptions = DEFAULT_CAPTURE_OPTIONS,
    among_others: bool = False,
    waits: bool = False,
) -> Source:
    """Open a source; a live one reconnects when it is lost, a recorded one starts again with `options.loop`.

    Args:
        text: One of `KINDS`.
        colour: Whether the model's input is colour.
        options: How frames will be captured.
        among_others: Whether it is one of several sources, of which rate and loop concern the recorded ones alone.
        waits: Whether a live source that cannot be opened now is looked for while it is read.

    Raises:
        LiveSourceError: The options are for recorded sources only.
    """
    opener = _find_opener(text, colour)
    source = ReconnectingSource(opener) if waits and _is_live(text) else opener()
    try:
        options.check_source(source, among_others)
    except LiveSourceError:
        source.close()
        raise
    if source.live:
        # a page's camera and standard input recover by themselves
        return source if source.reconnects else ReconnectingSource(opener, source)
    return LoopedSource(opener, source) if options.loop else source


def open_among_others(
    text: str, colour: bool, options: CaptureOptions, mm_per_px: float | None, waits: bool = False
) -> Source:
    """Open one of several sources; every refusal is an error of this source, since the others go on.

    Args:
        text: One of `KINDS`.
        colour: Whether the model's input is colour.
        options: How frames will be captured.
        mm_per_px: The pixel size that the user named, which goes before that of the source.
        waits: Whether a live source that cannot be opened now is looked for while it is read.
    """
    try:
        source = open_source(text, colour, options, among_others=True, waits=waits)
    except LiveSourceError as error:
        raise SourceError(f"{show_source(text)} is live, and --every-frame is for recorded sources.") from error
    if mm_per_px is None:
        try:
            find_pixel_size(source, show_source(text))
        except SourceError:
            source.close()
            raise
    return source


def find_pixel_size(source: Source, name: str) -> float | None:
    """Return the pixel size that the source knows, if any; an impossible one is refused."""
    if source.mm_per_px is not None:
        try:
            check_pixel_size(source.mm_per_px)
        except ValueError as error:
            raise SourceError(
                f"{name} names an impossible pixel size: {error}.", "Set the size with --mm-per-px."
            ) from error
    return source.mm_per_px


def check_known(text: str) -> None:
    """Refuse a text that names no kind of source, without opening anything.

    Raises:
        EdgesegError: It names none.
    """
    _find_opener(text, colour=False)


def is_browser(text: str) -> bool:
    """Say whether a source is the camera of the device that shows the page."""
    return text.lower().startswith("browser://")


def _is_live(text: str) -> bool:
    """Say whether a source is a camera or a stream of a network or pipeline, without opening it."""
    text = _lower_scheme(text)
    return _find_stream(text, colour=False) is not None and (text.startswith(_LIVE) or text[0].isdigit())


def _lower_scheme(text: str) -> str:
    # schemes ignore case (RFC 3986, 3.1)
    return re.sub("^[A-Za-z]+://", lambda scheme: scheme[0].lower(), text)


def _find_opener(text: str, colour: bool) -> Opener:
    text = _lower_scheme(text)
    opener = _find_stream(text, colour) or _find_recording(text, colour)
    if opener is None:
        raise UnknownNameError("source", show_source(text) if "://" in text else text, KINDS)
    return opener


def _find_stream(text: str, colour: bool) -> Opener | None:
    """Find a source that is no file."""
    address = split_address(text)[0]
    openers: dict[str, Opener] = {
        "phantom://": lambda: PhantomSource(text, colour),
        "csi://": lambda: GstreamerSource(build_pipeline(text)),
        "gst://": lambda: GstreamerSource(text.removeprefix("gst://")),
        "rtsp://": lambda: RtspSource(text),
        "http://": lambda: MjpegSource(text),
        "browser://": lambda: BrowserSource(text),
        "/dev/": lambda: CameraSource(text),
    }
    # such as a video in /dev/shm
    if text.startswith("/dev/") and _is_recording(Path(address)):
        return None
    if re.fullmatch("[0-9]{1,4}", address):
        return lambda: CameraSource(text)
    if address == "-":
        return lambda: RawSource(text)
    return next((opener for start, opener in openers.items() if text.startswith(start)), None)


def _find_recording(text: str, colour: bool) -> Opener | None:
    if not text or "://" in text:
        return None
    path = Path(text)
    try:
        path.exists()
    except (OSError, ValueError) as error:  # too long a name, a NUL byte, a folder that may not be looked into
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"Expected a file at {path}, got none that can be: {reason}.", "Check the path.") from error
    # a file of exactly this name goes before a pattern: names may hold brackets
    if path.is_dir() or is_image(path) or (is_pattern(text) and not path.exists()):
        return lambda: ImagesSource(text, colour)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return lambda: VideoSource(path)
    return (lambda: DicomSource(path, colour)) if is_dicom(path) else None


def _is_recording(path: Path) -> bool:
    try:
        return path.is_file() or path.is_dir()
    except (OSError, ValueError):
        return False
