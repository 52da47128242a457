"""The base of workstation and device: card, model file, errors, limits, files, child processes and statistics."""
