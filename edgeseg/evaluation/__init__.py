"""How good a mask is: metrics, intervals and pictures; no TensorFlow here."""
