"""Search for the network to train: many short trainings, and the front between accuracy and work."""
