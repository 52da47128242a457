"""What runs a model file on this machine, one short file each."""
