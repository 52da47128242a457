"""Ultrasound physics: point spread function, Rayleigh speckle, attenuation, TGC, clutter and log compression.

Many scatterers in each resolution cell add up to a complex Gaussian echo, whose amplitude is Rayleigh distributed:
fully developed speckle (Burckhardt, "Speckle in ultrasound B-mode scans", IEEE Trans. Sonics Ultrasonics 25(1), 1978).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.phantom.geometry import FloatArray, ScanGeometry
from edgeseg.phantom.tissue import draw_mottle

# Samples along the beam that share one lateral kernel: the beam's width changes slowly with depth.
BAND_SAMPLES = 16
# Limits of a kernel's standard deviation in samples: a narrower one aliases, a wider one costs too much time.
_NARROWEST_SIGMA, _WIDEST_SIGMA = 0.6, 9.0
# Loss of the beams at the edge of a probe that does not touch the skin, in dB.
_CONTACT_LOSS_DB = (8.0, 22.0)
# Depth over which reverberation falls by a factor of e, and spacing of its rings, as shares of the image's depth.
_HAZE_SHARE = 0.05
_RING_SHARE = (0.018, 0.035)
# Shift of the electronic noise from frame to frame, in samples and beams; primes, so that it repeats late.
_NOISE_STEP = (89, 37)
# Power ratio to dB: 10 log10(p) = 10 / ln(10) * ln(p)
_DB_PER_LN = 10 / math.log(10)


@dataclass(frozen=True)
class PointSpreadFunction:
    """The separable image of a point reflector: the pulse along the beam, the beam's width across it, by depth.

    Args:
        axial: Kernel along the beam, in samples.
        lateral: One kernel across the beams for each band of BAND_SAMPLES samples.
    """

    axial: FloatArray
    lateral: tuple[FloatArray, ...]


@dataclass(frozen=True)
class Imaging:
    """Scanner settings of one examination.

    Args:
        axial_mm: Standard deviation of the pulse.
        lateral_mm: Standard deviation of the beam at its focus.
        focus_mm: Depth of the focus.
        spread_mm: Distance from the focus at which the beam is 1.4 times as wide.
        range_db: Dynamic range of the display.
        level: Grey level (0 to 1) of tissue at 0 dB.
        slope_db: Attenuation that the TGC does not make up, from the probe to the bottom of the image.
        haze_db: Level of reverberation at the probe face.
        noise_db: Level of electronic noise.
        compounding: Standard deviation, in samples, of the smoothing of echo power, as compounding does it.
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
    """Return a Gaussian kernel of unit energy, which keeps the mean power of white scatterers."""
    sigma = min(max(sigma, _NARROWEST_SIGMA), _WIDEST_SIGMA)
    offset = np.arange(-math.ceil(3 * sigma), math.ceil(3 * sigma) + 1)
    kernel = np.exp(-(offset**2) / (2 * sigma**2))
    return np.asarray(kernel / np.sqrt(np.sum(kernel**2)), dtype=np.float32)


def build_point_spread(geometry: ScanGeometry, imaging: Imaging) -> PointSpreadFunction:
    """Build the point spread function of a probe on its beam grid."""
    samples = geometry.x_mm.shape[0]
    pitch = geometry.beam_pitch_mm()
    kernels = []
    for start in range(0, samples, BAND_SAMPLES):
        middle = min(start + BAND_SAMPLES // 2, samples - 1)
        depth = middle * geometry.sample_pitch_mm()
        # a Gaussian beam widens as w = w0 * sqrt(1 + (z / zR)^2) away from its focus
        width = imaging.lateral_mm * math.hypot(1, (depth - imaging.focus_mm) / imaging.spread_mm)
        kernels.append(gaussian_kernel(width / float(pitch[middle])))
    return PointSpreadFunction(gaussian_kernel(imaging.axial_mm / geometry.sample_pitch_mm()), tuple(kernels))


def detect_power(scatterers: FloatArray, spread: PointSpreadFunction) -> FloatArray:
    """Detect the envelope: echo power (samples, beams) of complex scatterers (samples, beams, 2) behind the PSF."""
    one = np.ones(1, np.float32)
    echoes = np.asarray(cv2.sepFilter2D(scatterers, -1, one, spread.axial), dtype=np.float32)
    for band, kernel in enumerate(spread.lateral):
        rows = slice(band * BAND_SAMPLES, (band + 1) * BAND_SAMPLES)
        echoes[rows] = cv2.sepFilter2D(np.ascontiguousarray(echoes[rows]), -1, kernel, one)
    # the squared envelope I^2 + Q^2: its square root is Rayleigh distributed
    return np.asarray(echoes[..., 0] ** 2 + echoes[..., 1] ** 2, dtype=np.float32)


def attenuate(absorption: FloatArray, step_mm: float) -> FloatArray:
    """Return the power left at each sample after attenuation: acoustic shadow below 1, enhancement above."""
    # Attenuation in soft tissue is about 0.5 dB/cm/MHz on each way; TGC makes that up, so only differences are summed.
    loss_db = np.cumsum(absorption, axis=0, dtype=np.float32) * np.float32(step_mm)
    return np.asarray(cv2.exp(loss_db * np.float32(-1 / _DB_PER_LN)), dtype=np.float32)


def log_compress(power: FloatArray, imaging: Imaging) -> NDArray[np.uint8]:
    """Log compression: map power in dB linearly to grey levels, `range_db` over 255 of them."""
    levels_per_ln = 255 * _DB_PER_LN / imaging.range_db
    log_power = np.asarray(cv2.log(power + np.float32(1e-9)), dtype=np.float32)
    return np.asarray(cv2.convertScaleAbs(np.maximum(log_power * levels_per_ln + 255 * imaging.level, 0)), np.uint8)


@dataclass(frozen=True)
class Clutter:
    """Gain and artefacts on the beam grid, which stay with the probe while tissue moves under it.

    Args:
        gain: Factor on echo power: contact of each beam times TGC.
        haze: Power added by reverberation near the probe.
        noise: Power added by the electronics, shifted from frame to frame.
    """

    gain: FloatArray
    haze: FloatArray
    noise: FloatArray

    def noise_of(self, number: int) -> FloatArray:
        """Return the noise of a frame; the same for equal numbers."""
        shift = (number * _NOISE_STEP[0] % self.noise.shape[0], number * _NOISE_STEP[1] % self.noise.shape[1])
        return np.asarray(np.roll(self.noise, shift, axis=(0, 1)), dtype=np.float32)


def draw_clutter(
    rng: np.random.Generator, geometry: ScanGeometry, imaging: Imaging, spread: PointSpreadFunction
) -> Clutter:
    """Draw gain, reverberation and electronic noise of one examination."""
    samples, beams = geometry.x_mm.shape
    depth = np.linspace(0, 1, samples, dtype=np.float32)[:, None]
    gain_db = _draw_contact(rng, beams)[None, :] - imaging.slope_db * depth**1.5 + _draw_tgc(rng, depth)
    grain = rng.standard_normal((2, samples, beams, 2), dtype=np.float32) * np.float32(np.sqrt(0.5))
    haze_db = imaging.haze_db + 0.4 * _draw_rings(rng, depth) - 10 * depth / _HAZE_SHARE * np.log10(np.e)
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
            contact -= rng.uniform(*_CONTACT_LOSS_DB) * np.exp(-(((place - center) / width) ** 2))
    return np.asarray(contact, dtype=np.float32)


def _draw_tgc(rng: np.random.Generator, depth: FloatArray) -> FloatArray:
    # six sliders, as on a scanner's panel, in dB
    sliders = rng.normal(0, 1.2, 6)
    return np.interp(depth[:, 0], np.linspace(0, 1, 6), sliders)[:, None].astype(np.float32)


def _draw_rings(rng: np.random.Generator, depth: FloatArray) -> FloatArray:
    spacing = rng.uniform(*_RING_SHARE)
    return np.asarray(20 * np.cos(np.pi * depth / spacing) ** 8, dtype=np.float32)
