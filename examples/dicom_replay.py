"""Replay a DICOM cine as if it were live, and note areas: python dicom_replay.py MODEL CINE.dcm OUT.csv

Rate, region of the picture and pixel size come from the header; no name or identifier of a patient is read.
Needs the extra dicom, in a checkout: pip install '.[dicom]'
"""

import csv
import sys
from pathlib import Path

import edgeseg

model, cine, out = sys.argv[1:]
capture = edgeseg.CaptureOptions(every_frame=True)  # leave this out to drop frames as a live source does
options = edgeseg.StreamOptions(capture=capture)

with edgeseg.stream(model, cine, options=options) as stream, Path(out).open("w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["frame", "class", "area_px", "area_mm2", "age_ms"])
    for result in stream:
        for area in result.segmentation.areas:
            table.writerow([result.frame.number, area.name, area.area_px, area.area_mm2, round(result.age_ms, 2)])

frames = stream.report().frames
print(f"{frames.processed} of {frames.captured} frames, pixel size {stream.mm_per_px or 'unknown'}: {out}")
