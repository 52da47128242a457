"""From a Keras model to a .tflite file, and what stands inside such a file."""
