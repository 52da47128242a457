"""Several networks of one cross-validation as one model: their calibrated scores are averaged before masks are decided.

An ensemble is a `Segmenter` whose backend runs all members; what follows the scores is the same as for one network.
On the data that it was trained on every case is judged by the member that has not seen it (`judge_out_of_fold`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.backends.base import Backend, Probe
from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.select import AUTO, BackendReport, Selection, select_backend
from edgeseg.core.card import Card, check_decision
from edgeseg.core.decision import ClassDecision, Decision, OperatingPoint
from edgeseg.core.errors import BackendError, ModelFileError
from edgeseg.core.limits import NAME_LETTERS
from edgeseg.core.modelfile import FOLDS_FILE, ModelFile, find_members, find_model, is_ensemble, read_model
from edgeseg.core.redact import show_name
from edgeseg.core.schema import SchemaError, from_plain, read_json_table
from edgeseg.core.signature import TensorSpec
from edgeseg.core.spec import InputSpec, OutputSpec, Quantisation
from edgeseg.core.stats import Estimate
from edgeseg.frame.postprocess import SCORE_ONE, tensor_to_scores
from edgeseg.frame.preprocess import Pixels, pixels_to_tensor
from edgeseg.inference.confidence import read_finding
from edgeseg.inference.masks import DEFAULT_MASK_OPTIONS, MaskOptions
from edgeseg.inference.segmenter import Segmenter
from edgeseg.inference.supervision import SupervisedSegmenter

# Members take the same pixels, and quantise them as their own card says.
_PIXELS, _REALS = Quantisation("uint8", 1 / 255), Quantisation()


@dataclass(frozen=True)
class Ensemble:
    """The model files of an ensemble, and the card that describes all together."""

    path: Path
    models: tuple[ModelFile, ...]
    card: Card


def read_ensemble(folder: Path) -> Ensemble:
    """Read the networks that `train --folds` left in a folder.

    Raises:
        ModelFileError: The network of a fold is missing or damaged, or they do not belong together.
    """
    models = [read_model(path) for path in find_members(folder)]
    return make_ensemble(folder, models, _read_decision(folder))


def make_ensemble(folder: Path, models: Sequence[ModelFile], decision: Decision | None = None) -> Ensemble:
    """Combine the networks of a cross-validation, in the order of its folds.

    Args:
        folder: Their folder.
        models: The networks.
        decision: Chosen on all cases out of fold; None takes the mean of what was chosen for each network.

    Raises:
        ModelFileError: They differ in inputs, classes or data.
    """
    for model in models[1:]:
        _refuse_stranger(models[0], model)
    _refuse_other_folds(folder, models)
    card = _combine_cards(folder, [model.card for model in models], decision)
    try:
        check_decision(card)
    except ValueError as error:
        raise _refuse_decision(folder / FOLDS_FILE, error) from error
    return Ensemble(folder, tuple(models), card)


def _refuse_stranger(first: ModelFile, other: ModelFile) -> None:
    for what, ours, theirs in (
        ("inputs", _describe_input(first.card.input), _describe_input(other.card.input)),
        ("classes", _describe_output(first.card.output), _describe_output(other.card.output)),
        ("findings", str(first.card.finding), str(other.card.finding)),
    ):
        if ours != theirs:
            raise ModelFileError(
                f"Expected networks with the same {what} in an ensemble, got {ours} in {first.path} and {theirs} in "
                f"{other.path}.",
                "Put back the networks of one cross-validation, or train it again.",
            )
    if first.card.provenance.data_fingerprint != other.card.provenance.data_fingerprint:
        raise ModelFileError(
            f"Expected networks that were trained on the same data in an ensemble, got {first.path} and {other.path} "
            "of different data.",
            "Put back the networks of one cross-validation, or train it again.",
        )


def _describe_input(spec: InputSpec) -> str:
    # white is the brightest training image's, so folds may differ in it
    region = "" if spec.region is None else f", region {spec.region}"
    kind = " + ".join(spec.modalities) or spec.colour
    return f"{spec.width}x{spec.height} {kind}, {spec.resize}, denoise {spec.denoise}{region}"


def _describe_output(spec: OutputSpec) -> str:
    return f"{', '.join(one.name for one in spec.classes)} ({spec.activation}, {spec.shape})"


def _refuse_other_folds(folder: Path, models: Sequence[ModelFile]) -> None:
    """Refuse runs that are not, one after the other, the folds of one division of the cases."""
    splits = [model.card.provenance.split for model in models]
    for number, split in enumerate(splits):
        wanted = dataclasses.replace(splits[0], folds=len(models), fold=number)
        if split != wanted:
            raise ModelFileError(
                f"Expected fold {number + 1} of {len(models)} of one cross-validation in {models[number].path}, got "
                f"fold {split.fold + 1} of {max(split.folds, 1)} with seed {split.seed}.",
                f"Put back the folders that edgeseg train --folds wrote into {folder}.",
            )


def _read_decision(folder: Path) -> Decision | None:
    """Read the decision that was chosen out of fold; None where the summary has none."""
    place = folder / FOLDS_FILE
    try:
        table = read_json_table(place).get("decision")
        return None if table is None else from_plain(Decision, table, allow_unknown=True)
    except (ValueError, SchemaError) as error:
        raise _refuse_decision(place, error) from error


def _refuse_decision(place: Path, error: ValueError) -> ModelFileError:
    return ModelFileError(
        f"Expected a decision with a valid operating point in {place}, got another: {error}.",
        "Copy the folder again, or train again with --overwrite.",
    )


def _combine_cards(folder: Path, cards: Sequence[Card], decision: Decision | None) -> Card:
    first = cards[0]
    hashes = "".join(card.sha256 for card in cards)
    return dataclasses.replace(
        first,
        name=show_name(f"{folder.resolve().name} ({len(cards)} networks)")[-NAME_LETTERS:],
        input=dataclasses.replace(first.input, white=max(card.input.white for card in cards)),
        input_quantisation=_PIXELS,
        output=dataclasses.replace(first.output, threshold=_mean([card.output.threshold for card in cards])),
        output_quantisation=_REALS,
        finding_quantisation=None if first.finding_quantisation is None else _REALS,
        parameters=sum(card.parameters for card in cards),
        macs=sum(card.macs for card in cards),
        sha256=hashlib.sha256(hashes.encode("ascii")).hexdigest(),
        golden_pairs=0,
        lint={},
        metrics=None,
        decision=_combine_decisions([card.decision for card in cards], decision),
    )


def _combine_decisions(decisions: Sequence[Decision | None], chosen: Decision | None) -> Decision | None:
    """Take what was chosen for all, or average the members' operating points; one without any leaves none.

    The training frames are described by the first member: others have seen mostly the same.
    """
    known = [decision for decision in decisions if decision is not None]
    frames = known[0].known if known else None
    if chosen is not None:
        return _forget_heat(dataclasses.replace(chosen, known=chosen.known or frames))
    if len(known) < len(decisions):
        return None
    rows = [{rule.name: rule for rule in decision.classes} for decision in known]
    names = [name for name in rows[0] if all(name in row for row in rows)]
    classes = tuple(_combine_rules([row[name] for row in rows]) for name in names)
    return _forget_heat(Decision(classes, known=frames))


def _combine_rules(rules: Sequence[ClassDecision]) -> ClassDecision:
    points = [rule.operating_point for rule in rules if rule.operating_point is not None]
    weight = _mean([rule.finding_weight for rule in rules])
    return ClassDecision(rules[0].name, _combine_points(points) if len(points) == len(rules) else None, weight)


def _combine_points(points: Sequence[OperatingPoint]) -> OperatingPoint:
    alarms = [point.false_alarm_rate for point in points if point.false_alarm_rate is not None]
    return dataclasses.replace(
        points[0],
        threshold=_mean([point.threshold for point in points]),
        cases=sum(point.cases for point in points),
        empty_cases=sum(point.empty_cases for point in points),
        sensitivity=_average([point.sensitivity for point in points]),
        coverage=_average([point.coverage for point in points]),
        false_alarm_rate=_average(alarms) if alarms else None,
    )


def _average(estimates: Sequence[Estimate]) -> Estimate:
    """Average what several networks reached on cases of their own; the mean of intervals would be none."""
    return Estimate(_mean([one.mean for one in estimates]), _mean([one.median for one in estimates]), None)


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 5)


def _forget_heat(decision: Decision) -> Decision:
    """Leave the temperatures out: members are calibrated before they are averaged."""
    return dataclasses.replace(decision, temperatures=(), finding_temperatures=())


class EnsembleBackend(Backend):
    """Runs every member on the same pixels, and averages their calibrated scores and finding probabilities."""

    name = "ensemble"

    def __init__(self, ensemble: Ensemble, members: Sequence[Selection]) -> None:
        """Take the loaded members.

        Args:
            ensemble: Their cards.
            members: The members on their backends.
        """
        self._cards = [model.card for model in ensemble.models]
        self._members = [member.backend for member in members]
        self._gains = [ensemble.card.input.white / card.input.white for card in self._cards]
        found = self._members[0].outputs
        for model, member in zip(ensemble.models, self._members, strict=True):
            if [end.shape for end in member.outputs] != [end.shape for end in found]:
                raise ModelFileError(
                    f"Expected networks with the same output grid in an ensemble, got {_list_shapes(found)} in "
                    f"{ensemble.models[0].path} and {_list_shapes(member.outputs)} in {model.path}.",
                    "Put back the networks of one cross-validation, or train it again.",
                )
        self.input = TensorSpec(self._members[0].input.shape, _PIXELS)
        self.outputs = tuple(TensorSpec(end.shape, _REALS) for end in found)
        self.detail = f"{len(members)} networks on {self._members[0].detail}"
        self.member_scores: tuple[NDArray[np.float32], ...] = ()
        """What every member gave for the newest pixels, calibrated, 0 to 1."""

    @classmethod
    def probe(cls, network: bytes, variant: str = "") -> Probe:  # noqa: ARG003 - as every backend
        """Say that no single file runs on this backend."""
        return Probe(False, "An ensemble is a folder of several model files.", "Choose --backend cpu.")

    @classmethod
    def computes_in_memory(cls) -> bool:
        """Say that members run on the CPU wherever it matters: streams refuse an accelerator for them."""
        return True

    def invoke(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Run every member on the pixels."""
        results = [self._run(number, tensor[0]) for number in range(len(self._members))]
        self.member_scores = tuple(result[0] for result in results)
        return tuple(_average_arrays(several) for several in zip(*results, strict=True))

    def _run(self, number: int, pixels: Pixels) -> list[NDArray[np.float32]]:
        """Run one member; gives its calibrated scores, then its finding probabilities."""
        card, gain = self._cards[number], self._gains[number]
        if gain != 1.0:
            pixels = np.minimum(pixels * np.float32(gain) + np.float32(0.5), 255).astype(np.uint8)
        outputs = self._members[number].invoke(pixels_to_tensor(pixels, card.input_quantisation))
        decision = card.decision
        heat, finding_heat = ((), ()) if decision is None else (decision.temperatures, decision.finding_temperatures)
        # a copy: the results of a backend are valid until its next call
        scores = tensor_to_scores(outputs[0], card.output_quantisation, heat).astype(np.float32)
        scores *= np.float32(1 / SCORE_ONE)
        if len(outputs) == 1 or card.finding_quantisation is None:
            return [scores]
        found = read_finding(outputs[1], card.finding_quantisation, finding_heat)
        return [scores, np.array(found, np.float32).reshape(outputs[1].shape[1:])]


def _average_arrays(arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Average arrays into a tensor with a batch of one."""
    return np.asarray(np.mean(np.stack(arrays), axis=0, keepdims=True, dtype=np.float32), dtype=np.float32)


def _list_shapes(outputs: Sequence[TensorSpec]) -> str:
    return ", ".join("x".join(map(str, end.shape[1:])) for end in outputs)


@dataclass(frozen=True)
class EnsembleSelection(Selection):
    """The backends of all members."""

    members: tuple[Selection, ...] = ()

    def report(self) -> BackendReport:
        """Report the members' backend, with the worst parity among them."""
        first = self.members[0].report()
        return dataclasses.replace(first, detail=self.backend.detail, parity=self.parity)


class EnsembleSegmenter(Segmenter):
    """An ensemble as one model: the same calls, the same results, the time of all members."""

    def __init__(
        self,
        ensemble: Ensemble,
        requested: str = AUTO,
        threads: int = 1,
        enforce_parity: bool = True,
        masks: MaskOptions = DEFAULT_MASK_OPTIONS,
    ) -> None:
        """Load all networks of an ensemble.

        Args:
            ensemble: The networks, read and verified.
            requested: A backend's name; "auto" takes the CPU, since no board is meant to run several networks.
            threads: CPU threads that the members may use, one after the other.
            enforce_parity: Whether to refuse a backend whose masks differ from a file's golden pairs.
            masks: Post-processing beyond the cards.
        """
        self.ensemble = ensemble
        self._judges: dict[str, Segmenter] = {}
        super().__init__(
            ModelFile(ensemble.path, b"", ensemble.card, ()),
            CpuBackend.name if requested == AUTO else requested,
            threads,
            enforce_parity,
            masks,
        )

    def judge_out_of_fold(self, member_of: Mapping[str, int]) -> None:
        """Let every case be judged by one member.

        Args:
            member_of: For the name of each case, the member that has not seen it, counted from 0.
        """
        requested = self.selection.requested
        members = {number: Segmenter(self.ensemble.models[number], requested) for number in set(member_of.values())}
        self._judges = {stem: members[number] for stem, number in member_of.items()}

    @property
    def judges_out_of_fold(self) -> bool:
        """Say whether cases are judged by single members."""
        return bool(self._judges)

    def for_case(self, stem: str) -> Segmenter:
        """Give the member that may judge a case of the training data; all together judge any other."""
        return self._judges.get(stem, self)

    def _load(self, model: ModelFile, requested: str, threads: int, enforce_parity: bool) -> Selection:  # noqa: ARG002
        members = tuple(select_backend(one, requested, threads, enforce_parity) for one in self.ensemble.models)
        known = [member.parity for member in members if member.parity is not None]
        return EnsembleSelection(
            EnsembleBackend(self.ensemble, members),
            requested,
            parity=min(known, key=lambda parity: (parity.held, parity.iou)) if known else None,
            members=members,
        )


def open_segmenter(
    path: Path,
    requested: str = AUTO,
    threads: int = 1,
    enforce_parity: bool = True,
    masks: MaskOptions = DEFAULT_MASK_OPTIONS,
    supervised: bool = False,
) -> Segmenter:
    """Load a model file or an ensemble.

    Args:
        path: A model file, a folder that means one, or the folder of a cross-validation.
        requested: "auto", or the name of a backend.
        threads: CPU threads.
        enforce_parity: Whether to refuse a backend whose masks differ from the golden pairs.
        masks: Post-processing beyond the card.
        supervised: Whether a model file fails over to the CPU, for streams; ensembles run there anyway.
    """
    if is_ensemble(path):
        if supervised and requested not in (AUTO, CpuBackend.name):
            raise BackendError(
                f"Expected the CPU for a stream through an ensemble, got the backend {requested}.", "Use --backend cpu."
            )
        return EnsembleSegmenter(read_ensemble(path), requested, threads, enforce_parity, masks)
    kind = SupervisedSegmenter if supervised else Segmenter
    return kind(read_model(find_model(path)), requested, threads, enforce_parity, masks)
