"""A bundle for a board: packed, signed, sent and installed."""
