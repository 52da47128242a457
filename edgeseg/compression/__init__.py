"""Compression: pruning, sparsification, distillation, quantisation, and the gate that the result must pass."""
