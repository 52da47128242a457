"""Converters: Keras to TFLite, and TFLite to ONNX or for the Edge TPU."""
