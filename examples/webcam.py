"""Segment a webcam live and watch it in the browser: python webcam.py MODEL [SOURCE] [FRAMES]

SOURCE is a camera's index (0), /dev/video0, phantom:// or another of docs/reference/sources.md; Ctrl-C ends it.
"""

import contextlib
import sys

import edgeseg

model = sys.argv[1]
source = sys.argv[2] if len(sys.argv) > 2 else "0"
options = edgeseg.StreamOptions(budget_ms=50.0, frames=int(sys.argv[3]) if len(sys.argv) > 3 else None)

try:
    stream = edgeseg.stream(model, source, options=options, sinks=edgeseg.SinkOptions(view="web", port=0))
    print(f"Open {stream.url} in a browser on this machine")
    with stream, contextlib.suppress(KeyboardInterrupt):
        for _ in stream:
            pass
except edgeseg.EdgesegError as error:
    sys.exit(f"{error.message}\n{error.hint}")

report = stream.report()
age = report.frame_age_ms
print(f"{report.frames.processed} frames, frame age {age.p50:.1f} ms (p99 {age.p99:.1f} ms): budget {report.verdict}")
