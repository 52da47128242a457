"""Synthetic ultrasound phantoms with exact masks: data to try everything without a patient's images."""

from edgeseg.phantom.geometry import GEOMETRIES
from edgeseg.phantom.scene import LABELS, PhantomClip, PhantomFrame, render_case

__all__ = ["GEOMETRIES", "LABELS", "PhantomClip", "PhantomFrame", "render_case"]
