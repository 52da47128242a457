"""Train on labelled images, compress, and draw the mask of one image: python train.py DATA OUT IMAGE [EPOCHS]"""

import sys

import edgeseg

data, out, image = sys.argv[1:4]
epochs = int(sys.argv[4]) if len(sys.argv) > 4 else None  # None: the default, 20 minutes or more on a CPU
run = edgeseg.train(data, f"{out}/run", epochs=epochs)
small = edgeseg.compress(run, f"{out}/small")
print(f"{small.chosen} {'keeps the limits' if small.held else small.report.advice}")
frame = edgeseg.read_image(image)
result = edgeseg.load(small)(frame)
edgeseg.write_image(f"{out}/mask.png", result.labels)  # 0 is background, 1 the first class: dark in a viewer
edgeseg.write_image(f"{out}/overlay.png", edgeseg.draw_overlay(frame, result.labels, result.classes))
