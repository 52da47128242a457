"""The sink behind the page: hands results over and does nothing else on the stream's thread."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from edgeseg.core.spec import ClassSpec
from edgeseg.runtime.access import THIS_MACHINE, Access
from edgeseg.runtime.localserver import open_server
from edgeseg.runtime.picture import Holder, show_result
from edgeseg.runtime.sinks.base import Result, Sink, StreamInfo
from edgeseg.runtime.sinks.courier import Courier
from edgeseg.runtime.sources.base import Frame, Notice
from edgeseg.runtime.viewer.broadcast import Broadcast
from edgeseg.runtime.viewer.handler import ViewerHandler


class WebViewer(Sink):
    """Shows the stream at `url` to browsers; drawing and sending cost the stream nothing."""

    def __init__(
        self,
        info: StreamInfo,
        classes: Sequence[ClassSpec],
        port: int = 8765,
        hold: bool = True,
        access: Access = THIS_MACHINE,
        recording: Courier | None = None,
    ) -> None:
        """Start serving.

        Args:
            info: What is shown beside the picture.
            classes: Names and colours, in the order of the labels.
            port: Where to serve; 0 takes any free port.
            hold: Whether the newest frame is shown with the mask carried onto it, or the frame that the mask is of.
            access: Where to serve, and what is demanded of clients.
            recording: What the page may switch on and off.

        Raises:
            OutputError: The port is in use.
        """
        self._broadcast = Broadcast(info, tuple(classes), recording)
        self._server = open_server(port, partial(ViewerHandler, self._broadcast), "edgeseg-viewer", access)
        self._holder = Holder(self._broadcast.hub.show, self._broadcast.audience.is_watching) if hold else None
        self._closed = False
        self.url = access.write_url(self._server.server_port)

    def publish(self, result: Result) -> None:
        """Make a result the one that is shown."""
        self._broadcast.hub.publish(result)
        if self._holder is None:
            self._broadcast.hub.show(show_result(result))
        else:
            self._holder.publish(result)

    def see(self, frame: Frame) -> None:
        """Show a frame before its own mask is there."""
        self._broadcast.hub.count_frame(frame)
        if self._holder is not None:
            self._holder.see(frame)

    def notice(self, notice: Notice) -> None:
        """Tell the page what happened to the source."""
        self._broadcast.hub.hear(notice)

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
