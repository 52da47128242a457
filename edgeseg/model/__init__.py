"""The network: from a spec to a Keras model, and what it is trained to lower."""
