"""Limits on untrusted input: one table, checked before anything is allocated, decoded or waited for.

Each is far above what ultrasound needs and far below what exhausts a board with 4 GB of memory.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgeseg.core.errors import LimitError

MIB = 2**20

# A model file; a U-Net of 31 million parameters has 124 MB in float32.
MODEL_BYTES = 512 * MIB
# The card inside a model file, unpacked.
CARD_BYTES = MIB
# All golden pairs of a model file, unpacked.
GOLDEN_BYTES = 256 * MIB
# How many golden pairs a model file may hold; edgeseg writes two.
GOLDEN_PAIRS = 64
# Tensors or buffers of a network; a U-Net of 31 million parameters has about 150.
TENSORS = 10_000
# Operators of a network.
OPERATORS = 5_000
# Dimensions of a tensor; LiteRT knows six.
TENSOR_DIMENSIONS = 8
# All activations of a network together; 31 million parameters at 512x512 in float32 need 900 MiB.
ARENA_BYTES = 1024 * MIB
# The longest side of a network's input.
NETWORK_SIDE = 8_192
# Memory of the process that runs a network for the first time, beside the file itself.
TRIAL_BYTES = 2048 * MIB
# The name of a class or a model.
NAME_LETTERS = 255
# Any other text on a card.
TEXT_LETTERS = 20_000
# One image file.
IMAGE_BYTES = 256 * MIB
# Width times height of one image or video frame; a scanner's largest screen has 8 million.
IMAGE_PIXELS = 64_000_000
# The longest side of one image or video frame.
IMAGE_SIDE = 32_767
# One array or volume (npy, npz, NIfTI), unpacked.
ARRAY_BYTES = 2048 * MIB
# An array file that is mapped into memory, of which one image at a time is read.
MAPPED_BYTES = 256 * 1024 * MIB
# Labelled images of one data folder.
CASES = 1_000_000
# Classes of one network or data folder: OpenCV 5 takes 128 channels, and softmax has one for the background.
CLASSES = 127
# Labels of whole frames (benign, malignant, normal); far more are names of something else.
FRAME_CLASSES = 32
# Numbers that describe a frame, for the distance from the training frames.
FEATURES = 64
# Header in front of a volume's voxels (NIfTI with its extensions, MetaImage); 352 bytes are usual.
VOLUME_HEADER_BYTES = MIB
# One DICOM file; it is read frame by frame.
DICOM_BYTES = 2048 * MIB
# Frames that a DICOM file may announce: 55 minutes at 30 a second.
DICOM_FRAMES = 100_000
# Read calls for one DICOM header: about three for each element, of which a long cine has 30,000.
DICOM_READS = 200_000
# The sequence of ultrasound regions in a DICOM header; a scanner writes two to ten, of some 300 bytes each.
DICOM_SEQUENCE_BYTES = 65_536
# One CSV or JSON file that a person or another program wrote.
TABLE_BYTES = 64 * MIB
# One file of a labelling tool; an annotated image of COCO has some 4 KB.
ANNOTATION_BYTES = 256 * MIB
# A recipe or board profile, ten times the longest; the parser's memory grows with the square of a key's length.
TOML_BYTES = MIB // 64
# An inventory: a table for each of 10,000 boards.
INVENTORY_BYTES = 4 * MIB
# One line of such a long file: a key ends with its line.
TOML_LINE_BYTES = 4_096
# One video file; it is read frame by frame.
VIDEO_BYTES = 4 * 2**40
# Masks of one recording of a stream: 18 hours at 30 a second.
RECORDED_FRAMES = 2_000_000
# One compressed frame of a network stream, or the bytes between two; a JPEG of 64 million pixels has some 25 MB.
PART_BYTES = 32 * MIB
# One line of a protocol or of a subprocess's answer.
LINE_BYTES = 65_536
# Lines in front of one frame of a network stream.
HEADER_LINES = 100
# More is a typing error.
EPOCHS = 100_000
# Images of one training step.
BATCH = 65_536
# Channels of one stage of a network, and its stages: `classic`, the largest named size, has 1024 and 5.
NETWORK_WIDTH, NETWORK_STAGES = 8_192, 8
# Height and width of the network's input in a training; the command line allows 1024.
TRAINED_SIDE = 4_096
# Prune-and-train steps of one compression.
PRUNING_STEPS = 1_000
# CPU threads of one model: all are started at once, and no board has as many cores.
THREADS = 256
_CHUNK_BYTES = 4 * MIB


def read_regular(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes; it never waits for a FIFO or device. Links are followed.

    Raises:
        OSError: It is not there or may not be read.
        LimitError: It is no regular file, or larger than the limit.
    """
    # O_NONBLOCK: opening a FIFO without a writer returns at once instead of waiting forever
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        state = os.fstat(handle)
        _check_state(path, state, limit)
    except LimitError:
        os.close(handle)
        raise
    with os.fdopen(handle, "rb") as file:
        # read() allocates as many bytes as it is asked for, so ask for the limit only where the file has grown
        data = file.read(state.st_size + 1)
        if len(data) > state.st_size:
            data += file.read(limit + 1 - len(data))
    if len(data) > limit:
        raise _too_large(path, limit, len(data))
    return data


def digest_regular(path: Path, limit: int) -> bytes:
    """Hash (SHA-256) a regular file of at most `limit` bytes, chunk by chunk.

    Raises:
        OSError: It is not there or may not be read.
        LimitError: It is no regular file, or larger than the limit.
    """
    check_regular(path, limit)
    import hashlib  # loads OpenSSL, which no command needs to show its help

    digest = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()


def check_regular(path: Path, limit: int) -> None:
    """Check a path for another library as `read_regular` does; a missing file is left to that library."""
    try:
        state = path.stat()
    except OSError:
        return
    _check_state(path, state, limit)


def check_pixels(path: Path | str, width: int, height: int) -> None:
    """Refuse an image whose header announces more pixels than the limit, before it is decoded."""
    if not (0 < width <= IMAGE_SIDE and 0 < height <= IMAGE_SIDE and width * height <= IMAGE_PIXELS):
        raise LimitError(
            f"Expected a picture of at most {IMAGE_PIXELS // 1_000_000} million pixels in {path}, "
            f"got {width}x{height}.",
            "Make it smaller, or remove it.",
        )


def _check_state(path: Path, state: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise LimitError(
            f"Expected a regular file at {path}, got {_name_kind(state.st_mode)}.", "Remove it, or name a file."
        )
    if state.st_size > limit:
        raise _too_large(path, limit, state.st_size)


def _too_large(path: Path, limit: int, size: int) -> LimitError:
    return LimitError(
        f"Expected at most {_show_bytes(limit)} in {path}, got {_show_bytes(size)}.", "Name a smaller file."
    )


def _show_bytes(size: int) -> str:
    return f"{size / MIB:,.0f} MiB" if size >= 10 * MIB else f"{size / 1024:,.0f} KiB"


def _name_kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a FIFO" if stat.S_ISFIFO(mode) else "a device or socket"
