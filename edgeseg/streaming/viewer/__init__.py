"""The live page: a sink that serves the stream to browsers, with mask, figures and the budget's verdict."""

from edgeseg.streaming.viewer.viewer import WebViewer

__all__ = ["WebViewer"]
