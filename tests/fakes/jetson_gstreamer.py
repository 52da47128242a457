"""A FAKE of gst-inspect-1.0 and gst-launch-1.0 on a Jetson with a camera: it knows nvarguscamerasrc and nothing else.

It notes its pipeline in $PIPELINE_LOG and writes plain grey frames of the size and rate that the pipeline asks for.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

FRAMES = 90


def main() -> int:
    """Act as the program by whose name it was called."""
    words = " ".join(sys.argv[1:])
    if sys.argv[0].endswith("gst-inspect-1.0"):
        return int("nvarguscamerasrc" not in words)
    Path(os.environ["PIPELINE_LOG"]).write_text(words, encoding="utf-8")
    asked = re.search(r"width=(\d+),height=(\d+),framerate=(\d+)/1 .*fd=(\d+)", words)
    assert asked is not None, words
    width, height, rate, descriptor = map(int, asked.groups())
    with os.fdopen(descriptor, "wb") as frames:
        frames.write(f"YUV4MPEG2 W{width} H{height} F{rate}:1 C420jpeg\n".encode())
        for number in range(FRAMES):
            frames.write(b"FRAME\n" + bytes([40 + number]) * (width * height) + b"\x80" * (width * height // 2))
            frames.flush()
            time.sleep(1 / rate)
    return 0


if __name__ == "__main__":
    sys.exit(main())
