"""From a run to smaller files that are proven to draw the same masks."""
