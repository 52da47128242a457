"""Masks for files: what to read, what to write about each, and which frames are worth labelling."""
