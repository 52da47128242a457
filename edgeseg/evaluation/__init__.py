"""Evaluation of masks: metrics, confidence intervals and overlay pictures, without TensorFlow."""
