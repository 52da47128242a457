"""Inference on single frames: `Segmenter`, its supervised version for streams, mask options, region detection."""
