"""How public and private data sets lie on disk: one file for each layout, found by themselves or by name."""
