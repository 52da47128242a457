"""Registration by a learned network: two frames in, a displacement field out, on any backend that runs model files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.backends.select import Selection, select_backend
from edgeseg.core.modelfile import RegistrationFile, find_model, read_registering
from edgeseg.core.registration_card import RegistrationCard
from edgeseg.frame.preprocess import frame_to_grid, pixels_to_tensor, place_frame
from edgeseg.registration.coding import outputs_to_field, pair_to_pixels
from edgeseg.registration.displacement import Field, compose, warp_image

# A second look at what the first left gained nothing (docs/decisions/0068).
PASSES = 1


class LearnedRegistration:
    """A registering file on a backend; frames of any size, of which both are brought onto the network's grid."""

    def __init__(
        self,
        model: RegistrationFile,
        requested: str = "auto",
        threads: int = 1,
        passes: int = PASSES,
        enforce_parity: bool = True,
    ) -> None:
        """Load a registering file.

        Args:
            model: The file, read and verified.
            requested: "auto", or the name of a backend, with its variant behind a colon.
            threads: CPU threads the backend may use.
            passes: How often the network looks; each takes as long as the first.
            enforce_parity: Whether to refuse a backend whose numbers differ from the file's golden pairs.
        """
        self.card = model.card
        self._passes = max(1, passes)
        self.selection: Selection = select_backend(model, requested, threads, enforce_parity)

    def __call__(self, fixed: NDArray[Any], moving: NDArray[Any]) -> Field:
        """Do what `find_field` does."""
        return self.find_field(fixed, moving)

    def find_field(self, fixed: NDArray[Any], moving: NDArray[Any]) -> Field:
        """Find the displacement field of the fixed frame's size: moved(x) = moving(x + d(x)).

        Args:
            fixed: Grey or BGR, 8 or 16 bit.
            moving: Likewise; of another size, it is letterboxed to the network's grid by itself.
        """
        spec = self.card.input
        images = [frame_to_grid(frame, spec)[..., 0] for frame in (fixed, moving)]
        field = self.find_grid_field(images[0], images[1])
        here, there = (place_frame(spec, frame.shape[0], frame.shape[1]) for frame in (fixed, moving))
        inner = field[here.y : here.y + here.height, here.x : here.x + here.width]
        size = (here.region.height, here.region.width)
        full = np.asarray(cv2.resize(inner, (size[1], size[0]), interpolation=cv2.INTER_LINEAR))
        # from the fixed frame's pixels onto the grid, along the field, and from there into the moving frame
        scale = (there.region.width / there.width, there.region.height / there.height)
        if fixed.shape[:2] == moving.shape[:2]:
            return np.asarray(full * np.asarray(scale, np.float32), dtype=np.float32)
        result = np.empty((*size, 2), np.float32)
        for axis, length in ((0, size[1]), (1, size[0])):
            steps = np.arange(length, dtype=np.float32)
            inside, start = ((here.width, here.x), (here.height, here.y))[axis]
            origin = (there.x, there.y)[axis]
            place = (steps + 0.5) * np.float32(inside / length) - 0.5 + start
            place = place[None, :] if axis == 0 else place[:, None]
            target = (place + full[..., axis] - origin + 0.5) * np.float32(scale[axis]) - 0.5
            result[..., axis] = target - (steps[None, :] if axis == 0 else steps[:, None])
        return result

    def find_grid_field(self, fixed: NDArray[np.uint8], moving: NDArray[np.uint8]) -> Field:
        """Find the field of two grey images that are on the network's grid."""
        field = self._look(fixed, moving)
        for _ in range(self._passes - 1):
            moved = np.asarray(warp_image(moving, field, outside=None), dtype=np.uint8)
            field = compose(self._look(fixed, moved), field)
        return field

    def _look(self, fixed: NDArray[np.uint8], moving: NDArray[np.uint8]) -> Field:
        tensor = pixels_to_tensor(pair_to_pixels(fixed, moving), self.card.input_quantisation)
        (output,) = self.selection.backend.invoke(tensor)
        return outputs_to_field(read_numbers(output, self.card), self.card.reach_px, fixed.shape[:2])


def open_registration(path: str | Path, requested: str = "auto", threads: int = 1) -> LearnedRegistration:
    """Open a file that registers, or the folder that edgeseg train or compress wrote.

    Args:
        path: The file or folder.
        requested: "auto", or the name of a backend.
        threads: CPU threads the backend may use.
    """
    return LearnedRegistration(read_registering(find_model(Path(path))), requested, threads)


def read_numbers(output: NDArray[Any], card: RegistrationCard) -> NDArray[np.float32]:
    """Turn an output tensor into numbers from 0 to 1, (height, width, 2); what is no number becomes no motion."""
    quantisation = card.output_quantisation
    numbers = output[0].astype(np.float32)
    if quantisation.scale:
        numbers = (numbers - np.float32(quantisation.zero_point)) * np.float32(quantisation.scale)
    return np.asarray(np.nan_to_num(numbers, nan=0.5, posinf=1.0, neginf=0.0), dtype=np.float32)
