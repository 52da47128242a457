"""The graph of a .tflite: operators, costs, and a linter for targets."""
