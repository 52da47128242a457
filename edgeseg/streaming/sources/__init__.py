"""Where frames come from: one short file per kind of source, chosen from a string."""
