"""Segment a webcam live and watch it in the browser: python webcam.py MODEL [SOURCE] [FRAMES]

SOURCE is a camera's index (0), /dev/video0, phantom:// or another of docs/reference/sources.md; Ctrl-C ends it.
"""

import sys
from pathlib import Path

from edgeseg.core.errors import EdgesegError
from edgeseg.core.modelfile import read_model
from edgeseg.inference.segmenter import Segmenter
from edgeseg.streaming.live import open_stream
from edgeseg.streaming.loop import run_stream
from edgeseg.streaming.options import SinkOptions, StreamOptions

model = read_model(Path(sys.argv[1]))
source = sys.argv[2] if len(sys.argv) > 2 else "0"
options = StreamOptions(budget_ms=50.0, frames=int(sys.argv[3]) if len(sys.argv) > 3 else None)

try:
    report = run_stream(open_stream(Segmenter(model), source, options, SinkOptions(view="web", port=0)))
except EdgesegError as error:
    sys.exit(f"{error.message}\n{error.hint}")

age = report.frame_age_ms
print(f"{report.frames.processed} frames, frame age {age.p50:.1f} ms (p99 {age.p99:.1f} ms): budget {report.verdict}")
