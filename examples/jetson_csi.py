"""Segment a Jetson's CSI camera and watch it in the browser: python jetson_csi.py MODEL [SOURCE] [FRAMES]

Choose the power mode first (sudo nvpmodel -m 0, sudo jetson_clocks); Ctrl-C ends it. Not verified on hardware.
"""

import contextlib
import sys

import edgeseg

model = sys.argv[1]
source = sys.argv[2] if len(sys.argv) > 2 else "csi://0?size=1280x720&fps=30"
options = edgeseg.StreamOptions(budget_ms=33.0, frames=int(sys.argv[3]) if len(sys.argv) > 3 else None)

try:
    sinks = edgeseg.SinkOptions(view="web", port=0)
    stream = edgeseg.stream(model, source, threads=2, options=options, sinks=sinks)
    print(f"Open {stream.url} in a browser on the Jetson")
    with stream, contextlib.suppress(KeyboardInterrupt):
        for _ in stream:
            pass
except edgeseg.EdgesegError as error:
    sys.exit(f"{error.message}\n{error.hint}\nWhat the camera needs, and lacks: edgeseg doctor --device NAME")

report = stream.report()
age, (before, after) = report.frame_age_ms, report.thermal
print(f"{report.frames.processed} frames on {report.backend.name} ({report.backend.detail})")
print(f"frame age {age.p50:.1f} ms (p99 {age.p99:.1f} ms): budget {report.verdict}")
print(f"degrees Celsius {before.celsius} to {after.celsius}, clock lowered by heat: {after.throttled}")
