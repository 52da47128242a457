"""Segment a folder of images and save the overlays: python segment_folder.py MODEL FOLDER OUT"""

import sys
from pathlib import Path

from edgeseg.core.modelfile import read_model
from edgeseg.frame.images import list_images, read_image, write_image
from edgeseg.inference.masks import draw_overlay
from edgeseg.inference.segmenter import Segmenter

model_path, folder, out = map(Path, sys.argv[1:])
segmenter = Segmenter(read_model(model_path))
for path in list_images(folder):
    frame = read_image(path)
    segmentation = segmenter.segment(frame)
    overlay = draw_overlay(frame, segmentation.labels, segmenter.card.output.classes)
    write_image(out / f"{path.stem}.png", overlay)
    share = (segmentation.labels > 0).mean()
    print(f"{path.name}: {share:.1%} marked in {segmentation.times.total:.1f} ms")
