"""From scatterers along beams to grey levels: point spread, attenuation, time gain, log compression."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.data.phantom.geometry import FloatArray, ScanGeometry

BAND_SAMPLES = 16
NARROWEST_SIGMA = 0.6
WIDEST_SIGMA = 9.0
DB_PER_NEPER_POWER = 10 / math.log(10)


@dataclass(frozen=True)
class PointSpread:
    """The blur of one reflector: a fixed pulse along the beam, a width across that grows with depth.

    Args:
        axial: Kernel along the beam, in samples.
        lateral: One kernel across the beams for each band of BAND_SAMPLES samples.
    """

    axial: FloatArray
    lateral: tuple[FloatArray, ...]


@dataclass(frozen=True)
class Imaging:
    """The settings of the scanner.

    Args:
        axial_mm: Deviation of the pulse.
        lateral_mm: Deviation of the beam at its focus.
        focus_mm: Depth of the focus.
        spread_mm: Distance from the focus at which the beam is 1.4 times as wide.
        range_db: Dynamic range of the display.
        level: Grey level (0 to 1) of tissue at 0 dB.
        slope_db: Gain lost from the probe to the bottom of the image.
        haze_db: Level of reverberation at the probe face.
        noise_db: Level of electronic noise.
        compounding: Deviation, in samples, of the smoothing of echo power.
    """

    axial_mm: float
    lateral_mm: float
    focus_mm: float
    spread_mm: float
    range_db: float
    level: float
    slope_db: float
    haze_db: float
    noise_db: float
    compounding: float


def draw_imaging(rng: np.random.Generator, geometry: ScanGeometry) -> Imaging:
    """Draw scanner settings that suit a probe."""
    depth = geometry.depth_mm
    fan = geometry.name != "linear"
    return Imaging(
        axial_mm=depth * rng.uniform(0.002, 0.0032),
        lateral_mm=depth * (rng.uniform(0.005, 0.0075) if fan else rng.uniform(0.0035, 0.0055)),
        focus_mm=depth * rng.uniform(0.2, 0.4),
        spread_mm=depth * rng.uniform(0.3, 0.5),
        range_db=rng.uniform(50.0, 62.0),
        level=rng.uniform(0.44, 0.57),
        slope_db=rng.uniform(0.0, 15.0),
        haze_db=rng.uniform(-20.0, -8.0),
        noise_db=rng.uniform(-42.0, -34.0),
        compounding=rng.uniform(0.6, 1.6),
    )


def gaussian_kernel(sigma: float) -> FloatArray:
    """Return a Gaussian kernel of unit energy, which keeps the power of white scatterers."""
    sigma = min(max(sigma, NARROWEST_SIGMA), WIDEST_SIGMA)
    offset = np.arange(-math.ceil(3 * sigma), math.ceil(3 * sigma) + 1)
    kernel = np.exp(-(offset**2) / (2 * sigma**2))
    return np.asarray(kernel / np.sqrt(np.sum(kernel**2)), dtype=np.float32)


def build_spread(geometry: ScanGeometry, imaging: Imaging) -> PointSpread:
    """Work out the kernels of a probe on its own beam grid."""
    samples = geometry.x_mm.shape[0]
    pitch = geometry.beam_pitch_mm()
    kernels = []
    for start in range(0, samples, BAND_SAMPLES):
        middle = min(start + BAND_SAMPLES // 2, samples - 1)
        depth = middle * geometry.sample_pitch_mm()
        width = imaging.lateral_mm * math.hypot(1, (depth - imaging.focus_mm) / imaging.spread_mm)
        kernels.append(gaussian_kernel(width / float(pitch[middle])))
    return PointSpread(gaussian_kernel(imaging.axial_mm / geometry.sample_pitch_mm()), tuple(kernels))


def detect_power(scatterers: FloatArray, spread: PointSpread) -> FloatArray:
    """Return the echo power (samples, beams) of complex scatterers (samples, beams, 2)."""
    one = np.ones(1, np.float32)
    echoes = np.asarray(cv2.sepFilter2D(scatterers, -1, one, spread.axial), dtype=np.float32)
    for band, kernel in enumerate(spread.lateral):
        rows = slice(band * BAND_SAMPLES, (band + 1) * BAND_SAMPLES)
        echoes[rows] = cv2.sepFilter2D(np.ascontiguousarray(echoes[rows]), -1, kernel, one)
    return np.asarray(echoes[..., 0] ** 2 + echoes[..., 1] ** 2, dtype=np.float32)


def transmit(absorption: FloatArray, step_mm: float) -> FloatArray:
    """Return the share of power left at each sample: shadows below one, enhancement above."""
    loss_db = np.cumsum(absorption, axis=0, dtype=np.float32) * np.float32(step_mm)
    return np.asarray(cv2.exp(loss_db * np.float32(-1 / DB_PER_NEPER_POWER)), dtype=np.float32)


def compress(power: FloatArray, imaging: Imaging) -> NDArray[np.uint8]:
    """Map power to grey levels by its logarithm."""
    steps_per_neper = 255 * DB_PER_NEPER_POWER / imaging.range_db
    log_power = np.asarray(cv2.log(power + np.float32(1e-9)), dtype=np.float32)
    return np.asarray(cv2.convertScaleAbs(np.maximum(log_power * steps_per_neper + 255 * imaging.level, 0)), np.uint8)
