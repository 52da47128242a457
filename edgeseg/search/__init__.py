"""Two searches: for the network to train, and for the file to deploy."""
