"""Checks of a machine: is it ready to run models, and which command mends what is not."""
