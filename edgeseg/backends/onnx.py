"""The ONNX backend: onnxruntime with TensorRT, CUDA or the CPU, in this order of preference."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeseg.backends.base import Backend, Probe, refuse_variant
from edgeseg.backends.probing import try_once
from edgeseg.core.errors import BackendError, EdgesegError
from edgeseg.core.install import MissingExtraError
from edgeseg.core.redact import to_one_line
from edgeseg.core.signature import TensorSpec, order_outputs
from edgeseg.core.spec import Quantisation

ACCELERATORS = ("TensorrtExecutionProvider", "CUDAExecutionProvider")
PROVIDERS = (*ACCELERATORS, "CPUExecutionProvider")
_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int8)": "int8", "tensor(uint8)": "uint8"}
_CRASH_HINT = "Export the file again with edgeseg export --to onnx, or use the .tflite with --backend cpu."


class OnnxBackend(Backend):
    """An ONNX model in onnxruntime."""

    name: ClassVar[str] = "onnx"

    def __init__(self, network: bytes, threads: int = 1, variant: str = "") -> None:
        """Load an ONNX model."""
        refuse_variant(self.name, variant)
        runtime = _import_onnxruntime()
        wanted = [name for name in PROVIDERS if name in runtime.get_available_providers()]
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            # enable_fallback=0: a provider that fails must not be replaced silently
            self._session = runtime.InferenceSession(network, options, wanted, enable_fallback=0)
        except _list_errors() as error:
            raise BackendError(
                f"Expected a model that onnxruntime can load, got its refusal: {to_one_line(error)}.",
                "Export the file again with edgeseg export --to onnx.",
            ) from error
        sources, sinks = self._session.get_inputs(), self._session.get_outputs()
        if len(sources) != 1 or len(sinks) not in (1, 2):
            raise BackendError(
                f"Expected one input and one or two outputs, got {len(sources)} and {len(sinks)}.",
                "Export the file again with edgeseg export --to onnx.",
            )
        found = [_describe(sink) for sink in sinks]
        order = order_outputs([sink.shape for sink in found])
        self._input_name: str = sources[0].name
        self._output_names: list[str] = [sinks[number].name for number in order]
        self.input, self.outputs = _describe(sources[0]), tuple(found[number] for number in order)
        self.detail = f"onnxruntime {runtime.__version__}, {_describe_provider(wanted, self._session.get_providers())}"

    @classmethod
    def probe(cls, network: bytes = b"", variant: str = "") -> Probe:
        """Probe onnxruntime and its providers and, if a network is given, whether it runs in a process of its own."""
        refuse_variant(cls.name, variant)
        try:
            runtime = _import_onnxruntime()
        except EdgesegError as error:
            return Probe(False, error.message, error.hint)
        known = [name for name in PROVIDERS if name in runtime.get_available_providers()]
        detail = f"onnxruntime {runtime.__version__}, {', '.join(known)}"
        return try_once(cls.name, variant, network, detail, _CRASH_HINT) if network else Probe(True, detail)

    @classmethod
    def computes_in_memory(cls) -> bool:
        """Say whether this onnxruntime has no provider but the CPU."""
        return not {*ACCELERATORS} & {*_import_onnxruntime().get_available_providers()}

    def invoke(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Run inference once."""
        try:
            outputs = self._session.run(self._output_names, {self._input_name: tensor})
        except _list_errors() as error:
            raise BackendError(
                f"Expected an inference on {self.detail}, got: {to_one_line(error)}.",
                "Try the .tflite with --backend cpu.",
            ) from error
        return tuple(np.asarray(output) for output in outputs)


def _describe_provider(wanted: list[str], loaded: list[str]) -> str:
    """Name the provider in use, and better ones that did not load: onnxruntime only logs a warning about them."""
    missing = [name for name in wanted if name not in loaded]
    return f"{loaded[0]} ({', '.join(missing)} did not load)" if missing else loaded[0]


def _describe(end: Any) -> TensorSpec:
    # a dynamic dimension has a name or None in place of a number
    shape = tuple(int(n) if isinstance(n, int) else -1 for n in end.shape)
    return TensorSpec(shape, Quantisation(_TYPES.get(end.type, end.type)))


def _import_onnxruntime() -> Any:
    if find_spec("onnxruntime") is None:
        raise MissingExtraError("onnxruntime", "onnx")
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise BackendError(
            f"Expected onnxruntime to load, got: {error}.", "Repair it: pip install --force-reinstall onnxruntime"
        ) from error


def _list_errors() -> tuple[type[Exception], ...]:
    """List the exceptions of onnxruntime: a dozen classes whose only common base is Exception."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    kinds = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*kinds, RuntimeError, ValueError)
