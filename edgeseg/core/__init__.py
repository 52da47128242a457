"""What both sides share: the card, files, errors, child processes and figures."""
