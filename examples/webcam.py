"""Segment a webcam live and watch it in the browser: python webcam.py MODEL [SOURCE] [FRAMES]

SOURCE is a camera's index (0), /dev/video0, phantom:// or another of docs/reference/sources.md; Ctrl-C ends it.
"""

import sys
from pathlib import Path

from edgeseg.core.modelfile import read_model
from edgeseg.runtime.latency import LatencyRecorder
from edgeseg.runtime.segmenter import Segmenter
from edgeseg.runtime.sinks.base import StreamInfo
from edgeseg.runtime.sources.choose import open_source
from edgeseg.runtime.stream import StreamOptions, run_stream
from edgeseg.runtime.viewer import WebViewer

model = read_model(Path(sys.argv[1]))
name = sys.argv[2] if len(sys.argv) > 2 else "0"
options = StreamOptions(budget_ms=50.0, frames=int(sys.argv[3]) if len(sys.argv) > 3 else None)

segmenter = Segmenter(model)
recorder = LatencyRecorder(options.budget_ms, segmenter.warm_up())
source = open_source(name)
page = WebViewer(StreamInfo(model.card.name, name, segmenter.report, recorder), model.card.output.classes, port=0)
print(f"Open {page.url} in a browser on this machine.", flush=True)

report = run_stream(segmenter, source, recorder, options, [page], name)
age = report.frame_age_ms
print(f"{report.frames.processed} frames, frame age {age.p50:.1f} ms (p99 {age.p99:.1f} ms): budget {report.verdict}")
