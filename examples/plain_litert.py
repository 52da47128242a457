"""Run an edgeseg file with plain LiteRT, without edgeseg: python plain_litert.py MODEL IMAGE MASK.png"""

import json
import sys
import zipfile

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

model_path, image_path, mask_path = sys.argv[1:]
card = json.loads(zipfile.ZipFile(model_path).read("edgeseg.json"))
print(card["name"], card["input"], card["input_quantisation"])

interpreter = Interpreter(model_path=model_path)
interpreter.allocate_tensors()
source, (sink, *others) = interpreter.get_input_details()[0], interpreter.get_output_details()

image = cv2.imread(image_path, cv2.IMREAD_GRAYSCALE)
height, width = card["input"]["height"], card["input"]["width"]
pixels = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)  # stretched: the card may say letterbox
scale, zero_point = source["quantization"]
real = pixels[np.newaxis, :, :, np.newaxis] / 255.0
tensor = np.round(real / scale + zero_point) if scale else real
interpreter.set_tensor(source["index"], tensor.astype(source["dtype"]))
interpreter.invoke()

output = interpreter.get_tensor(sink["index"])[0, :, :, 0].astype(np.float32)
scale, zero_point = sink["quantization"]
probability = (output - zero_point) * scale if scale else output
mask = (probability > card["output"]["threshold"]).astype(np.uint8) * 255
cv2.imwrite(mask_path, cv2.resize(mask, image.shape[::-1], interpolation=cv2.INTER_NEAREST))

for finding in others:  # at most one: the probability of each class, then of each frame class
    output = interpreter.get_tensor(finding["index"])[0, 0, 0].astype(np.float32)
    scale, zero_point = finding["quantization"]
    names = [spec["name"] for spec in card["output"]["classes"]] + card["finding"]["frame_classes"]
    real = (output - zero_point) * scale if scale else output
    print({name: round(float(value), 4) for name, value in zip(names, real, strict=True)})
