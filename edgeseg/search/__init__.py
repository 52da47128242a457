"""Two searches on one mechanism: for the network to train, and for the recipe that makes the file to deploy."""
