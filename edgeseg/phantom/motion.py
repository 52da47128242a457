"""Motion of tissue in a cine: one displacement field moves speckle and mask alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeseg.phantom.geometry import FloatArray, ScanGeometry
from edgeseg.phantom.tissue import TissueGrid

# Periods in seconds; a slow slide of the probe has two, so that it does not repeat.
BREATH_SECONDS = (3.0, 5.0)
DRIFT_SECONDS = (7.0, 13.0)
HEART_BEATS_PER_SECOND = (0.9, 1.5)
# Low and high amplitude of each motion, as a share of the image's depth.
SLIDE_SHARE = (0.012, 0.03)
BREATH_SHARE = (0.01, 0.03)
SHEAR_SHARE = (0.0, 0.02)
PULSE_SHARE = (0.003, 0.008)
# Depth within which the skin sticks to the probe, and reach of a vessel's pulse, as shares of the image's depth.
GRIP_SHARE = 0.12
PULSE_REACH_SHARE = 0.12


@dataclass(frozen=True)
class Motion:
    """Amounts of slide, breathing, shear and pulse over time.

    Args:
        amounts_mm: Amplitude of each.
        breath_s: Period of breathing.
        drift_s: Two periods of the slow slide of the probe.
        heart_hz: Heart rate.
        phases: One phase for each of the four and one for the second drift period.
    """

    amounts_mm: tuple[float, float, float, float]
    breath_s: float
    drift_s: tuple[float, float]
    heart_hz: float
    phases: tuple[float, float, float, float, float]

    def weights(self, seconds: float) -> FloatArray:
        """Return the displacement of each kind of motion at a time, in millimetres."""
        turn = 2 * math.pi * seconds
        slide = 0.6 * math.sin(turn / self.drift_s[0] + self.phases[0]) + 0.4 * math.sin(
            turn / self.drift_s[1] + self.phases[4]
        )
        breath = math.sin(turn / self.breath_s + self.phases[1])
        shear = math.sin(turn / self.breath_s + self.phases[2])
        # a smooth pulse of von Mises shape: systole is shorter than diastole
        beat = math.exp(2 * (math.cos(turn * self.heart_hz + self.phases[3]) - 1))
        return np.asarray(self.amounts_mm, np.float32) * np.array([slide, breath, shear, beat], np.float32)


def draw_motion(rng: np.random.Generator, depth_mm: float) -> Motion:
    """Draw a calm motion for an image of this depth."""
    shares = (SLIDE_SHARE, BREATH_SHARE, SHEAR_SHARE, PULSE_SHARE)
    slide, breath, shear, pulse = (float(depth_mm * rng.uniform(*share)) for share in shares)
    phases = [float(phase) for phase in rng.uniform(0, 2 * math.pi, 5)]
    return Motion(
        amounts_mm=(slide, breath, shear, pulse),
        breath_s=float(rng.uniform(*BREATH_SECONDS)),
        drift_s=(float(rng.uniform(*DRIFT_SECONDS)), float(rng.uniform(*DRIFT_SECONDS))),
        heart_hz=float(rng.uniform(*HEART_BEATS_PER_SECOND)),
        phases=(phases[0], phases[1], phases[2], phases[3], phases[4]),
    )


@dataclass(frozen=True)
class Displacement:
    """The position on the tissue raster under each beam sample while the tissue moves.

    Args:
        rest: Raster column and row of each beam sample at rest (2, samples, beams).
        fields: The same for one millimetre of each kind of motion (4, 2, samples, beams).
    """

    rest: FloatArray
    fields: FloatArray

    def look(self, weights: FloatArray) -> FloatArray:
        """Return the raster column and row under each beam sample."""
        looked = self.rest.copy()
        for weight, field in zip(weights, self.fields, strict=True):
            looked -= weight * field
        return looked


def build_displacement(geometry: ScanGeometry, grid: TissueGrid, pulse_center_mm: tuple[float, float]) -> Displacement:
    """Build the four displacement fields; the skin sticks to the probe, so deeper tissue moves more."""
    x, z = geometry.x_mm, geometry.z_mm
    depth = geometry.probe_depth(x, z)
    grip = 1 - np.exp(-np.maximum(depth, 0) / (GRIP_SHARE * geometry.depth_mm))
    still = np.zeros_like(x)
    across, along = x - pulse_center_mm[0], z - pulse_center_mm[1]
    away = np.hypot(across, along) / (PULSE_REACH_SHARE * geometry.depth_mm)
    swell = grip * np.exp(1 - away) / (PULSE_REACH_SHARE * geometry.depth_mm)
    pairs = (
        (still + 1, still),
        (still, grip),
        (depth / geometry.depth_mm, still),
        (across * swell, along * swell),
    )
    fields = [np.stack(pair) / grid.pitch_mm for pair in pairs]
    return Displacement(grid.to_index(x, z), np.asarray(fields, dtype=np.float32))
