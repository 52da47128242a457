"""The sink behind the page: hands results over and does nothing else on the stream's thread."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from edgeseg.core.spec import ClassSpec
from edgeseg.runtime.localserver import HOST, open_server
from edgeseg.runtime.picture import Holder, Picture
from edgeseg.runtime.sinks.base import Result, Sink, StreamInfo
from edgeseg.runtime.sources.base import Frame
from edgeseg.runtime.viewer.audience import Audience
from edgeseg.runtime.viewer.handler import Broadcast, ViewerHandler
from edgeseg.runtime.viewer.hub import Hub


class WebViewer(Sink):
    """Shows the stream at `url` to browsers on this machine; drawing and sending cost the stream nothing."""

    def __init__(self, info: StreamInfo, classes: Sequence[ClassSpec], port: int = 8765, hold: bool = True) -> None:
        """Start serving.

        Args:
            info: What is shown beside the picture.
            classes: Names and colours, in the order of the labels.
            port: Where to serve; 0 takes any free port.
            hold: Whether the newest frame is shown with the mask carried onto it, or the frame that the mask is of.

        Raises:
            OutputError: The port is in use.
        """
        self._broadcast = Broadcast(info, tuple(classes), Hub(), Audience())
        self._server = open_server(port, partial(ViewerHandler, self._broadcast), "edgeseg-viewer")
        self._holder = Holder(self._broadcast.hub.show, self._broadcast.audience.is_watching) if hold else None
        self._closed = False
        self.url = f"http://{HOST}:{self._server.server_port}/"

    def publish(self, result: Result) -> None:
        """Make a result the one that is shown."""
        self._broadcast.hub.publish(result)
        if self._holder is None:
            self._broadcast.hub.show(Picture(result.frame.image, result.segmentation.labels))
        else:
            self._holder.publish(result)

    def see(self, frame: Frame) -> None:
        """Show a frame before its own mask is there."""
        if self._holder is not None:
            self._holder.see(frame)

    def close(self) -> None:
        """End the server; open pages get about a second to hear that the stream has ended."""
        if self._closed:
            return
        self._closed = True
        if self._holder is not None:
            self._holder.close()
        self._broadcast.hub.end()
        self._broadcast.audience.wait_told()
        self._server.stop()
