"""The recipe of the tutorials, to compare with: a Keras U-Net, stretched images, cross-entropy, no care.

    python benchmarks/plain_unet.py DATA OUT.json [EPOCHS]

It sees the same training images as `edgeseg train DATA` does and is judged on the same test cases, at their own size.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.files import write_json
from edgeseg.core.schema import to_plain
from edgeseg.data.dataset import LabelledImage
from edgeseg.evaluation.score import ScoredCase, score_labels
from edgeseg.model.keras import keras
from edgeseg.training.loading import LoadedData, load_data
from edgeseg.training.trainer import plain_split

SIZE, WIDTHS, BATCH, EPOCHS = 128, (16, 32, 64, 128, 256), 16, 25
layers = keras.layers


def build_network(classes: int) -> Any:
    """Build the U-Net as it stands in tutorials."""
    image = keras.Input((SIZE, SIZE, 1))
    x, skips = image, []
    for width in WIDTHS[:-1]:
        skips.append(add_pair(x, width))
        x = layers.MaxPool2D()(skips[-1])
    x = add_pair(x, WIDTHS[-1])
    for width, skip in zip(reversed(WIDTHS[:-1]), reversed(skips), strict=True):
        x = layers.Concatenate()([layers.Conv2DTranspose(width, 2, 2, padding="same")(x), skip])
        x = add_pair(x, width)
    return keras.Model(image, layers.Conv2D(classes, 1, activation="sigmoid")(x))


def add_pair(x: Any, width: int) -> Any:
    """Add two convolutions."""
    for _ in range(2):
        x = layers.Conv2D(width, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
    return x


def stretch(images: Sequence[LabelledImage]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Stretch images and masks to the network's size."""
    greys = [cv2.resize(image.frame, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for image in images]
    masks = [
        [cv2.resize(mask, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST) > 0 for mask in image.masks]
        for image in images
    ]
    return np.stack(greys)[..., np.newaxis].astype(np.float32) / 255, np.moveaxis(np.asarray(masks, np.float32), 1, -1)


def train_network(data: LoadedData, epochs: int) -> Any:
    """Train with Adam and cross-entropy and keep the epoch with the lowest validation loss."""
    keras.utils.set_random_seed(0)
    model = build_network(len(data.dataset.classes))
    model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy", metrics=["accuracy"])
    best = keras.callbacks.EarlyStopping(patience=epochs, restore_best_weights=True)
    images, masks = stretch(data.part("train"))
    model.fit(images, masks, BATCH, epochs, validation_data=stretch(data.part("val")), callbacks=[best], verbose=2)
    return model


def score_network(model: Any, data: LoadedData) -> list[ScoredCase]:
    """Score the test cases at their own size."""
    images = data.part("test")
    drawn = model.predict(stretch(images)[0], verbose=0)
    return [
        score_labels(draw_labels(scores, image), image, data.dataset.classes)
        for scores, image in zip(drawn, images, strict=True)
    ]


def draw_labels(scores: NDArray[np.float32], image: LabelledImage) -> NDArray[np.uint8]:
    """Draw the likeliest class above one half, at the image's size."""
    height, width = image.frame.shape[:2]
    large = cv2.resize(scores, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, -1)
    return np.where(large.max(axis=-1) > 0.5, large.argmax(axis=-1) + 1, 0).astype(np.uint8)


def main() -> None:
    """Train, score, and write every test case's scores."""
    root, out = Path(sys.argv[1]), Path(sys.argv[2])
    data = load_data(root, plain_split(0))
    model = train_network(data, int(sys.argv[3]) if len(sys.argv) > 3 else EPOCHS)
    scored = score_network(model, data)
    write_json(out, {"parameters": model.count_params(), "cases": [to_plain(case) for case in scored]})


if __name__ == "__main__":
    main()
