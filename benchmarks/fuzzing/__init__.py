"""What `fuzz.py` is made of: mutators, inputs of each kind, and processes that are watched while they read them."""
