"""Search for the file to deploy: pruning and precision of one run, and the front of Dice, time and size."""
