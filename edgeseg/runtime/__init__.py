"""The live side: frames in, masks out, latency told."""
