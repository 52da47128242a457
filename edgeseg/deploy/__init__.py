"""Is this machine ready: the doctor."""
