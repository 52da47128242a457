"""What both sides share: the card, the frame, the catalog, files, figures and errors."""
