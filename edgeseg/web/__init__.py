"""The HTTP server that the live page and the Prometheus metrics share, and its access control."""
