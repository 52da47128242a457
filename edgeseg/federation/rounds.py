"""The rounds of a federation: train at the sites, check what they send, average it with Flower, measure the average."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from edgeseg.core.errors import RunError, TrainingError
from edgeseg.core.files import write_bytes
from edgeseg.core.limits import ARRAY_BYTES, read_regular
from edgeseg.core.redact import to_one_line
from edgeseg.core.schema import from_plain, parse_json
from edgeseg.federation.flower import (
    Code,
    EvaluateIns,
    FedAvg,
    FedProx,
    FitIns,
    FitRes,
    ReconnectIns,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from edgeseg.federation.plan import Plan, SiteFacts, hash_together, write_message
from edgeseg.federation.roster import Member
from edgeseg.federation.site import JUDGE, KEEP, TASK, Rounds
from edgeseg.federation.weights import Shapes, Weights, read_tensors
from edgeseg.training.loop import TrainingSchedule
from edgeseg.training.run import FederationRecord
from edgeseg.training.validation import EpochCost, EpochResult, Judgement, best_result, make_result

_LOG = logging.getLogger(__name__)
STATE = "federation.npz"
# How often a round is repeated of which too few sites sent anything usable.
ATTEMPTS = 3
# Seconds for which the server waits for sites that were cut off in the last round, before it ends.
LINGER_SECONDS = 30.0
# In which a site confirms that it goes; most are gone before their answer is.
FAREWELL_SECONDS = 10.0


class Group(Protocol):
    """The sites as the rounds see them."""

    ending: bool

    def members(self) -> list[Member]:
        """List the sites that take part now."""

    def wait_for_members(self, count: int, seconds: float) -> bool:
        """Wait until so many sites take part."""


@dataclass(frozen=True)
class Terms:
    """With how many sites and how much patience the rounds go on."""

    sites: int
    minimum: int
    """Sites without which no round counts: the average of a single one would be its own weights."""
    round_seconds: float = 3600.0
    wait_seconds: float = 600.0
    parallel: bool = True


@dataclass
class State:
    """Where a federation is; saved after every round."""

    weights: Weights
    ema: Weights
    best: Weights
    """The moving average of the best round."""
    history: list[EpochResult] = field(default_factory=list)
    taken: dict[str, SiteFacts] = field(default_factory=dict)
    """The sites of all rounds."""
    numbers: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Saved:
    plan: Plan
    history: tuple[EpochResult, ...]
    taken: tuple[SiteFacts, ...]
    numbers: dict[str, int]


def save_state(folder: Path, plan: Plan, state: State) -> None:
    """Save a federation, in one file that is whole or not at all."""
    saved = _Saved(plan, tuple(state.history), tuple(state.taken.values()), state.numbers)
    sets = {"weights": state.weights, "ema": state.ema, "best": state.best}
    arrays = {f"{name}-{number}": value for name, values in sets.items() for number, value in enumerate(values)}
    content = io.BytesIO()
    np.savez(content, said=np.frombuffer(write_message(saved).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
    write_bytes(folder / STATE, content.getvalue())


def load_state(folder: Path) -> tuple[Plan, State]:
    """Load what `save_state` saved."""
    try:
        with np.load(io.BytesIO(read_regular(folder / STATE, ARRAY_BYTES)), allow_pickle=False) as file:
            saved = from_plain(_Saved, parse_json(file["said"].tobytes().decode()))
            count = sum(name.startswith("ema-") for name in file.files)
            weights, ema, best = (
                [file[f"{name}-{number}"] for number in range(count)] for name in ("weights", "ema", "best")
            )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise RunError(
            f"Expected an interrupted federation in {folder}, got none that can be read.",
            "Leave out --resume, or begin again with --overwrite.",
        ) from error
    taken = {facts.site: facts for facts in saved.taken}
    return saved.plan, State(weights, ema, best, list(saved.history), taken, dict(saved.numbers))


class Coordinator:
    """Runs the rounds over whatever sites are there."""

    def __init__(self, plan: Plan, state: State, group: Group, terms: Terms, shapes: Shapes, folder: Path) -> None:
        self.plan, self.state = plan, state
        self._group, self._terms, self._shapes, self._folder = group, terms, shapes, folder
        proximal = plan.course.proximal
        self._strategy = FedProx(proximal_mu=proximal) if proximal else FedAvg()
        self._schedule = TrainingSchedule(plan.course.rounds, plan.options.rate, patience=plan.options.patience)

    def run(self) -> None:
        """Run all rounds that are left."""
        state = self.state
        for number in range(len(state.history) + 1, self.plan.course.rounds + 1):
            if self._schedule.stops_early(state.history):
                break
            start = perf_counter()
            updates = self._train(number)
            cost = self._average(number, updates)
            judged, sites = self._judge(number), len(updates)
            row = make_result(number, cost, judged, max(0.0, perf_counter() - start - cost.seconds))
            state.history.append(row)
            if best_result(state.history, self._schedule.window) is row:
                state.best = state.ema
            save_state(self._folder, self.plan, state)
            _LOG.info(
                "Round %d of %d: %d sites, loss %.3f, validation Dice %.3f.",
                number,
                self.plan.course.rounds,
                sites,
                row.loss,
                row.validation_dice,
            )

    @property
    def best(self) -> EpochResult:
        """The best round."""
        return best_result(self.state.history, self._schedule.window)

    def _train(self, number: int) -> list[tuple[Member, FitRes]]:
        """Let the sites train a round, and return what is usable of at least the least number of them."""
        ins = FitIns(ndarrays_to_parameters([*self.state.weights, *self.state.ema]), self._configure(number))
        for _ in range(ATTEMPTS):
            members = self._gather(number)
            answers = self._ask(members, lambda proxy: proxy.fit(ins, self._terms.round_seconds, number))
            usable = [
                (member, answer)
                for member, answer in zip(members, answers, strict=True)
                if self._is_usable(member, answer)
            ]
            if len(usable) >= self._terms.minimum:
                return usable
        raise self._too_few(number, f"usable weights of fewer, {ATTEMPTS} times")

    def _configure(self, number: int) -> dict[str, Any]:
        return {"plan": write_message(self.plan), "round": number}

    def _gather(self, number: int) -> list[Member]:
        terms = self._terms
        if not self._group.wait_for_members(terms.minimum, terms.wait_seconds):
            raise self._too_few(number, f"{len(self._group.members())} within {terms.wait_seconds:.0f} s")
        return self._group.members()

    def _too_few(self, number: int, got: str) -> TrainingError:
        return TrainingError(
            f"Expected {self._terms.minimum} sites or more for round {number} of {self.plan.course.rounds}, got {got}.",
            f"What {number - 1} rounds gave is kept; go on with the same command and --resume.",
        )

    def _ask(self, members: Sequence[Member], ask: Callable[[Any], Any]) -> list[Any]:
        """Ask all sites at once; who does not answer gives None."""
        pool = ThreadPoolExecutor(max_workers=len(members) if self._terms.parallel else 1)
        try:
            futures = [pool.submit(ask, member.proxy) for member in members]
            wait(futures)
        finally:
            # not waited for: after an interruption they end with their connections
            pool.shutdown(wait=False, cancel_futures=True)
        answers = []
        for member, future in zip(members, futures, strict=True):
            error = future.exception()
            # a site that is let go leaves without waiting for the end of its answer
            if error is not None and not self._group.ending:
                _LOG.warning("Site %d is left out: it did not answer.", member.number)
                _LOG.debug("%s: %s", type(error).__name__, to_one_line(error))
            answers.append(None if error is not None else future.result())
        return answers

    def _is_usable(self, member: Member, answer: Any) -> bool:
        """Say whether a site's weights can be averaged, and print why not."""
        if answer is None:
            return False
        if answer.status.code != Code.OK:
            _LOG.warning("Site %d is left out of this round: its training diverged.", member.number)
            return False
        try:
            read_tensors(answer.parameters.tensors, self._shapes * 2)
            for name in ("loss", "learning_rate", "seconds", "waiting"):
                _read_figure(answer.metrics, name, math.inf)
        except ValueError as error:
            _LOG.warning("Site %d is left out of this round: it sent %s.", member.number, to_one_line(error, 80))
            return False
        # what a site weighs was settled when it joined
        answer.num_examples = member.facts.train
        return True

    def _average(self, number: int, updates: Sequence[tuple[Member, FitRes]]) -> EpochCost:
        """Average weights and figures over the sites, weighted by their training cases."""
        averaged, _ = self._strategy.aggregate_fit(number, [(member.proxy, answer) for member, answer in updates], [])
        values = [np.asarray(value, np.float32) for value in parameters_to_ndarrays(averaged)]
        if not all(np.isfinite(value).all() for value in values):
            raise TrainingError(
                f"Expected finite weights after round {number}, got an average that overflows.",
                "A site sends far too large numbers; go on without it with --resume.",
            )
        half = len(self._shapes)
        self.state.weights, self.state.ema = values[:half], values[half:]
        self.state.taken.update({member.facts.site: member.facts for member, _ in updates})
        cases = [member.facts.train for member, _ in updates]

        def average(name: str) -> float:
            return float(
                np.average([_read_figure(answer.metrics, name, math.inf) for _, answer in updates], weights=cases)
            )

        return EpochCost(average("loss"), average("learning_rate"), average("seconds"), average("waiting"))

    def _judge(self, number: int) -> Judgement:
        """Let the sites measure the average, weighted by their validation cases."""
        config = {**self._configure(number), TASK: JUDGE}
        ins = EvaluateIns(ndarrays_to_parameters(self.state.ema), config)
        members = self._group.members()
        if not members:
            return Judgement(0.0)
        answers = self._ask(members, lambda proxy: proxy.evaluate(ins, self._terms.round_seconds, number))
        told = [
            (member.facts.validation, answer.metrics)
            for member, answer in zip(members, answers, strict=True)
            if answer is not None
        ]
        dice, *aucs = (_average_known(told, name) for name in ("dice", "finding_auc", "frame_class_auc"))
        return Judgement(dice or 0.0, *aucs)

    def describe(self, at_site: bool) -> FederationRecord:
        """Describe the federation for a run."""
        taken, course = self.state.taken.values(), self.plan.course
        return FederationRecord(
            len(taken),
            sum(facts.train for facts in taken),
            len(self.state.history),
            course.local_epochs,
            course.proximal,
            course.batch_norm,
            hash_together(facts.fingerprint for facts in taken),
            at_site,
        )

    def hand_out(self) -> None:
        """Send the final weights to all sites, and let them go."""
        absent = len(self.state.taken) - len(self._group.members())
        if absent > 0:
            self._group.wait_for_members(len(self.state.taken), min(LINGER_SECONDS, self._terms.wait_seconds))
        members = self._group.members()
        if not members:
            return
        rounds = Rounds(tuple(self.state.history), self.describe(at_site=True))
        config = {**self._configure(self.best.epoch), TASK: KEEP, "rounds": write_message(rounds)}
        ins = EvaluateIns(ndarrays_to_parameters(self.state.best), config)
        kept = self._ask(members, lambda proxy: proxy.evaluate(ins, self._terms.round_seconds, 0))
        self._group.ending = True
        self._ask(
            [member for member, answer in zip(members, kept, strict=True) if answer is not None],
            lambda proxy: proxy.reconnect(ReconnectIns(None), FAREWELL_SECONDS, 0),
        )


def _read_figure(metrics: Any, name: str, most: float) -> float:
    """Read a figure of a peer.

    Raises:
        ValueError: There is none, or it is no number from 0 on.
    """
    value = metrics.get(name)
    if not _is_figure(value, most):
        raise ValueError(f"no usable figure for {name}")
    return float(value)


def _is_figure(value: object, most: float) -> bool:
    return isinstance(value, (int, float)) and 0.0 <= value <= most and math.isfinite(value)


def _average_known(told: Sequence[tuple[int, Any]], name: str) -> float | None:
    """Average a figure over the sites that told it; one that is no share of 1 is left out."""
    known = [(cases, metrics[name]) for cases, metrics in told if _is_figure(metrics.get(name), 1.0)]
    if not known:
        return None
    return float(np.average([value for _, value in known], weights=[cases for cases, _ in known]))
