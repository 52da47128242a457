"""The CPU backend: TFLite's interpreter with XNNPACK; and the base class of all backends on that interpreter."""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeseg.backends.base import Backend, Probe, refuse_variant
from edgeseg.backends.probing import key_network, remember_here, try_once
from edgeseg.core.card import COMPILED
from edgeseg.core.errors import BackendError
from edgeseg.core.process import quiet_native_output
from edgeseg.core.redact import to_one_line
from edgeseg.core.signature import TensorSpec, check_ends, order_outputs
from edgeseg.core.spec import Quantisation

# Interpreter modules and their names, the best first: int8 models run several times slower on tflite-runtime.
RUNTIMES = {
    "ai_edge_litert.interpreter": "LiteRT",
    "tflite_runtime.interpreter": "tflite-runtime",
    "tensorflow.lite.python.interpreter": "TensorFlow",
}
_HINT = "Install the runtime with: pip install ai-edge-litert"
CRASH_HINT = "The file is damaged or was made to do harm: copy it again, or write it again with edgeseg compress."


class InterpreterBackend(Backend):
    """A model in TFLite's interpreter, with or without a delegate."""

    def _open(self, flatbuffer: bytes, threads: int, delegates: Sequence[Any] = ()) -> str:
        """Load the flatbuffer, and return the name of the runtime."""
        library, module = find_runtime()
        try:
            with quiet_native_output():
                self._interpreter = module.Interpreter(
                    model_content=flatbuffer, num_threads=threads, experimental_delegates=list(delegates)
                )
                self._interpreter.allocate_tensors()
            (source,) = self._interpreter.get_input_details()
            sinks = self._interpreter.get_output_details()
            check_ends(1, len(sinks))
        except (RuntimeError, ValueError) as error:
            raise _explain_refusal(library, error) from error
        self._input_index: int = source["index"]
        found = [_describe(sink) for sink in sinks]
        order = order_outputs([sink.shape for sink in found])
        self._output_indices: tuple[int, ...] = tuple(sinks[number]["index"] for number in order)
        self.input, self.outputs = _describe(source), tuple(found[number] for number in order)
        return library

    def invoke(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Run inference once."""
        try:
            self._interpreter.set_tensor(self._input_index, tensor)
            self._interpreter.invoke()
            # a copy: while a view of the tensor exists, the interpreter refuses to run
            return tuple([np.asarray(self._interpreter.get_tensor(index)) for index in self._output_indices])
        except (RuntimeError, ValueError) as error:
            raise BackendError(
                f"Expected an inference on {self.detail}, got: {to_one_line(error)}.",
                f"Look at the device with edgeseg doctor; other backends than {self.name} may still run the file.",
            ) from error

    def count_delegated(self) -> int:
        """Count the partitions of the graph that a delegate took over."""
        # no public API lists delegated operators; without this one, none is counted
        read_operators = getattr(self._interpreter, "_get_ops_details", None)
        return 0 if read_operators is None else sum(o["op_name"] == "DELEGATE" for o in read_operators())


def _explain_refusal(library: str, error: Exception) -> BackendError:
    operator = re.search(r"unresolved custom op: ([\w.-]+)", str(error))
    if operator is None:
        said = to_one_line(error) if str(error) else "it gave no reason, most often it lacks memory"
        return BackendError(
            f"Expected a model that {library} can load, got its refusal: {said}.",
            "Write the file again with edgeseg compress for this target.",
        )
    if operator[1].rstrip(".") == COMPILED:
        return BackendError(
            f"Expected operators that {library} knows, got {COMPILED}: the file was compiled for the Edge TPU.",
            "Use --backend edgetpu, or the file as it was before it was compiled.",
        )
    return BackendError(
        f"Expected operators that {library} knows, got the custom operator {operator[1].rstrip('.')}.",
        "Write the file again with edgeseg compress, which uses no custom operators.",
    )


def find_runtime() -> tuple[str, Any]:
    """Find the best installed TFLite runtime: its name and interpreter module."""
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


def name_version(library: str, module: Any) -> str:
    """Name the installed runtime; the time of installation distinguishes builds of one version."""
    package = sys.modules[module.__name__.partition(".")[0]]
    place = getattr(package, "__file__", None)
    installed = Path(place).stat().st_mtime_ns if place else 0
    return f"{library} {getattr(package, '__version__', '')} {installed}"


def _check_legacy_runtime() -> None:
    # the last wheels of tflite-runtime were built for the ABI of numpy 1
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


def _describe(tensor: dict[str, Any]) -> TensorSpec:
    scale, zero_point = tensor["quantization"]
    dtype = np.dtype(tensor["dtype"]).name
    if dtype.startswith("float"):  # converters may leave a scale behind, which floats ignore
        scale, zero_point = 0.0, 0
    return TensorSpec(tuple(int(n) for n in tensor["shape"]), Quantisation(dtype, float(scale), int(zero_point)))


class CpuBackend(InterpreterBackend):
    """A model on the CPU."""

    name: ClassVar[str] = "cpu"

    def __init__(self, network: bytes, threads: int = 1, variant: str = "") -> None:
        """Load a flatbuffer."""
        refuse_variant(self.name, variant)
        library = self._open(network, threads)
        self.detail = f"{library}, {'XNNPACK' if self.uses_xnnpack() else 'no XNNPACK'}, threads: {threads}"

    @classmethod
    def probe(cls, network: bytes = b"", variant: str = "") -> Probe:
        """Probe the runtime and, if a network is given, whether it runs in a process of its own."""
        refuse_variant(cls.name, variant)
        try:
            library, module = find_runtime()
        except BackendError as error:
            return Probe(False, error.message, error.hint)
        if not network:
            return Probe(True, library)
        return try_once(cls.name, variant, network, name_version(library, module), CRASH_HINT)

    @classmethod
    def computes_in_memory(cls) -> bool:
        """Return true."""
        return True

    def uses_xnnpack(self) -> bool:
        """Say whether XNNPACK took over operators of this model."""
        return self.count_delegated() > 0


def skip_trial(network: bytes) -> None:
    """Skip the trial of a network that this process itself converted and ran."""
    library, module = find_runtime()
    remember_here(key_network(network, CpuBackend.name, "", name_version(library, module)))
