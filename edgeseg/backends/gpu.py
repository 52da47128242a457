"""The GPU backend: LiteRT's CompiledModel with the GPU accelerator, which uses Vulkan on Linux."""

from __future__ import annotations

import math
import re
import weakref
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeseg.backends.base import Backend, Probe
from edgeseg.backends.cpu import find_runtime, name_version
from edgeseg.backends.probe_model import build_probe_model
from edgeseg.backends.probing import try_backend, try_once
from edgeseg.core.errors import BackendError, UnknownNameError
from edgeseg.core.process import NativeLog, captured_native_output
from edgeseg.core.redact import to_one_line
from edgeseg.core.signature import TensorSpec, check_ends, order_outputs
from edgeseg.core.spec import Quantisation

# The first is the default: it gives the CPU's masks, while float16 overflows silently in large sums.
PRECISIONS = ("float32", "float16")
# Lines of LiteRT's log and exceptions: the GPU in use, missing drivers, and the cause of a failure.
_ADAPTER = re.compile(r"Selected adapter: (.+?)(?:, arch=|$)", re.MULTILINE)
_CAUSES = re.compile(r"Couldn't load Vulkan: [^\n]+|Found no drivers|No adapters found")
_LOGGED_ERROR = re.compile(r"^ERROR: ([^\[\n].*?)\.?$", re.MULTILINE)
_LAST_FRAME = re.compile(r"^└ ([^\[\n]*?)\.?$", re.MULTILINE)
_CRASH_HINT = "Use --backend cpu for this file, or write it again with edgeseg compress."
_HINT = (
    "Install the GPU's Vulkan driver and libvulkan1 (Debian: apt-get install libvulkan1 mesa-vulkan-drivers; "
    "NVIDIA: its own driver), or use --backend cpu."
)


@dataclass
class _Handles:
    """The objects of a loaded model; None when they were released."""

    network: bytes
    model: Any
    source: Any
    sinks: tuple[Any, ...]


class GpuBackend(Backend):
    """A model on the GPU."""

    name: ClassVar[str] = "gpu"

    def __init__(self, network: bytes, threads: int = 1, variant: str = "") -> None:  # noqa: ARG002 - no CPU threads
        """Load a flatbuffer; the variant is the precision: float32 or float16."""
        precision, log = _check_precision(variant), NativeLog()
        try:
            with captured_native_output() as log:
                self._handles = _compile(network, precision)
                self.input = _describe(self._handles.source)
                found = [_describe(sink) for sink in self._handles.sinks]
                self._order = order_outputs([sink.shape for sink in found])
                self.outputs = tuple(found[number] for number in self._order)
                # a driver may fail in the first run only, which must not be the first frame
                self._run(np.zeros(self.input.shape, self.input.quantisation.dtype))
        except (RuntimeError, ValueError) as error:
            raise explain_refusal(log.text, str(error)) from error
        share = "" if self._handles.model.is_fully_accelerated() else ", part of it on the CPU"
        self.detail = f"LiteRT, {find_adapter(log.text)}, {precision}{share}"
        # a finalizer and no __del__: it also runs at the end of the process, while LiteRT is still loaded
        weakref.finalize(self, _release, self._handles)

    @classmethod
    def probe(cls, network: bytes = b"", variant: str = "") -> Probe:
        """Find the adapter by a tiny inference, then run the network if it is new; both in a child process."""
        _check_precision(variant)
        if find_spec("ai_edge_litert") is None:
            return Probe(False, "Expected LiteRT for the GPU, which is not installed.", "pip install ai-edge-litert")
        tiny = try_backend(cls.name, variant, build_probe_model(), _HINT)
        if not (tiny.available and network):
            return tiny
        library, module = find_runtime()
        return try_once(cls.name, variant, network, f"{name_version(library, module)} {tiny.detail}", _CRASH_HINT)

    def invoke(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Run inference once."""
        try:
            return self._run(tensor)
        except (RuntimeError, ValueError) as error:
            raise BackendError(f"Expected an inference on {self.detail}, got the driver's refusal.", _HINT) from error

    def _run(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        handles = self._handles
        handles.source.write(tensor)
        handles.model.run_by_index(0, [handles.source], list(handles.sinks))
        return tuple(_read(handles.sinks[number], sink) for number, sink in zip(self._order, self.outputs, strict=True))


def _check_precision(variant: str) -> str:
    if variant not in ("", *PRECISIONS):
        raise UnknownNameError("precision of the GPU", variant, PRECISIONS)
    return variant or PRECISIONS[0]


def _compile(network: bytes, precision: str) -> _Handles:
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.options import HardwareAccelerator, Options

    options = Options(hardware_accelerators=HardwareAccelerator.GPU)
    # without it LiteRT computes in float16 wherever the GPU can
    options.gpu_options.enforce_f32 = precision == "float32"
    model = CompiledModel.from_buffer(network, options=options)
    (source,), sinks = model.create_input_buffers(0), model.create_output_buffers(0)
    check_ends(1, len(sinks))
    return _Handles(network, model, source, tuple(sinks))


def find_adapter(log: str) -> str:
    """Parse the GPU's name from LiteRT's log; no API returns it."""
    adapter = _ADAPTER.search(log)
    return adapter[1] if adapter else "adapter not named"


def explain_refusal(log: str, error: str) -> BackendError:
    """Find the cause of a failure in LiteRT's log, else in its exception, which seldom names one."""
    adapter, cause = _ADAPTER.search(log), _LOGGED_ERROR.search(log) or _LAST_FRAME.search(error)
    if adapter is not None:
        return BackendError(
            f"Expected a network that LiteRT runs on {adapter[1]}, got its refusal: "
            f"{to_one_line(cause[1]) if cause else 'it gave no reason'}.",
            "Use --backend cpu for this file, or another one that edgeseg compress wrote.",
        )
    causes = list(dict.fromkeys(_CAUSES.findall(log)))
    said = "; ".join(causes) if causes else "a refusal without a reason"
    return BackendError(f"Expected a GPU that LiteRT can use, got: {said}.", _HINT)


def _release(handles: _Handles) -> None:
    """Release the GPU; LiteRT would log it on stderr."""
    with captured_native_output():
        handles.source = handles.model = None
        handles.sinks = ()


def _read(buffer: Any, tensor: TensorSpec) -> NDArray[Any]:
    return np.asarray(buffer.read(math.prod(tensor.shape), tensor.quantisation.dtype)).reshape(tensor.shape)


def _describe(buffer: Any) -> TensorSpec:
    details = buffer.get_tensor_details()
    return TensorSpec(tuple(int(n) for n in details["shape"]), Quantisation(str(details["dtype"])))
