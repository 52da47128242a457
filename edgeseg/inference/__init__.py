"""A model file at work on single frames: segmentation, supervision of the backend, masks and regions."""
