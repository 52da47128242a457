"""Segment a folder of images and save the overlays: python segment_folder.py MODEL FOLDER OUT"""

import sys
from pathlib import Path

import edgeseg

model_path, folder, out = map(Path, sys.argv[1:])
model = edgeseg.load(model_path)
for path in edgeseg.list_images(folder):
    frame = edgeseg.read_image(path)
    result = model(frame)
    overlay = edgeseg.draw_overlay(frame, result.labels, result.classes, findings=result.findings)
    edgeseg.write_image(out / f"{path.stem}.png", overlay)
    print(f"{path.name}: {(result.labels > 0).mean():.1%} marked in {result.times.total:.1f} ms")
