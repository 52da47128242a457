"""Explanation: which pixels speak for a mask, and whether that can be believed."""
