"""Ultrasound phantoms with exact masks: data to try everything on without a patient behind it."""

from edgeseg.phantom.geometry import GEOMETRIES
from edgeseg.phantom.scene import LABELS, PhantomClip, PhantomFrame, render_case

__all__ = ["GEOMETRIES", "LABELS", "PhantomClip", "PhantomFrame", "render_case"]
