"""A page in the browser that shows the stream live: picture, mask, and whether the budget is held."""

from edgeseg.streaming.viewer.viewer import WebViewer

__all__ = ["WebViewer"]
