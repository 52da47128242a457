"""Is this machine ready: every check, by subject."""
