"""The U-Net: its spec, the Keras model and the losses."""
