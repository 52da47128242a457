"""Registration: which pixel of one frame belongs to which of another, and how well that fits."""
