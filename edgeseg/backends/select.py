"""Select a backend by name, or the best one that works on this machine; a fallback is always reported."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from edgeseg.backends.base import Backend
from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.edgetpu import EdgeTpuBackend
from edgeseg.backends.gpu import GpuBackend
from edgeseg.backends.onnx import OnnxBackend
from edgeseg.backends.parity import Parity, measure_parity, refuse_other_masks
from edgeseg.core.card import COMPILED, OK, UNMAPPED, read_verdict
from edgeseg.core.errors import BackendError, EdgesegError, ModelFileError, UnknownNameError
from edgeseg.core.modelfile import AnyFile
from edgeseg.core.registration_card import AnyCard
from edgeseg.core.signature import has_integer_stride
from edgeseg.machine.boards import recommend_backends

_LOG = logging.getLogger(__name__)
AUTO = "auto"
BACKENDS: dict[str, type[Backend]] = {kind.name: kind for kind in (CpuBackend, GpuBackend, EdgeTpuBackend, OnnxBackend)}


@dataclass(frozen=True)
class BackendReport:
    """The backend in use, the reason of a fallback, and parity; part of every report."""

    name: str
    requested: str
    fallback_reason: str | None
    detail: str
    parity: Parity | None


@dataclass(frozen=True)
class Selection:
    """A loaded backend, the requested one, and the reason if they differ."""

    backend: Backend
    requested: str
    fallback_reason: str | None = None
    parity: Parity | None = None

    def report(self) -> BackendReport:
        """Build the report of this selection."""
        return BackendReport(self.backend.name, self.requested, self.fallback_reason, self.backend.detail, self.parity)


def log_fallback(selection: Selection) -> None:
    """Warn when a model runs on another backend than was asked for."""
    if selection.fallback_reason is not None:
        _LOG.warning("runs on %s, since: %s", selection.backend.name, selection.fallback_reason)


def select_backend(model: AnyFile, requested: str = AUTO, threads: int = 1, enforce_parity: bool = True) -> Selection:
    """Load a model file on the requested backend, or on the best one for "auto".

    Args:
        model: The file, read and verified.
        requested: "auto", or the name of a backend, with its variant behind a colon.
        threads: How many threads a CPU backend may use.
        enforce_parity: Whether a backend without parity is refused.
    """
    if threads < 1:
        raise BackendError(f"Expected at least 1 thread, got {threads}.", "Give --threads 1 or more.")
    if requested != AUTO:
        backend, parity = _open_backend(model, requested, threads, enforce_parity)
        return Selection(backend, requested, None, parity)
    return _try_in_turn(model, _rank_backends(model), threads, enforce_parity)


def run_trial_first(model: AnyFile, requested: str = AUTO) -> None:
    """Run the trial of a new file ahead, so that loading can be timed without it; errors are left to loading."""
    name, _, variant = (_rank_backends(model)[0] if requested == AUTO else requested).partition(":")
    if name in (CpuBackend.name, OnnxBackend.name) and model.is_onnx == (name == OnnxBackend.name):
        with suppress(EdgesegError):
            BACKENDS[name].probe(model.flatbuffer, variant)


def _try_in_turn(model: AnyFile, ranked: Sequence[str], threads: int, enforce_parity: bool) -> Selection:
    # every refusal is kept: together they are the reason of the fallback
    refusals: list[BackendError] = []
    for name in ranked:
        try:
            _check_verdict(model, name)
            backend, parity = _open_backend(model, name, threads, enforce_parity)
        except BackendError as error:
            refusals.append(BackendError(f"{name}: {error.message}", error.hint))
            continue
        return Selection(backend, AUTO, " ".join(error.message for error in refusals) or None, parity)
    raise BackendError(" ".join(error.message for error in refusals), refusals[-1].hint)


def _rank_backends(model: AnyFile) -> tuple[str, ...]:
    """List the backends to try: the only one for this kind of file, or those of this board's profile, then the CPU."""
    if model.is_onnx:
        return (OnnxBackend.name,)
    if is_compiled(model):
        return (EdgeTpuBackend.name,)
    # the CPU runs every .tflite that was not compiled, so it is the last resort
    return tuple(dict.fromkeys((*recommend_backends(), CpuBackend.name)))


def _open_backend(model: AnyFile, requested: str, threads: int, enforce_parity: bool) -> tuple[Backend, Parity | None]:
    name, _, variant = requested.partition(":")
    if name not in BACKENDS:
        raise UnknownNameError("backend", name, (AUTO, *BACKENDS))
    _check_kind(model, name)
    probe = BACKENDS[name].probe(model.flatbuffer, variant)
    if not probe.available:
        raise BackendError(probe.detail, probe.hint)
    backend = BACKENDS[name](model.flatbuffer, threads, variant)
    _check_signature(model, backend)
    parity = measure_parity(backend, model, enforce_parity)
    refuse_other_masks(backend, parity)
    return backend, parity


def is_compiled(model: AnyFile) -> bool:
    """Say whether a file was compiled for the Edge TPU; no other backend can run it."""
    # the name of the custom operator is enough; parsing the graph needs LiteRT's schema, which old runtimes lack
    return COMPILED.encode() in model.flatbuffer


def _check_kind(model: AnyFile, name: str) -> None:
    """Refuse a file of the wrong kind; a backend would say less, or run it on the CPU silently."""
    if model.is_onnx != (name == OnnxBackend.name):
        kind, other = ("an ONNX file", "onnx") if model.is_onnx else ("a .tflite file", "cpu")
        raise BackendError(
            f"Expected another kind of file for the backend {name}, got {kind}.", f"Use --backend {other}."
        )
    if name == EdgeTpuBackend.name and not is_compiled(model):
        raise BackendError(
            "Expected a file that was compiled for the Edge TPU, got one that was not: all of it would run on the CPU.",
            "Compile it with edgeseg export MODEL --to edgetpu, or use --backend cpu.",
        )


def _check_verdict(model: AnyFile, name: str) -> None:
    """Refuse a target that the card's linter rules out; a compiled file may have operators left on the CPU."""
    line = model.card.lint.get(name.partition(":")[0], OK)
    if read_verdict(line) == UNMAPPED and not is_compiled(model):
        raise BackendError(f"The card says of this target: {line}.", "Choose a --backend yourself to try it.")


def _check_signature(model: AnyFile, backend: Backend) -> None:
    card, source, (sink, *others) = model.card, backend.input, backend.outputs
    wanted = (1, card.input.height, card.input.width, card.input_channels)
    types = (card.input_quantisation.dtype, card.output_quantisation.dtype)
    found = (source.quantisation.dtype, sink.quantisation.dtype)
    drawn = has_integer_stride(card.input, sink.shape) and sink.shape[-1] == card.output_channels
    if [(other.shape, other.quantisation.dtype) for other in others] != _list_others(card):
        raise ModelFileError(
            f"Expected the model in {model.path} to give {card.finding_channels} findings as its card says, got "
            f"{', '.join(other.describe() for other in others) or 'no second output'}.",
            "Write the file again with edgeseg compress.",
        )
    if source.shape != wanted or not drawn or found != types:
        raise ModelFileError(
            f"Expected the model in {model.path} to take {wanted} and give {card.output_channels} channels as its "
            f"card says ({' to '.join(types)}), got {source.shape} and {sink.shape} ({' to '.join(found)}).",
            "Write the file again with edgeseg compress.",
        )


def _list_others(card: AnyCard) -> list[tuple[tuple[int, ...], str]]:
    """List shape and type of the outputs beside the mask that a card announces."""
    quantisation = card.finding_quantisation
    return [] if quantisation is None else [((1, 1, 1, card.finding_channels), quantisation.dtype)]
