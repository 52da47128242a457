"""The CPU backend: LiteRT's interpreter with XNNPACK, or an older runtime with a warning that says why."""

from __future__ import annotations

import importlib
import warnings
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeseg.backends.base import Backend, Probe, TensorInfo
from edgeseg.core.errors import BackendError
from edgeseg.core.quiet import quiet_native_output
from edgeseg.core.spec import Quantisation

RUNTIMES = {
    "ai_edge_litert.interpreter": "LiteRT",
    "tflite_runtime.interpreter": "tflite-runtime",
    "tensorflow.lite.python.interpreter": "TensorFlow",
}
_HINT = "Install the runtime with: pip install ai-edge-litert"


class CpuBackend(Backend):
    """A model on the CPU."""

    name: ClassVar[str] = "cpu"

    def __init__(self, flatbuffer: bytes, threads: int = 1) -> None:
        """Load a flatbuffer.

        Args:
            flatbuffer: The model.
            threads: How many threads the runtime may use.
        """
        library, module = find_runtime()
        try:
            with quiet_native_output():
                self._interpreter = module.Interpreter(model_content=flatbuffer, num_threads=threads)
                self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise BackendError(
                f"Expected a model that {library} can load, got its refusal: {error}.",
                "Write the file again with edgeseg compress for this target.",
            ) from error
        self._read_ends()
        self.detail = f"{library}, {'XNNPACK' if self.uses_xnnpack() else 'no XNNPACK'}, threads: {threads}"

    def _read_ends(self) -> None:
        (source,) = self._interpreter.get_input_details()
        (sink,) = self._interpreter.get_output_details()
        self._input_index: int = source["index"]
        self._output_index: int = sink["index"]
        self.input, self.output = _describe(source), _describe(sink)

    @classmethod
    def probe(cls) -> Probe:
        """Say which runtime would be used."""
        try:
            library, _ = find_runtime()
        except BackendError as error:
            return Probe(False, error.message, error.hint)
        return Probe(True, library)

    def invoke(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Run the model once."""
        self._interpreter.set_tensor(self._input_index, tensor)
        self._interpreter.invoke()
        return np.asarray(self._interpreter.get_tensor(self._output_index))

    def uses_xnnpack(self) -> bool:
        """Prove that XNNPACK took over operators, instead of assuming it."""
        read_operators = getattr(self._interpreter, "_get_ops_details", None)
        return read_operators is not None and any(o["op_name"] == "DELEGATE" for o in read_operators())


def find_runtime() -> tuple[str, Any]:
    """Find the best installed TFLite runtime: its name and its interpreter module."""
    for path, library in RUNTIMES.items():
        if find_spec(path.split(".")[0]) is None:
            continue
        try:
            module = importlib.import_module(path)
        except ImportError as error:
            raise BackendError(
                f"Expected {library} to load, got: {error}.", f"Repair that package, or: {_HINT}"
            ) from error
        if library == "tflite-runtime":
            _check_legacy_runtime()
        return library, module
    raise BackendError("Expected a TFLite runtime on this machine, got none.", _HINT)


def _check_legacy_runtime() -> None:
    if int(np.__version__.split(".")[0]) >= 2:
        raise BackendError(
            f"Expected numpy below 2 for tflite-runtime, got {np.__version__}.",
            "Install: pip install 'numpy<2', or use ai-edge-litert instead.",
        )
    warnings.warn(
        "tflite-runtime is used because ai-edge-litert is not installed: int8 models run several times slower on it",
        RuntimeWarning,
        stacklevel=3,
    )


def _describe(tensor: dict[str, Any]) -> TensorInfo:
    scale, zero_point = tensor["quantization"]
    dtype = np.dtype(tensor["dtype"]).name
    return TensorInfo(tuple(int(n) for n in tensor["shape"]), Quantisation(dtype, float(scale), int(zero_point)))
