"""Sources of frames: one module per kind, chosen by `open_source` from a string."""
