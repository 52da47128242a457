"""edgeseg: train, compress and stream ultrasound segmentation on small boards.

    model = edgeseg.load("int8.tflite")
    result = model(frame)                              # labels, scores, areas, times
    for result in edgeseg.stream("int8.tflite", "0"):  # camera 0
        ...
    edgeseg.predict("int8.tflite", "exams", "masks", overlay=True)  # a folder in, masks out
    run = edgeseg.train("data", "runs/first", model="small")
    small = edgeseg.compress(run, "runs/small")
    figures = edgeseg.evaluate(small, "data")

Names are loaded when they are used, so importing edgeseg alone loads neither NumPy nor OpenCV nor TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeseg.api import (
        CompressResult,
        TrainResult,
        benchmark,
        check_data,
        check_machine,
        compress,
        evaluate,
        load,
        predict,
        train,
        write_phantoms,
    )
    from edgeseg.bench.measure import BenchResult
    from edgeseg.compression.recipe import Recipe, load_recipe
    from edgeseg.core.card import Card
    from edgeseg.core.errors import EdgesegError
    from edgeseg.core.modelfile import ModelFile, read_model
    from edgeseg.data.dataset import Dataset, open_dataset
    from edgeseg.evaluation.score import Evaluation
    from edgeseg.explanation.explain import Explanation
    from edgeseg.explanation.heatmap import draw_explanation
    from edgeseg.frame.images import list_images, read_image, write_image
    from edgeseg.inference.confidence import ClassFinding
    from edgeseg.inference.instances import Instance
    from edgeseg.inference.masks import ClassArea, MaskOptions, draw_overlay, measure_areas
    from edgeseg.inference.segmenter import Segmentation, Segmenter
    from edgeseg.machine.boards import Board, list_boards, load_board
    from edgeseg.prediction.folder import PredictResult
    from edgeseg.prediction.options import PredictOptions
    from edgeseg.registration.register import Registration, register
    from edgeseg.streaming.loop import StreamReport
    from edgeseg.streaming.options import CaptureOptions, SinkOptions, StreamOptions
    from edgeseg.streaming.sinks.base import Result
    from edgeseg.streaming.sources.base import Frame
    from edgeseg.streaming.stream import Stream, stream
    from edgeseg.training.explaining import explain
    from edgeseg.training.options import TrainOptions

__all__ = [
    "BenchResult",
    "Board",
    "CaptureOptions",
    "Card",
    "ClassArea",
    "ClassFinding",
    "CompressResult",
    "Dataset",
    "EdgesegError",
    "Evaluation",
    "Explanation",
    "Frame",
    "Instance",
    "MaskOptions",
    "ModelFile",
    "PredictOptions",
    "PredictResult",
    "Recipe",
    "Registration",
    "Result",
    "Segmentation",
    "Segmenter",
    "SinkOptions",
    "Stream",
    "StreamOptions",
    "StreamReport",
    "TrainOptions",
    "TrainResult",
    "__version__",
    "benchmark",
    "check_data",
    "check_machine",
    "compress",
    "draw_explanation",
    "draw_overlay",
    "evaluate",
    "explain",
    "list_boards",
    "list_images",
    "load",
    "load_board",
    "load_recipe",
    "measure_areas",
    "open_dataset",
    "predict",
    "read_image",
    "read_model",
    "register",
    "stream",
    "train",
    "write_image",
    "write_phantoms",
]
__version__ = "0.1.0"

# Where the names are that do not come from edgeseg.api.
_MODULES = {
    "BenchResult": "bench.measure",
    "Board": "machine.boards",
    "CaptureOptions": "streaming.options",
    "Card": "core.card",
    "ClassArea": "inference.masks",
    "Instance": "inference.instances",
    "ClassFinding": "inference.confidence",
    "Dataset": "data.dataset",
    "EdgesegError": "core.errors",
    "Evaluation": "evaluation.score",
    "Explanation": "explanation.explain",
    "Frame": "streaming.sources.base",
    "MaskOptions": "inference.masks",
    "ModelFile": "core.modelfile",
    "PredictOptions": "prediction.options",
    "Registration": "registration.register",
    "register": "registration.register",
    "PredictResult": "prediction.folder",
    "Recipe": "compression.recipe",
    "Result": "streaming.sinks.base",
    "Segmentation": "inference.segmenter",
    "Segmenter": "inference.segmenter",
    "SinkOptions": "streaming.options",
    "Stream": "streaming.stream",
    "StreamOptions": "streaming.options",
    "StreamReport": "streaming.loop",
    "TrainOptions": "training.options",
    "draw_explanation": "explanation.heatmap",
    "draw_overlay": "inference.masks",
    "explain": "training.explaining",
    "list_boards": "machine.boards",
    "list_images": "frame.images",
    "load_board": "machine.boards",
    "load_recipe": "compression.recipe",
    "measure_areas": "inference.masks",
    "open_dataset": "data.dataset",
    "read_image": "frame.images",
    "read_model": "core.modelfile",
    "stream": "streaming.stream",
    "write_image": "frame.images",
}


def __getattr__(name: str) -> object:
    """Load a name of the front door when it is used for the first time."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"edgeseg.{_MODULES.get(name, 'api')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
