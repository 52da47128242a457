"""Labelled ultrasound images: data folders and their layouts, checks, splits and augmentation."""
