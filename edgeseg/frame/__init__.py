"""Frames: image files, preprocessing into the input tensor, postprocessing of the output tensor into a mask."""
