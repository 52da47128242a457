"""Labelled ultrasound: layouts on disk, splits and the phantom that stands in for patients."""
