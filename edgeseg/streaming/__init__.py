"""Frames in, masks out, live: sources, the loop, latency, and sinks."""
