"""The sink behind the page: hands results over and does nothing else on the stream's thread."""

from __future__ import annotations

from collections.abc import Sequence

from edgeseg.core.spec import ClassSpec
from edgeseg.runtime.sinks import Result, Sink, StreamInfo
from edgeseg.runtime.viewer.audience import Audience
from edgeseg.runtime.viewer.handler import Broadcast
from edgeseg.runtime.viewer.hub import Hub
from edgeseg.runtime.viewer.server import HOST, open_server


class WebViewer(Sink):
    """Shows the stream at `url` to browsers on this machine; drawing and sending cost the stream nothing."""

    def __init__(self, info: StreamInfo, classes: Sequence[ClassSpec], port: int = 8765) -> None:
        """Start serving.

        Args:
            info: What is shown beside the picture.
            classes: Names and colours, in the order of the labels.
            port: Where to serve; 0 takes any free port.

        Raises:
            OutputError: The port is in use.
        """
        self._broadcast = Broadcast(info, tuple(classes), Hub(), Audience())
        self._server = open_server(port, self._broadcast)
        self._closed = False
        self.url = f"http://{HOST}:{self._server.server_port}/"

    def publish(self, result: Result) -> None:
        """Make a result the one that is shown."""
        self._broadcast.hub.publish(result)

    def close(self) -> None:
        """End the server; open pages get about a second to hear that the stream has ended."""
        if self._closed:
            return
        self._closed = True
        self._broadcast.hub.end()
        self._broadcast.audience.wait_told()
        self._server.stop()
