"""Convert a .tflite to ONNX, operator by operator, for onnxruntime and TensorRT; without TensorFlow."""
