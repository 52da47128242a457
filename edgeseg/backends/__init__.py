"""Backends that run a model file: one short file each, their selection, trials and parity."""
