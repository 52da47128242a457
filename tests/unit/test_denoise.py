"""Denoising: speckle goes, edges stay, and training sees what the device sees."""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.card import card_from_json, card_to_json
from edgeseg.core.spec import InputSpec
from edgeseg.data.augment import AugmentSpec, augment_case, vary_case
from edgeseg.data.dataset import Case, LabelledImage
from edgeseg.frame.preprocess import SPECKLE_WINDOW, denoise_pixels, frame_to_pixels
from edgeseg.training.grids import to_grid
from tests.discs import draw_case
from tests.unit.test_modelfile import CARD

EDGE = 32


def draw_speckle(seed: int = 0) -> NDArray[np.uint8]:
    """Draw a dark and a bright half under speckle."""
    clean = np.full((64, 64, 1), 60.0)
    clean[:, EDGE:] = 180.0
    grain = np.random.default_rng(seed).normal(1.0, 0.12, clean.shape)
    return np.clip(clean * grain, 0, 255).astype(np.uint8)


def edge_step(image: NDArray[np.uint8]) -> float:
    """Measure the step between the two columns at the edge."""
    return float(image[:, EDGE].mean()) - float(image[:, EDGE - 1].mean())


def test_speckle_goes_and_the_edge_stays() -> None:
    noisy = draw_speckle()
    quiet = denoise_pixels(noisy, "speckle")
    blurred = np.asarray(cv2.blur(noisy, (SPECKLE_WINDOW, SPECKLE_WINDOW)), dtype=np.uint8).reshape(noisy.shape)
    assert quiet[8:-8, 4:24].var() < 0.2 * noisy[8:-8, 4:24].var()
    assert edge_step(quiet) > 0.85 * edge_step(noisy)
    assert edge_step(quiet) > 3 * edge_step(blurred)


def test_median_takes_single_pixels_away() -> None:
    pixels = np.full((16, 16, 3), 90, np.uint8)
    pixels[7, 7] = 255
    assert (denoise_pixels(pixels, "median") == 90).all()


@pytest.mark.parametrize(("kind", "checksum"), [("median", 557522453), ("speckle", 90357705)])
def test_every_machine_gives_the_same_bytes(kind: str, checksum: int) -> None:
    numbers = (np.arange(48 * 48, dtype=np.uint64) * 2654435761 >> 7) % 251
    pixels = numbers.astype(np.uint8).reshape(48, 48, 1)
    assert zlib.crc32(denoise_pixels(pixels, kind).tobytes()) == checksum


@pytest.mark.parametrize("kind", ["none", "median", "speckle"])
def test_training_sees_what_the_device_sees(kind: str) -> None:
    frame, mask = draw_case(2)
    spec = InputSpec(64, 64, denoise=kind)
    arrays = to_grid([LabelledImage(Case("a", Path("a"), (), "a"), frame, (mask,))], spec)
    fed, _ = vary_case(arrays.pixels[0], arrays.masks[0], None, arrays.denoise, np.random.default_rng(0))
    device = frame_to_pixels(frame, spec)
    assert np.array_equal(arrays.images[0], device)
    assert np.array_equal(fed, device)
    assert np.array_equal(device, frame_to_pixels(frame, InputSpec(64, 64))) is (kind == "none")


def test_noise_comes_before_the_filter() -> None:
    noisy, masks = draw_speckle(), np.zeros((64, 64, 1), np.uint8)
    spec = AugmentSpec()
    varied, _ = augment_case(noisy, masks, spec, np.random.default_rng(4))
    fed, _ = vary_case(noisy, masks, spec, "median", np.random.default_rng(4))
    assert np.array_equal(fed, denoise_pixels(varied, "median"))


def test_cards_from_before_there_was_a_filter_are_read() -> None:
    text = card_to_json(dataclasses.replace(CARD, sha256="0" * 64)).replace('"denoise": "none",', "")
    assert "denoise" not in text
    assert card_from_json(text, "here").input.denoise == "none"


def test_unknown_filter_is_refused() -> None:
    with pytest.raises(ValueError, match=r"none, median, speckle.*'wavelet'"):
        InputSpec(64, 64, denoise="wavelet")
