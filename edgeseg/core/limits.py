"""The limits on what is read: one table, checked before anything is allocated, decoded or waited for.

Each is far above what ultrasound needs and far below what ends a board with 4 GB of memory.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgeseg.core.errors import LimitError

MIB = 2**20

MODEL_BYTES = 512 * MIB
"""A model file; a U-Net of 31 million parameters has 124 MB in float32."""
CARD_BYTES = MIB
"""The card inside a model file, unpacked."""
GOLDEN_BYTES = 256 * MIB
"""All golden pairs of a model file, unpacked."""
GOLDEN_PAIRS = 64
"""How many golden pairs a model file may hold; edgeseg writes two."""
TENSORS = 10_000
"""Tensors or buffers of a network; a U-Net of 31 million parameters has about 150."""
OPERATORS = 5_000
"""Operators of a network."""
TENSOR_DIMENSIONS = 8
"""Dimensions of a tensor; LiteRT knows six."""
ARENA_BYTES = 1024 * MIB
"""What all results of a network take together; 31 million parameters at 512x512 in float32 need 900 MiB."""
NETWORK_SIDE = 8_192
"""The longest side of a network's input."""
TRIAL_BYTES = 2048 * MIB
"""What a network may take, beside its file, in the process that runs it for the first time."""
CLASSES = 254
"""What a mask of 8 bits can tell apart, with the background."""
NAME_LETTERS = 255
"""The name of a class or a model."""
TEXT_LETTERS = 20_000
"""Any other text on a card."""
IMAGE_BYTES = 256 * MIB
"""One image file."""
IMAGE_PIXELS = 64_000_000
"""Width times height of one image or video frame; a scanner's largest screen has 8 million."""
IMAGE_SIDE = 32_767
"""The longest side of one image or video frame."""
ARRAY_BYTES = 2048 * MIB
"""One array or volume (npy, npz, NIfTI), unpacked."""
MAPPED_BYTES = 256 * 1024 * MIB
"""An array file that is mapped into memory, of which one image at a time is read."""
CASES = 1_000_000
"""Labelled images of one data folder."""
CLASSES = 255
"""Classes of one data folder: label maps have 8 bits."""
VOLUME_HEADER_BYTES = MIB
"""What stands in front of a volume's numbers (NIfTI with its extensions, MetaImage); 352 bytes are usual."""
DICOM_BYTES = 2048 * MIB
"""One DICOM file; it is read frame by frame."""
DICOM_FRAMES = 100_000
"""Frames that a DICOM file may announce: 55 minutes at 30 a second."""
DICOM_READS = 200_000
"""How often a DICOM header may make its reader read: some thrice for each element, of which a long cine has 30,000."""
DICOM_SEQUENCE_BYTES = 65_536
"""The ultrasound regions of a DICOM header; a scanner names two to ten, of some 300 bytes."""
TABLE_BYTES = 64 * MIB
"""One CSV or JSON file that a person or another program wrote."""
TOML_BYTES = MIB // 64
"""A recipe or a board's profile, ten times the longest; reading takes memory with the square of a key's length."""
VIDEO_BYTES = 4 * 2**40
"""One video file; it is read frame by frame."""
PART_BYTES = 32 * MIB
"""One compressed frame of a network stream, or what stands between two; a JPEG of 64 million pixels has some 25 MB."""
LINE_BYTES = 65_536
"""One line of a protocol or of a subprocess's answer."""
HEADER_LINES = 100
"""Lines in front of one frame of a network stream."""
EPOCHS = 100_000
"""Passes over the training images: more is a slip of the keyboard."""
BATCH = 65_536
"""Images of a training step."""
NETWORK_WIDTH, NETWORK_STAGES = 8_192, 8
"""Channels of one stage of a network, and its stages: `classic`, the largest named size, has 1024 and 5."""
TRAINED_SIDE = 4_096
"""Height and width of the image that a network takes in a training; on the command line they end at 1024."""
PRUNING_STEPS = 1_000
"""Steps of one pruning."""
THREADS = 256
"""CPU threads of one model: each is made at once, and no board has as many cores."""
_PIECE = 4 * MIB


def read_regular(path: Path, limit: int) -> bytes:
    """Read a regular file of at most so many bytes; a FIFO, device or folder is never waited for.

    Links are followed: what counts is what they lead to.

    Raises:
        OSError: It is not there or may not be read.
        LimitError: It is no regular file, or larger than the limit.
    """
    # O_NONBLOCK: opening a FIFO that nobody writes to returns at once instead of waiting forever
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        state = os.fstat(handle)
        _check_state(path, state, limit)
    except LimitError:
        os.close(handle)
        raise
    with os.fdopen(handle, "rb") as file:
        # as many bytes as asked for are allocated, so the limit itself is only asked for where a file has grown
        data = file.read(state.st_size + 1)
        if len(data) > state.st_size:
            data += file.read(limit + 1 - len(data))
    if len(data) > limit:  # it grew meanwhile
        raise _too_large(path, limit, len(data))
    return data


def digest_regular(path: Path, limit: int) -> bytes:
    """Hash (SHA-256) a regular file of at most so many bytes, piece by piece.

    Raises:
        OSError: It is not there or may not be read.
        LimitError: It is no regular file, or larger than the limit.
    """
    check_regular(path, limit)
    import hashlib  # loads OpenSSL, which no command needs to show its help

    digest = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.digest()


def check_regular(path: Path, limit: int) -> None:
    """Refuse a path that another library is about to open, as `read_regular` does; a missing one is left to it."""
    try:
        state = path.stat()
    except OSError:
        return
    _check_state(path, state, limit)


def check_pixels(path: Path | str, width: int, height: int) -> None:
    """Refuse a picture whose announced size is beyond the table, before it is decoded."""
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
