"""A page in the browser that shows the stream live: picture, mask, and whether the budget is held."""

from edgeseg.runtime.viewer.viewer import WebViewer

__all__ = ["WebViewer"]
