"""browser://: the camera of the device that shows the live page; the page uploads JPEG images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edgeseg.frame.images import decode_jpeg, measure_jpeg
from edgeseg.streaming.sources.address import Size, read_options
from edgeseg.streaming.sources.base import STALL_S, Health, JpegPacket, LatestSlot, Notice, OutageCounter, Source

EXAMPLE = "browser://?size=640x480&fps=30"
# Checked before decoding: a JPEG of a few bytes can announce an image that fills the memory.
LONGEST_SIDE = 4096
FASTEST_FPS = 60.0

_NAME = "The browser's camera"
_SIZE = Size(640, 480)


@dataclass(frozen=True)
class BrowserOptions:
    """What the page requests of the camera."""

    size: Size = _SIZE
    fps: float = 30.0

    def __post_init__(self) -> None:
        if max(self.size.width, self.size.height) > LONGEST_SIDE:
            raise ValueError(f"expected a size up to {LONGEST_SIDE}x{LONGEST_SIDE}, got {self.size}")
        if self.fps > FASTEST_FPS:
            raise ValueError(f"expected fps up to {FASTEST_FPS:g}, got {self.fps:g}")


class BrowserSource(Source):
    """Takes the newest uploaded image; it waits without limit, since the page may be closed and opened again."""

    live = reconnects = True

    def __init__(self, text: str, stall_s: float = STALL_S) -> None:
        """Create the slot for images.

        Args:
            text: browser:// with optional size and fps, as in `browser://?size=1280x720`.
            stall_s: After so long without an image the camera counts as lost.
        """
        options = read_options(text, BrowserOptions, EXAMPLE)
        self._slot = LatestSlot(options.size, options.fps)
        self.latest_slot = self._slot
        self.fps = options.fps
        self._stall_s = stall_s
        self._outages, self._corrupt = OutageCounter(), 0
        self._seen = False

    def read(self) -> NDArray[Any] | None:
        """Wait for the next image that can be decoded; None after `interrupt`."""
        while (packet := self._wait()) is not None:
            self.arrived_at = packet.arrived_at
            image = _decode(packet.jpeg)
            self._corrupt += image is None
            self._update_health()
            if image is not None:
                return image
        return None

    def interrupt(self) -> None:
        """Stop waiting."""
        self._slot.close()

    def close(self) -> None:
        """Take no more images."""
        self._slot.close()
        self._outages.end(_NAME)
        self._update_health()

    def _wait(self) -> JpegPacket | None:
        while (packet := self._slot.take(self._stall_s)) is None:
            if self._slot.closed:
                return None
            self._lose()
        self._seen = True
        self._publish(self._outages.end(_NAME))
        return packet

    def _lose(self) -> None:
        if self._seen:
            self._publish(self._outages.begin(f"Expected pictures from the browser, got none for {self._stall_s:g} s."))

    def _publish(self, notice: Notice | None) -> None:
        self._update_health()
        if notice is not None:
            self.on_notice(notice)

    def _update_health(self) -> None:
        self.health = Health(
            self._outages.interruptions,
            round(self._outages.seconds, 3),
            corrupt=self._corrupt,
            skipped=self._slot.replaced,
        )


def _decode(jpeg: bytes) -> NDArray[Any] | None:
    """Decode an image that is not too large."""
    size = measure_jpeg(jpeg)
    return decode_jpeg(jpeg) if size is not None and max(size) <= LONGEST_SIDE else None
