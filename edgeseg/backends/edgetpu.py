"""The Edge TPU backend: TFLite's interpreter with the delegate libedgetpu. Not verified on hardware."""

from __future__ import annotations

import platform
import re
from typing import Any, ClassVar

from edgeseg.backends.base import Probe
from edgeseg.backends.cpu import InterpreterBackend, find_runtime
from edgeseg.backends.probing import try_backend
from edgeseg.core.errors import BackendError

# Names of libedgetpu in Coral's packages, and device strings of its delegate.
LIBRARIES = {"Linux": "libedgetpu.so.1", "Darwin": "libedgetpu.1.dylib", "Windows": "edgetpu.dll"}
DEVICE = re.compile(r"(usb|pci)?(:\d+)?")
_INSTALL_HINT = (
    "Install libedgetpu1-std from Coral's package source (https://coral.ai/software), or use another --backend."
)
_DEVICE_HINT = (
    "Plug the Edge TPU in and look with edgeseg doctor; a USB one may need another port, more power, or a user in the "
    "group plugdev."
)
_CRASH_HINT = (
    "libedgetpu and the TFLite runtime must come from the same release of TensorFlow Lite: libedgetpu 16.0 as Coral "
    "publishes it was built for 2.5 and crashes in runtimes from 2.12 on. Install a libedgetpu that was built for "
    "this runtime, or use another --backend."
)


class EdgeTpuBackend(InterpreterBackend):
    """A model on an Edge TPU."""

    name: ClassVar[str] = "edgetpu"

    def __init__(self, network: bytes, threads: int = 1, variant: str = "") -> None:
        """Load a flatbuffer that was compiled for the Edge TPU.

        Args:
            network: The flatbuffer.
            threads: CPU threads for the operators that are not mapped to the chip.
            variant: The device: "" for any, ":N" for the N-th, "usb" or "pci" for any of these, "usb:N", "pci:N".
        """
        _check_device(variant)
        self._delegate = _load_delegate({"device": variant} if variant else {})
        library = self._open(network, threads, [self._delegate])
        self.detail = f"{library}, Edge TPU {variant or 'on any port'}, delegated parts: {self.count_delegated()}"

    @classmethod
    def probe(cls, network: bytes, variant: str = "") -> Probe:
        """Load libedgetpu, find the device and run the network in a process of its own, since libedgetpu may crash."""
        _check_device(variant)
        return try_backend(cls.name, variant, network, _CRASH_HINT)


def _check_device(device: str) -> None:
    """Check the device's name; libedgetpu would refuse it without a reason."""
    if DEVICE.fullmatch(device) is None:
        raise BackendError(
            f"Expected an Edge TPU device, got {device!r}.",
            "Write edgetpu for any device, edgetpu:usb or edgetpu:pci for one of that kind, edgetpu:usb:0 or "
            "edgetpu:pci:1 for a certain one, edgetpu::1 for the second of any kind.",
        )


def _load_delegate(options: dict[str, str]) -> Any:
    library = LIBRARIES.get(platform.system(), LIBRARIES["Linux"])
    _, module = find_runtime()
    try:
        return module.load_delegate(library, options)
    except OSError as error:
        raise BackendError(f"Expected the library {library}, got: {error}.", _INSTALL_HINT) from error
    except AttributeError as error:
        raise BackendError(
            f"Expected {library} to be a TFLite delegate, got a library without {_name_missing(error)}.", _INSTALL_HINT
        ) from error
    except ValueError as error:
        # the first line only repeats which library failed
        said = str(error).partition("\n")[2].strip() or "no reason given, most often no device"
        raise BackendError(f"Expected an Edge TPU through {library}, got its refusal: {said}.", _DEVICE_HINT) from error


def _name_missing(error: AttributeError) -> str:
    symbol = re.search(r"tflite_plugin_\w+", str(error))
    return symbol[0] if symbol else str(error)
