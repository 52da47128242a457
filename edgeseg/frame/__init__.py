"""The one definition of a frame: from pixels to the input tensor, and from the output tensor to a mask."""
