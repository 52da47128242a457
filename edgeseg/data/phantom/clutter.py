"""What belongs to the probe and not to the tissue: contact, time gain, reverberation, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeseg.data.phantom.acoustics import Imaging, PointSpread, detect_power
from edgeseg.data.phantom.geometry import FloatArray, ScanGeometry
from edgeseg.data.phantom.texture import draw_mottle

CONTACT_LOSS_DB = (8.0, 22.0)
HAZE_SHARE = 0.05
RING_SHARE = (0.018, 0.035)
NOISE_STEP = (89, 37)


@dataclass(frozen=True)
class Clutter:
    """Maps on the beam grid that stay with the probe while tissue moves under it.

    Args:
        gain: Factor on echo power: contact of each beam times time gain.
        haze: Power added by reverberation near the probe.
        noise: Power added by the electronics, shifted from frame to frame.
    """

    gain: FloatArray
    haze: FloatArray
    noise: FloatArray

    def noise_of(self, number: int) -> FloatArray:
        """Return the noise of a frame, the same whenever that frame is asked for."""
        shift = (number * NOISE_STEP[0] % self.noise.shape[0], number * NOISE_STEP[1] % self.noise.shape[1])
        return np.asarray(np.roll(self.noise, shift, axis=(0, 1)), dtype=np.float32)


def draw_clutter(rng: np.random.Generator, geometry: ScanGeometry, imaging: Imaging, spread: PointSpread) -> Clutter:
    """Draw the clutter of one examination."""
    samples, beams = geometry.x_mm.shape
    depth = np.linspace(0, 1, samples, dtype=np.float32)[:, None]
    gain_db = _draw_contact(rng, beams)[None, :] - imaging.slope_db * depth**1.5 + _draw_time_gain(rng, depth)
    grain = rng.standard_normal((2, samples, beams, 2), dtype=np.float32) * np.float32(np.sqrt(0.5))
    haze_db = imaging.haze_db + 0.4 * _draw_rings(rng, depth) - 10 * depth / HAZE_SHARE * np.log10(np.e)
    haze = detect_power(grain[0], spread) * _to_power(haze_db)
    rise_db = imaging.noise_db + 10 * depth
    noise = detect_power(grain[1], spread) * _to_power(rise_db)
    return Clutter(_to_power(gain_db), haze.astype(np.float32), noise.astype(np.float32))


def _to_power(level_db: FloatArray) -> FloatArray:
    return np.asarray(10 ** (level_db / 10), dtype=np.float32)


def _draw_contact(rng: np.random.Generator, beams: int) -> FloatArray:
    contact = 1.2 * draw_mottle(rng, (1, beams), (1.0, beams / 10))[0]
    place = np.linspace(0, 1, beams)
    for center in (-0.02, 1.02):
        if rng.random() < 0.35:
            width = rng.uniform(0.05, 0.14)
            contact -= rng.uniform(*CONTACT_LOSS_DB) * np.exp(-(((place - center) / width) ** 2))
    return np.asarray(contact, dtype=np.float32)


def _draw_time_gain(rng: np.random.Generator, depth: FloatArray) -> FloatArray:
    sliders = rng.normal(0, 1.2, 6)
    return np.interp(depth[:, 0], np.linspace(0, 1, 6), sliders)[:, None].astype(np.float32)


def _draw_rings(rng: np.random.Generator, depth: FloatArray) -> FloatArray:
    spacing = rng.uniform(*RING_SHARE)
    return np.asarray(20 * np.cos(np.pi * depth / spacing) ** 8, dtype=np.float32)
