"""edgeseg: train, compress and stream ultrasound segmentation on small boards."""

__version__ = "0.1.0"
