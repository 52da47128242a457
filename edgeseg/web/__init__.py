"""The HTTP server that the live page and the metrics share, and who may ask it."""
