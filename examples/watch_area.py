"""Print how large each class is, frame by frame: python watch_area.py MODEL [SOURCE] [FRAMES] [MM_PER_PX]"""

import sys

import edgeseg

model = sys.argv[1]
source = sys.argv[2] if len(sys.argv) > 2 else "0"
frames = int(sys.argv[3]) if len(sys.argv) > 3 else None
mm_per_px = float(sys.argv[4]) if len(sys.argv) > 4 else None

options, sinks = edgeseg.StreamOptions(frames=frames), edgeseg.SinkOptions(mm_per_px=mm_per_px)
with edgeseg.stream(model, source, options=options, sinks=sinks) as stream:
    for result in stream:
        areas = result.segmentation.areas
        sizes = [f"{a.name} {a.area_px} px" if a.area_mm2 is None else f"{a.name} {a.area_mm2:g} mm2" for a in areas]
        print(f"frame {result.frame.number}, {result.age_ms:.1f} ms old: {', '.join(sizes)}")

print(f"budget {stream.report().verdict}")
